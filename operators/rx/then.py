"""One stage after another, in one observable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from wakestream.operators.model.faults import require_observable, short_repr
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    ForwardingObserver,
    LightObservable,
    SerialDisposable,
)

T = TypeVar("T")
U = TypeVar("U")
Stage = Callable[[Any], Observable[T]]
_NOTHING = object()


def then(*following: Stage[U]) -> Callable[[Observable[T]], Observable[T | U]]:
    """Pass every item on; when the source completes, go on with what the first of `following` makes of its last item.

    When that completes, the second goes on with its last item, and so forth. A stage's progress and its result thus
    travel together: its last item is its result. A stage without items ends the whole; one that returns no observable
    fails it with `WrongReturn`. `TypeError` where a stage is no function.
    """
    for place, stage in enumerate(following, 1):
        if not callable(stage):
            raise TypeError(f"then: stage {place} is {short_repr(stage)}, which is no function")

    def operator(source: Observable[T]) -> Observable[T | U]:
        def subscribe(
            observer: abc.ObserverBase[T | U], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return _Chain(following, observer, scheduler).start(source)

        return LightObservable(subscribe)

    return operator


class _Chain(ForwardingObserver[Any]):
    """Where one subscription is in its chain: the stages left, and the last item of the present one."""

    __slots__ = ("last", "left", "present", "scheduler")

    def __init__(
        self, following: tuple[Stage[Any], ...], observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None
    ) -> None:
        super().__init__(observer)
        self.left, self.scheduler = following, scheduler
        self.last: Any = _NOTHING
        self.present = SerialDisposable()

    def start(self, source: Observable[Any]) -> abc.DisposableBase:
        return CompositeDisposable(source.subscribe(self, scheduler=self.scheduler), self.present)

    def on_next(self, value: Any) -> None:
        self.last = value
        self.observer.on_next(value)

    def on_completed(self) -> None:
        if self.last is _NOTHING or not self.left:
            self.observer.on_completed()
            return
        stage, self.left = self.left[0], self.left[1:]
        before, self.last = self.last, _NOTHING
        try:
            after = require_observable(stage(before), stage, "then")
        except Exception as error:  # a stage that cannot even be built fails like one that ran
            self.observer.on_error(error)
        else:
            here = SerialDisposable()
            self.present.disposable = here  # stands first: a stage that ends at once goes on before it is held
            here.disposable = after.subscribe(self, scheduler=self.scheduler)
