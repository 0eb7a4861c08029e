"""Start the GPU once for many small jobs: they wait on this machine until there are N of them, or until a deadline.

python examples/batch.py AUDIO VIDEO...        (N and the deadline in seconds: BATCH_SIZE, BATCH_WITHIN)
"""

import argparse
import sys
from pathlib import Path

from reactivex import Observable

from wakestream import Barrier, Build, JobEvent, Note, Stages, new_job, pipeline, run_jobs, setting, then


def batched(size: int, within: float) -> Build:
    """The standard stages behind a barrier that all jobs share. The GPU is not started before it opens."""
    batch = Barrier(size, within)

    @pipeline
    def build(stages: Stages) -> Observable[JobEvent]:
        ready: Observable[JobEvent] = batch.wait().map(lambda at: Note(f"{at.state}: {at.count} of {at.size} jobs"))
        return ready.pipe(then(lambda _: stages.standard()))

    return build


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    given = parser.parse_args()
    jobs = [new_job(video, given.audio, Path(f"{video.stem}.synced.mp4")) for video in given.videos]
    sys.exit(run_jobs(jobs, batched(setting("BATCH_SIZE", 5), setting("BATCH_WITHIN", 600.0))))
