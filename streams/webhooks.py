"""Webhooks that are to be sent: what is journaled of one, and how long and how often it is posted. Pure."""

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
from wakestream.streams.protocol.structs import Frozen

LASTS: Final = 24 * 3600.0
"""Seconds after the event for which its webhook is tried again."""

MAX_PENDING: Final = 10_000
"""Webhooks that may be pending; for one more, the oldest is given up."""

AGAIN: Final = Backoff(initial=1.0, max_delay=600.0)
"""The pauses between attempts: from a second to ten minutes."""


class WebhookOwed(Frozen, frozen=True):
    """A webhook with the content `news` is pending. `job` is what it is about, `delivery` its id at each attempt."""

    job: str
    delivery: str
    at: float
    news: dict[str, Any]


class WebhookSettled(Frozen, frozen=True):
    """The receiver accepted the webhook, or it is given up for this `reason`."""

    delivery: str
    reason: str = ""


Post = Callable[[WebhookOwed], Awaitable[None]]


def delivery_id(about: str, at: float) -> str:
    """The name of a delivery: the same at each attempt, also after a restart."""
    return hashlib.sha256(f"{about}\n{at!r}".encode(errors="surrogatepass")).hexdigest()[:32]


def delivery(
    post: Post, told: WebhookOwed, now: float, random: Random, turns: Limiter, backoff: Backoff = AGAIN
) -> Observable[Any]:
    """Post until it is taken: an item and the end, or the last error. `now` is UNIX seconds.

    Only errors that can be mended are tried again. An attempt is made in any case, also when the day was over before
    this program started.
    """
    left = max(0.0, told.at + LASTS - now)
    attempt: Observable[Any] = from_async(lambda: post(told), f"webhook of {told.job}")
    return attempt.pipe(turns.limit(), retry_backoff(replace(backoff, max_elapsed=left, retry_on=is_retryable), random))
