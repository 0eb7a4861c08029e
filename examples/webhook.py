"""The standard pipeline, and a webhook that is told how each job ended.

WEBHOOK_URL=http://127.0.0.1:9000/done python examples/webhook.py VIDEO AUDIO RESULT
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from reactivex import Observable

from wakestream.adapters.run_jobs import new_job, run_jobs
from wakestream.operators import (
    Job,
    JobEvent,
    Note,
    Policy,
    WakestreamError,
    emit,
    from_async,
    is_outcome,
    retry_backoff,
    then,
)
from wakestream.streams import Build, World, job_pipeline, plain_event

Tell = Callable[[Mapping[str, Any]], Awaitable[None]]


class WebhookDown(WakestreamError):
    """Nobody took the news."""

    code = "webhook_down"
    retryable = True


def with_webhook(tell: Tell) -> Build:
    """A job is over when its webhook was told, or could not be in `policy.call`'s attempts: that fails no job."""

    def build(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        def last(event: JobEvent) -> Observable[JobEvent]:
            if not is_outcome(event):
                return emit(event)
            news = {"job": job.id, **plain_event(event)}
            telling = from_async(lambda: world.effects.call("webhook", news, lambda: tell(news)), "webhook")
            told: Observable[JobEvent] = telling.pipe(retry_backoff(policy.call, world.random)).map(
                lambda _: Note("the webhook was told")
            )
            safe = told.catch(lambda error, _: emit(Note(f"the webhook was not told: {error}")))
            return safe.pipe(then(lambda _: emit(event)))

        return job_pipeline(job, world, policy, cancel).flat_map(last)

    return build


async def post(url: str, news: Mapping[str, Any]) -> None:
    """POST the news as JSON. The address stays out of errors and recordings: such addresses often hold a secret."""
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, json=news) as response:
            status = response.status
    except (aiohttp.ClientError, TimeoutError) as error:
        raise WebhookDown(f"no answer ({type(error).__name__})") from None
    if status >= 400:
        raise WebhookDown(f"HTTP {status}")


if __name__ == "__main__":
    video, audio, result = map(Path, sys.argv[1:4])
    hook = os.environ["WEBHOOK_URL"]
    sys.exit(run_jobs([new_job(video, audio, result)], with_webhook(lambda news: post(hook, news))))
