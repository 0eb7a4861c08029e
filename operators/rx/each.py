"""A stage, with the operators that surround each of its calls: its timeouts, its retries and its polling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from reactivex import Observable

T = TypeVar("T")
Operator = Callable[[Observable[Any]], Observable[Any]]
Effect = Callable[[Any, Operator], Observable[T]]
"""A stage without times and retries: `effect(before, around)` passes each of its calls through `around`."""


@dataclass(frozen=True, slots=True)
class Stage(Generic[T]):
    """A function from the last item of the stage before it to an observable; made by `each`, for use in `then`.

    Attributes:
        effect: What the stage does.
        around: What surrounds each of its calls.
    """

    effect: Effect[T]
    around: Operator

    def __call__(self, before: Any) -> Observable[T]:
        """Return the stage's observable, after `before`."""
        return self.effect(before, self.around)

    def each(self, *operators: Operator) -> Stage[T]:
        """Return the same stage with other operators around each of its calls.

        Example:
            >>> then(stages.online, stages.dedupe, stages.upload.each(timeout(5.0, "transfer")))

        Args:
            operators: From the inside outwards, as in `pipe`.
        """
        return each(self.effect, *operators)


def each(effect: Effect[T], *operators: Operator) -> Stage[T]:
    """Surround each call of a stage with operators.

    A stage may make several calls, such as one for each file that it sends. Each of them has timeouts and retries of
    its own.

    Example:
        >>> each(dedupe(workers, fingerprints), retry_backoff(policy.call, random))

    Args:
        effect: The stage without times and retries.
        operators: From the inside outwards, as in `pipe`.

    Returns:
        The stage.
    """
    return Stage(effect, lambda source: source.pipe(*operators))
