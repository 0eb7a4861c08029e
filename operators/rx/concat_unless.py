"""Continue with a second observable, unless the first one gave the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from reactivex import Observable

from wakestream.operators.model.user_code import require_observables
from wakestream.operators.rx.core.observable import FollowingObserver, operator_with

T = TypeVar("T")


def concat_unless(answer: Callable[[T], bool], rest: Observable[T]) -> Callable[[Observable[T]], Observable[T]]:
    """Like `concat`, but `rest` is left out if an item of the source satisfies `answer`.

    Example:
        >>> cached.pipe(concat_unless(lambda event: isinstance(event, Done), render))

    Args:
        answer: The predicate. If it raises, the result fails.
        rest: The observable to continue with.

    Returns:
        An operator function: the result has the source's items, then those of `rest`.

    Raises:
        TypeError: `rest` is not an observable.
    """
    require_observables("concat_unless", rest)

    return operator_with(_First, answer, rest)


@dataclass(slots=True, eq=False, repr=False)
class _First(FollowingObserver[Any]):
    """The source's observer: remembers whether the answer came."""

    answer: Callable[[Any], bool]
    rest: Observable[Any]
    answered: bool = False

    def on_next(self, value: Any) -> None:
        try:
            self.answered = self.answered or self.answer(value)
        except Exception as error:  # raised by the predicate: `rest` must not follow
            self.answered = True
            self.observer.on_error(error)
        else:
            self.observer.on_next(value)

    def on_completed(self) -> None:
        if self.answered:
            self.observer.on_completed()
        else:
            self.follow(self.rest, self.observer)
