"""Webhooks about ended jobs: their content, and how long and how often they are posted. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any, Final

from reactivex import Observable

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import is_retryable
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.limiter import Limiter
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.streams.outbox import facts as f

LASTS: Final = 24 * 3600.0
"""Seconds after the job's end for which its webhook is tried again."""

MAX_PENDING: Final = 10_000
"""Webhooks that may be pending; for one more, the oldest is given up."""

AGAIN: Final = Backoff(initial=1.0, max_delay=600.0)
"""The pauses between attempts: from a second to ten minutes."""

EVENTS: Final = {"done": "job.done", "failed": "job.failed", "timed_out": "job.failed"}
"""The webhook event of each outcome; a cancelled job has none."""

Post = Callable[[f.WebhookOwed], Awaitable[None]]


def pending(accepted: f.JobAccepted, ended: f.JobEnded, sent: int) -> f.WebhookOwed | None:
    """The webhook that this end makes due, if any. `sent` is how many bytes went to workers."""
    event = EVENTS.get(ended.outcome)
    if event is None:
        return None
    files = accepted.files
    news: dict[str, Any] = {
        "id": accepted.job,
        "event": event,
        "outcome": ended.outcome,
        "files": {"output": accepted.output},
        "times": {"accepted": accepted.at, "ended": ended.at},
        "bytes": {"sent": sent, "result": ended.size},
    }
    if accepted.is_pair:
        news["files"] = {**{name: file.path for name, file in files.items()}, **news["files"]}
        news["bytes"] = {**{name: file.size for name, file in files.items()}, **news["bytes"]}
    else:  # an input may have any name, also "output" or "sent"
        inputs = {name: {"path": file.path, "bytes": file.size} for name, file in files.items()}
        news |= {"kind": accepted.task_type, "inputs": inputs, "params": accepted.params, "outputs": accepted.outputs}
    if ended.outcome != "done":
        news |= {"why": ended.why or f"{ended.stage}: nothing within {ended.seconds:g} s", "code": ended.code}
    return f.WebhookOwed(accepted.job, delivery_id(accepted.job, ended.at), ended.at, news)


def delivery_id(job: str, at: float) -> str:
    """The name of a delivery: the same at each attempt, also after a restart."""
    return hashlib.sha256(f"{job}\n{at!r}".encode(errors="surrogatepass")).hexdigest()[:32]


def delivery(
    post: Post, told: f.WebhookOwed, now: float, random: Random, turns: Limiter, backoff: Backoff = AGAIN
) -> Observable[Any]:
    """Post until it is taken: an item and the end, or the last error. `now` is UNIX seconds.

    Only errors that can be mended are tried again. An attempt is made in any case, also when the day was over before
    this program started.
    """
    left = max(0.0, told.at + LASTS - now)
    attempt: Observable[Any] = from_async(lambda: post(told), f"webhook of {told.job}")
    return attempt.pipe(turns.limit(), retry_backoff(replace(backoff, max_elapsed=left, retry_on=is_retryable), random))
