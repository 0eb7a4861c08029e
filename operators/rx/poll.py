"""Ask again and again, each time only after the last answer. (`interval` with `flat_map` lets slow polls overlap.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reactivex import Observable, abc

from wakestream.operators.model.faults import require_observable
from wakestream.operators.rx.core.observable import CompositeDisposable, LightObservable, SerialDisposable
from wakestream.operators.rx.core.scheduler import clock

T = TypeVar("T")


def poll(ask: Callable[[], Observable[T]], every: float, until: Callable[[T], bool]) -> Observable[T]:
    """Subscribe to `ask()` at once, then `every` seconds after it completed, until an item satisfies `until`.

    Every answer is passed on, the last one included; an error of `ask` or `until` ends the polling.
    """

    def subscribe(observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        return _Poll(ask, every, until, observer, clock(scheduler)).start()

    return LightObservable(subscribe)


class _Poll:
    def __init__(
        self,
        ask: Callable[[], Observable[Any]],
        every: float,
        until: Callable[[Any], bool],
        observer: abc.ObserverBase[Any],
        time: abc.SchedulerBase,
    ) -> None:
        self.ask, self.every, self.until, self.observer, self.time = ask, every, until, observer, time
        self.asking = SerialDisposable()
        self.pause = SerialDisposable()
        self.done = False

    def start(self) -> abc.DisposableBase:
        self._ask()
        return CompositeDisposable(self.asking, self.pause)

    def _ask(self, *_: Any) -> None:
        try:
            answer = require_observable(self.ask(), self.ask, "poll")
        except Exception as error:  # a question that cannot be built fails like one that was asked
            self.observer.on_error(error)
            return
        self.asking.disposable = answer.subscribe(
            self._on_next, self.observer.on_error, self._on_completed, scheduler=self.time
        )

    def _on_next(self, item: Any) -> None:
        if self.done:
            return
        try:
            self.done = self.until(item)
        except Exception as error:  # an answer that cannot be judged ends the polling
            self.done = True
            self.observer.on_error(error)
            return
        self.observer.on_next(item)
        if self.done:
            self.observer.on_completed()

    def _on_completed(self) -> None:
        if not self.done:
            self.pause.disposable = self.time.schedule_relative(self.every, self._ask)
