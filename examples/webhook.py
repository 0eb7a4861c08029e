"""The standard pipeline, and a webhook that is told how each job ended.

WEBHOOK_URL=http://127.0.0.1:9000/done python examples/webhook.py VIDEO AUDIO RESULT
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from reactivex import Observable

from wakestream import Build, Job, JobEvent, Note, Outcome, Policy, World, job_pipeline, post_json, run_job, setting
from wakestream.operators import before_outcome, effect
from wakestream.streams import plain_event

Tell = Callable[[Mapping[str, Any]], Awaitable[None]]


def with_webhook(tell: Tell) -> Build:
    """A job is over when its webhook was told, or could not be in `policy.call`'s attempts: that fails no job."""

    def build(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        def inform(outcome: Outcome) -> Observable[JobEvent]:
            news = {"job": job.id, **plain_event(outcome)}
            told = effect("webhook", news, lambda: tell(news), world.effects, policy, world.random)
            return told.map(lambda _: Note("the webhook was told"))

        return job_pipeline(job, world, policy, cancel).pipe(before_outcome(inform))

    return build


if __name__ == "__main__":
    url = setting("WEBHOOK_URL")
    sys.exit(run_job(with_webhook(lambda news: post_json(url, news)), about=__doc__))
