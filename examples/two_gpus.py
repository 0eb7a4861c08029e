"""One job on two GPUs at once: the first that renders it wins, the others are cancelled.

GPU_URLS="http://gpu-a:8383 http://gpu-b:8383" python examples/two_gpus.py VIDEO AUDIO RESULT
"""

import sys
from dataclasses import replace

from reactivex import Observable

from wakestream import (
    Build,
    Granted,
    JobEvent,
    Note,
    Stages,
    first_success,
    pipeline,
    run_job,
    setting,
    stop_others,
    then,
)


def fastest_of(*urls: str) -> Build:
    """The standard pipeline, with the stages from `online` to `follow` running on each GPU at the same time."""

    @pipeline
    def build(stages: Stages) -> Observable[JobEvent]:
        def render(grant: Granted) -> Observable[JobEvent]:
            return stages.online(grant).pipe(then(stages.dedupe, stages.upload, stages.synthesize, stages.follow))

        def race(grant: Granted) -> Observable[JobEvent]:
            renders = [render(replace(grant, url=url)) for url in urls]
            first = first_success(*renders, dropped=lambda index, error: Note(f"{urls[index]} dropped out: {error}"))
            return first.pipe(stop_others(stages.job, stages.world.workers))

        return stages.submit().pipe(then(race, stages.download))

    return build


if __name__ == "__main__":
    sys.exit(run_job(fastest_of(*setting("GPU_URLS").split()), about=__doc__))
