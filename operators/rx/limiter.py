"""Only so many at once: the others wait for their turn, the most urgent first."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

from reactivex import Observable, abc

from wakestream.operators.rx.core.observable import ForwardingObserver, LightObservable, SerialDisposable
from wakestream.operators.rx.core.scheduler import clock

T = TypeVar("T")


class Limiter:
    """At most `limit` sources are subscribed at a time, of all that go through `hold`. Shared by all.

    Who waits is served by priority, the higher first, and among equals in the order of coming. `ValueError` unless
    `limit` is at least 1.
    """

    def __init__(self, max_concurrent: int) -> None:
        if max_concurrent < 1:
            raise ValueError("a limit on turns is at least 1")
        self.max_concurrent = max_concurrent
        self.running = 0
        self._waiting: list[tuple[int, int, _Turn]] = []
        self._numbers = count()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def limit(
        self, priority: int = 0, on_wait: Callable[[int], T | None] = lambda _: None
    ) -> Callable[[Observable[T]], Observable[T]]:
        """The source, once it is its turn; the turn is over when the source ends or is let go of.

        A free turn is taken within the subscription. Else `on_wait(how many come before)` is emitted, unless None.
        """

        def operator(source: Observable[T]) -> Observable[T]:
            def subscribe(
                observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
            ) -> abc.DisposableBase:
                turn = _Turn(observer, source, self, clock(scheduler))
                if self.running < self.max_concurrent:
                    self.running += 1
                    turn.begin()
                else:
                    turn.wait(priority, on_wait)
                return turn

            return LightObservable(subscribe)

        return operator

    def _queue(self, turn: _Turn, priority: int) -> int:
        turn.place = (-priority, next(self._numbers))
        insort(self._waiting, (*turn.place, turn))
        return bisect_left(self._waiting, turn.place)

    def _leave(self, turn: _Turn) -> None:
        del self._waiting[bisect_left(self._waiting, turn.place)]

    def _over(self) -> None:
        if self._waiting:  # the turn changes hands
            self._waiting.pop(0)[2].called()
        else:
            self.running -= 1


class _Turn(ForwardingObserver[Any], abc.DisposableBase):
    """One subscription: it waits, has its turn, and has had it."""

    __slots__ = ("place", "running", "source", "starting", "state", "time", "turns")

    def __init__(
        self, observer: abc.ObserverBase[Any], source: Observable[Any], turns: Limiter, time: abc.SchedulerBase
    ) -> None:
        super().__init__(observer)
        self.source, self.turns, self.time = source, turns, time
        self.running, self.starting = SerialDisposable(), SerialDisposable()
        self.place: tuple[int, int] = (0, 0)
        self.state = "new"

    def wait(self, priority: int, on_wait: Callable[[int], Any]) -> None:
        self.state = "waits"
        before = self.turns._queue(self, priority)
        try:
            item = on_wait(before)
        except Exception:
            self.over()
            raise
        if item is not None:
            self.observer.on_next(item)

    def called(self) -> None:
        # In a turn of the loop of its own: whoever hands over is in the middle of its own end.
        self.state = "has"
        self.starting.disposable = self.time.schedule(lambda *_: self.begin())

    def begin(self) -> None:
        self.state = "has"
        self.running.disposable = self.source.subscribe(self, scheduler=self.time)

    def over(self) -> None:
        before, self.state = self.state, "had"
        if before == "has":
            self.turns._over()
        elif before == "waits":
            self.turns._leave(self)

    def on_error(self, error: Exception) -> None:
        self.over()
        self.observer.on_error(error)

    def on_completed(self) -> None:
        self.over()  # first: what follows must not hold this turn
        self.observer.on_completed()

    def dispose(self) -> None:
        self.starting.dispose()
        self.running.dispose()
        self.over()
