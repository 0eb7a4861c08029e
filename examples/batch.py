"""Many small jobs, one wake: they wait on this machine until there are N of them, or until a deadline.

python examples/batch.py AUDIO VIDEO...        (N and the deadline in seconds: BATCH_SIZE, BATCH_WITHIN)
"""

import argparse
import sys
from pathlib import Path

from reactivex import Observable

from wakestream import Barrier, Build, JobEvent, Note, Stages, new_job, pipeline, run_jobs, setting, then


def batched(size: int, within: float) -> Build:
    """The standard stages behind a gate that all jobs share. Nobody wakes the GPU before it opens."""
    batch = Barrier(size, within)

    @pipeline
    def build(stages: Stages) -> Observable[JobEvent]:
        gate: Observable[JobEvent] = batch.wait().map(lambda now: Note(f"{now.state}: {now.count} of {now.size} jobs"))
        return gate.pipe(then(lambda _: stages.standard()))

    return build


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", type=Path)
    parser.add_argument("videos", type=Path, nargs="+")
    given = parser.parse_args()
    jobs = [new_job(video, given.audio, Path(f"{video.stem}.synced.mp4")) for video in given.videos]
    sys.exit(run_jobs(jobs, batched(setting("BATCH_SIZE", 5), setting("BATCH_WITHIN", 600.0))))
