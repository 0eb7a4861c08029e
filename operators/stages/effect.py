"""An effect of your own pipeline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from reactivex import Observable

from wakestream.operators.model.ports import Effects
from wakestream.operators.rx.from_async import from_async

T = TypeVar("T")


def effect(label: str, args: Mapping[str, Any], do: Callable[[], Awaitable[T]], effects: Effects) -> Observable[T]:
    """Run an effect and record it, as `own.LABEL`. A replay takes the result from the log and does not call `do`.

    Example:
        >>> effect("webhook", {"job": job.id}, lambda: post(job.id), world.effects)

    Args:
        label: The name of the effect.
        args: What it does, as JSON without secrets.
        do: The function that does it. Its result must be JSON without secrets.
        effects: `world.effects`.

    Returns:
        A cold observable of what `do()` returns.
    """
    return from_async(lambda: effects.call(label, args, do), label)
