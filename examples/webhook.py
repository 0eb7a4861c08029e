"""The standard pipeline, and a webhook that gets the outcome of each job.

WEBHOOK_URL=http://127.0.0.1:9000/done python examples/webhook.py VIDEO AUDIO RESULT
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from reactivex import Observable

from wakestream import Build, Job, JobEvent, Note, Outcome, Policy, World, job_pipeline, post_json, run_job, setting
from wakestream.operators import before_outcome, effect, retry_backoff
from wakestream.streams import plain_event

Post = Callable[[Mapping[str, Any]], Awaitable[None]]


def with_webhook(post: Post) -> Build:
    """A job ends after its webhook call. A call that fails after all retries does not fail the job."""

    def build(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        def call_webhook(outcome: Outcome) -> Observable[JobEvent]:
            news = {"job": job.id, **plain_event(outcome)}
            called = effect("webhook", news, lambda: post(news), world.effects).pipe(
                retry_backoff(policy.call, world.random)
            )
            return called.map(lambda _: Note("the webhook was told"))

        return job_pipeline(job, world, policy, cancel).pipe(before_outcome(call_webhook))

    return build


if __name__ == "__main__":
    url = setting("WEBHOOK_URL")
    sys.exit(run_job(with_webhook(lambda news: post_json(url, news)), about=__doc__))
