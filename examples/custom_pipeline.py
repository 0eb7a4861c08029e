"""A pipeline of your own: polls more often, and at the end writes a JSON file beside the result.

python examples/custom_pipeline.py VIDEO AUDIO RESULT
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from reactivex import Observable

from wakestream import Done, JobEvent, Stages, pipeline, run_job, then


@pipeline
def lively(stages: Stages) -> Observable[JobEvent]:
    """The standard stages with a shorter poll interval and one more stage at the end."""
    quick = stages.with_policy(replace(stages.policy, poll_every=0.2))

    def file_away(done: Done) -> Observable[JobEvent]:
        names = {name: path.name for name, path in stages.job.inputs.items()}
        note: dict[str, object] = {**names, "bytes": done.size}
        return stages.effect("note", note, lambda: write(done.path.with_suffix(".json"), note)).map(lambda _: done)

    return stages.submit().pipe(
        then(stages.online, stages.dedupe, stages.upload, stages.synthesize, quick.follow, stages.download, file_away)
    )


async def write(path: Path, note: dict[str, object]) -> None:
    """The effect, which a replay does not run."""
    path.write_text(json.dumps(note, indent=2))


if __name__ == "__main__":
    sys.exit(run_job(lively, about=__doc__))
