"""Choose the observable to follow by the type of the newest item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from reactivex import Observable

from wakestream.operators.model.user_code import require_observable
from wakestream.operators.rx.core.observable import FollowingObserver, ForwardingObserver, operator_with

U = TypeVar("U")
U_co = TypeVar("U_co", covariant=True)


class Cases(Protocol[U_co]):
    """Finds the function for a type of item; a dict from types to functions is one."""

    def get(self, kind: type, /) -> Callable[[Any], Observable[U_co] | None] | None:
        """The function that makes the branch for an item of `kind`, or None."""


def switch_by_type(cases: Cases[U]) -> Callable[[Observable[Any]], Observable[U]]:
    """Like `switch_map`, but each item's type chooses the function that makes the next branch.

    When the present branch completes, the result completes and the source is disposed. The source may thus be hot and
    endless.

    Example:
        >>> replies.pipe(switch_by_type({Accepted: on_accepted, Refused: on_refused}))

    Args:
        cases: A mapping from the exact type of an item to a function. The observable that the function returns
            replaces the branch that is followed; None keeps it. Items of other types are ignored. If a function
            raises, the result fails.

    Returns:
        An operator function: the result has the items of the branches.
    """

    return operator_with(_Switch, cases)


@dataclass(slots=True, eq=False, repr=False)
class _Switch(FollowingObserver[Any]):
    """The source's observer: knows which branch is followed in one subscription."""

    cases: Cases[Any]
    count: int = 0

    def on_next(self, value: Any) -> None:
        case = self.cases.get(type(value))
        if case is None:
            return
        try:
            made = case(value)
            branch = None if made is None else require_observable(made, case, "switch_by_type")
        except Exception as error:  # raised by the case
            self.end()
            self.observer.on_error(error)
        else:
            if branch is not None:
                self.count += 1
                self.follow(branch, _Branch(self.observer, self, self.count))

    def end(self) -> None:
        """Start no more branches: a source that emits while it is being subscribed cannot be disposed yet."""
        self.cases = {}

    def on_completed(self) -> None:
        if self.count == 0:
            self.observer.on_completed()


@dataclass(slots=True, eq=False, repr=False)
class _Branch(ForwardingObserver[Any]):
    """The observer of one branch; passes items on while it is the newest."""

    switch: _Switch
    number: int

    def on_next(self, value: Any) -> None:
        if self.number == self.switch.count:
            self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        if self.number == self.switch.count:
            self.switch.end()
            self.observer.on_error(error)

    def on_completed(self) -> None:
        if self.number == self.switch.count:
            self.switch.end()
            self.observer.on_completed()
