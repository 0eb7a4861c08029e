"""Observables and disposables that weigh little: a waiting job holds some fifteen of each, and there are many jobs.

The library's own take a lock apiece and guard against other threads. Everything of ours happens on one loop, so none of
that is needed; a lean subscription takes a fifth of the memory. The rules are the same: nothing is emitted after the
end, the end lets go of the source, and a source that ends while it is being subscribed is let go of at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from reactivex import Observable, abc, typing

T = TypeVar("T")
U = TypeVar("U")
Subscribe = Callable[[abc.ObserverBase[T], abc.SchedulerBase | None], abc.DisposableBase]

_LOCK = Observable[Any]().lock


class LightObservable(Observable[T]):
    """An observable made of a `subscribe(observer, scheduler) -> disposable` function; not for use across threads."""

    __slots__ = ("_begin",)

    lock = _LOCK

    def __init__(self, subscribe: Subscribe[T]) -> None:  # the library's would make a lock for each
        self._begin = subscribe

    def subscribe(
        self,
        on_next: abc.ObserverBase[T] | abc.OnNext[T] | None = None,
        on_error: abc.OnError | None = None,
        on_completed: abc.OnCompleted | None = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        """As the library's `subscribe`. An error that nobody handles is raised where it happens."""
        observer = on_next if hasattr(on_next, "on_next") else _Functions(on_next, on_error, on_completed)
        subscription: _Subscription[T] = _Subscription(observer)
        subscription.holds(self.begin(subscription, scheduler))
        return subscription

    def begin(self, subscription: Any, scheduler: abc.SchedulerBase | None) -> abc.DisposableBase:
        """Let the source speak to a subscription that is there already, see `along`."""
        try:
            return self._begin(subscription, scheduler)
        except Exception as error:
            if subscription.stopped:
                raise
            subscription.on_error(error)
            return SerialDisposable()

    if not TYPE_CHECKING:  # for its types the library has a page of overloads

        def pipe(self, *operators: Callable[[Any], Any]) -> Any:
            """As the library's, which makes a function of the operators first."""
            made = self
            for operator in operators:
                made = operator(made)
            return made

    def map(self, mapper: typing.Mapper[T, U]) -> Observable[U]:
        """As the library's."""
        return _lean(super().map(mapper))

    def distinct_until_changed(
        self, key_mapper: typing.Mapper[Any, Any] | None = None, comparer: typing.Comparer[Any] | None = None
    ) -> Observable[Any]:
        """As the library's."""
        return _lean(super().distinct_until_changed(key_mapper, comparer))

    def take_while(self, predicate: typing.Predicate[Any], inclusive: bool = False) -> Observable[Any]:
        """As the library's."""
        return _lean(super().take_while(predicate, inclusive))


def _lean(observable: Observable[U]) -> Observable[U]:
    """Without the trampoline of the library, which costs more than the work: for what only waits for its source."""
    return LightObservable(observable._subscribe_core)


def subscribe_through(
    source: Observable[T], observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None
) -> abc.DisposableBase:
    """Subscribe an operator's own `observer`, the one it was given, to `source`: it changes nothing that passes.

    The observer is a subscription that ends with the source and lets go of it, so a lean source needs no other.
    """
    if isinstance(source, LightObservable):
        return source.begin(observer, scheduler)
    return source.subscribe(observer, scheduler=scheduler)


class _Subscription(abc.ObserverBase[T], abc.DisposableBase):
    """Stands between source and observer: silent after the end, and the way to let go of the source."""

    __slots__ = ("observer", "source", "stopped")

    def __init__(self, observer: Any) -> None:
        self.observer = observer
        self.source: abc.DisposableBase | None = None
        self.stopped = False

    def holds(self, source: abc.DisposableBase) -> None:
        if self.stopped:
            source.dispose()
        else:
            self.source = source

    def on_next(self, value: T) -> None:
        if not self.stopped:
            self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        if not self.stopped:
            self.stopped = True
            try:
                self.observer.on_error(error)
            finally:
                self.dispose()

    def on_completed(self) -> None:
        if not self.stopped:
            self.stopped = True
            try:
                self.observer.on_completed()
            finally:
                self.dispose()

    def dispose(self) -> None:
        self.stopped = True
        source, self.source = self.source, None
        if source is not None:
            source.dispose()


class _Functions:
    """An observer made of up to three functions."""

    __slots__ = ("on_completed", "on_error", "on_next")

    def __init__(self, on_next: Any, on_error: abc.OnError | None, on_completed: abc.OnCompleted | None) -> None:
        self.on_next = on_next or _nothing
        self.on_error = on_error or _raise
        self.on_completed = on_completed or _nothing


def _nothing(*_: Any) -> None:
    """Nobody wants to know."""


def _raise(error: Exception) -> None:
    raise error


class ForwardingObserver(abc.ObserverBase[T]):
    """An observer that passes everything on to `observer`; operators override what they do differently."""

    __slots__ = ("observer",)

    def __init__(self, observer: abc.ObserverBase[T]) -> None:
        self.observer = observer

    def on_next(self, value: T) -> None:
        """Pass the item on."""
        self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        """Pass the error on."""
        self.observer.on_error(error)

    def on_completed(self) -> None:
        """Pass the end on."""
        self.observer.on_completed()


class SerialDisposable(abc.DisposableBase):
    """Holds one disposable at a time; the one before is disposed, and after `dispose` every new one at once."""

    __slots__ = ("_held", "_over")

    def __init__(self) -> None:
        self._held: abc.DisposableBase | None = None
        self._over = False

    @property
    def disposable(self) -> abc.DisposableBase | None:
        """The one it holds now. Setting it disposes the one before."""
        return self._held

    @disposable.setter
    def disposable(self, new: abc.DisposableBase) -> None:
        before, self._held = self._held, None if self._over else new
        if before is not None:
            before.dispose()
        if self._over:
            new.dispose()

    def dispose(self) -> None:
        """Let go of the present one and of all to come."""
        self._over = True
        before, self._held = self._held, None
        if before is not None:
            before.dispose()


class Disposable(abc.DisposableBase):
    """Calls `function` once, when it is disposed."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function

    def dispose(self) -> None:
        """Call it."""
        function, self._function = self._function, None
        if function is not None:
            function()


class CompositeDisposable(abc.DisposableBase):
    """Two disposables as one."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: abc.DisposableBase, second: abc.DisposableBase) -> None:
        self._first, self._second = first, second

    def dispose(self) -> None:
        """Dispose of the first, then of the second."""
        self._first.dispose()
        self._second.dispose()
