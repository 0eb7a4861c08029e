"""What a pipeline of your own does to the world besides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, TypeVar

from reactivex import Observable

from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Effects
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.retry_backoff import retry_backoff

T = TypeVar("T")


def effect(
    label: str,
    args: Mapping[str, Any],
    do: Callable[[], Awaitable[T]],
    effects: Effects,
    policy: Policy,
    random: Random,
) -> Observable[T]:
    """What `do()` returns, on the record as `own.LABEL`; a replay takes it from the log and does not call `do`.

    `args` and the answer are JSON and hold no secret. A mendable error is tried again as `policy.call` says.
    """
    return from_async(lambda: effects.call(label, args, do), label).pipe(retry_backoff(policy.call, random))
