"""Something that may be the answer already, and else the long way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from wakestream.operators.model.faults import require_observables
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    ForwardingObserver,
    LightObservable,
    SerialDisposable,
)

T = TypeVar("T")


def concat_unless(answer: Callable[[T], bool], rest: Observable[T]) -> Callable[[Observable[T]], Observable[T]]:
    """The source, and after it `rest`, unless one of the source's items is an `answer`.

    What `answer` raises ends it.
    """
    require_observables("concat_unless", rest)

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            first = _First(observer, answer, rest, scheduler)
            return CompositeDisposable(source.subscribe(first, scheduler=scheduler), first.rest)

        return LightObservable(subscribe)

    return operator


class _First(ForwardingObserver[Any]):
    """Watches for the answer."""

    __slots__ = ("answer", "answered", "following", "rest", "scheduler")

    def __init__(
        self,
        observer: abc.ObserverBase[Any],
        answer: Callable[[Any], bool],
        following: Observable[Any],
        scheduler: abc.SchedulerBase | None,
    ) -> None:
        super().__init__(observer)
        self.answer, self.following, self.scheduler = answer, following, scheduler
        self.answered = False
        self.rest = SerialDisposable()

    def on_next(self, value: Any) -> None:
        try:
            self.answered = self.answered or self.answer(value)
        except Exception as error:  # the rule is broken: neither the rest nor anything else follows
            self.answered = True
            self.observer.on_error(error)
        else:
            self.observer.on_next(value)

    def on_completed(self) -> None:
        if self.answered:
            self.observer.on_completed()
            return
        here = SerialDisposable()
        self.rest.disposable = here  # stands first: what ends at once is let go of all the same
        here.disposable = self.following.subscribe(self.observer, scheduler=self.scheduler)
