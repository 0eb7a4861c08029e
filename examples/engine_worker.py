"""Another worker protocol: the HTTP API of the HeyGem / Duix engine, without wakestream's worker.

ENGINE_URL=http://gpu:8383 ENGINE_FOLDER=/mnt/engine/temp python examples/engine_worker.py VIDEO AUDIO RESULT
"""

import sys
from dataclasses import replace
from pathlib import Path

from reactivex import Observable

from wakestream import Backoff, JobEvent, Stages, Submitted, pipeline, run_job, setting, then, timeout
from wakestream.adapters.client.heygem_engine import EasyEngine
from wakestream.operators import Stalled, each_item, is_retryable

STALL = 900.0
"""Seconds without progress after which the engine counts as hung; it may hang at 5 % and at 20 %."""


@pipeline
def beside_the_engine(stages: Stages) -> Observable[JobEvent]:
    """The standard stages, with long retries for a busy engine and a limit for a hung one."""
    asking = Backoff(initial=2.0, max_delay=10.0, max_elapsed=stages.policy.execution, retry_on=is_retryable)
    patient = stages.with_policy(replace(stages.policy, call=asking))

    def follow(task: Submitted) -> Observable[JobEvent]:
        return stages.follow(task).pipe(timeout(STALL, "engine", reset=each_item, error=Stalled))

    return stages.submit().pipe(
        then(stages.online, stages.dedupe, stages.upload, patient.synthesize, follow, stages.download)
    )


if __name__ == "__main__":
    engine = EasyEngine(setting("ENGINE_URL"), Path(setting("ENGINE_FOLDER")))
    sys.exit(run_job(beside_the_engine, about=__doc__, workers=engine))
