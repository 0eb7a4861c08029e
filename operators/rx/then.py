"""Chain stages in one observable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reactivex import Observable

from wakestream.operators.model.user_code import require_observable, short_repr
from wakestream.operators.rx.core.observable import FollowingObserver, operator_with

T = TypeVar("T")
U = TypeVar("U")
Stage = Callable[[Any], Observable[T]]
_NOTHING = object()


def then(*stages: Stage[U]) -> Callable[[Observable[T]], Observable[T | U]]:
    """Run stages one after another: each starts from the last item of the one before it.

    All items are passed on, so the progress and the result of a stage travel together: its last item is its result.
    If a stage has no items, the result completes and the rest of the stages are left out.

    Example:
        >>> stages.submit().pipe(then(stages.online, stages.dedupe, stages.upload))

    Args:
        stages: Functions from an item to an observable. One that returns something else makes the result fail with
            `WrongReturn`.

    Returns:
        An operator function: the result has the items of the source and of all stages.

    Raises:
        TypeError: A stage is not a function.
    """
    for number, stage in enumerate(stages, 1):
        if not callable(stage):
            raise TypeError(f"then: stage {number} is {short_repr(stage)}, which is no function")

    return operator_with(_Chain, stages)


def then_by_type(stages: Mapping[type, Sequence[Stage[U]]]) -> Callable[[Observable[T]], Observable[T | U]]:
    """Like `then`, but the type of the last item chooses the stages that follow; after these again, until it has none.

    Example:
        >>> stages.submit(stages.depot).pipe(then_by_type({Stored: [stages.delivered], Delivered: [stages.fetch]}))

    Args:
        stages: The stages that follow, by the exact type of the last item.

    Returns:
        An operator function: the result has the items of the source and of all stages.
    """
    return operator_with(_Chain, (), stages)


@dataclass(slots=True, eq=False, repr=False)
class _Chain(FollowingObserver[Any]):
    """The state of one subscription: the stages that are left, and the last item of the present one."""

    left: Sequence[Stage[Any]]
    by_type: Mapping[type, Sequence[Stage[Any]]] = field(default_factory=dict)
    last: Any = _NOTHING

    def on_next(self, value: Any) -> None:
        self.last = value
        self.observer.on_next(value)

    def on_completed(self) -> None:
        left = self.left or self.by_type.get(type(self.last), ())
        if self.last is _NOTHING or not left:
            self.observer.on_completed()
            return
        stage, self.left = left[0], left[1:]
        before, self.last = self.last, _NOTHING
        try:
            after = require_observable(stage(before), stage, "then")
        except Exception as error:  # raised by the stage function
            self.observer.on_error(error)
        else:
            self.follow(after, self)
