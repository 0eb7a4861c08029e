"""The standard pipeline with the cost of the GPU since its start, from the hub's power events.

PER_HOUR=2.40 python examples/cost_meter.py VIDEO AUDIO RESULT
"""

import sys
from typing import Any

from reactivex import Observable

from wakestream import Build, Cost, Job, JobEvent, Note, Policy, World, costs, job_pipeline, run_job, setting


def metered(per_hour: float) -> Build:
    """The standard pipeline, with a note every 30 seconds and a last one just before the outcome."""

    def build(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        power = world.hub.replies(job)
        return job_pipeline(job, world, policy, cancel).pipe(costs(power, per_hour, reading))

    return build


def reading(cost: Cost) -> Note:
    """The note: a sentence for people, numbers for programs."""
    text = f"the GPU has been on for {cost.seconds} s: {cost.money:.2f}"
    return Note(text, {"seconds": cost.seconds, "cost": cost.money})


if __name__ == "__main__":
    sys.exit(run_job(metered(setting("PER_HOUR", 2.40)), about=__doc__))
