"""Observables and disposables without locks: a waiting job holds some fifteen of each.

Each object of the library has a lock, because several threads may use it. Here one event loop does everything, so
no lock is needed: a waiting job takes less than a quarter of the memory (docs/decisions/07-light-observables.md).
The contract is the same: nothing is emitted after the end, and the end disposes the subscription to the source, also
if the source ends while it is being subscribed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from reactivex import Observable, abc, typing
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

T = TypeVar("T")
U = TypeVar("U")
Subscribe = Callable[[ObserverBase[T], SchedulerBase | None], DisposableBase]

_LOCK = Observable[Any]().lock


class LightObservable(Observable[T]):
    """An observable made of a `subscribe(observer, scheduler) -> disposable` function; not for use across threads."""

    __slots__ = ("_begin",)

    lock = _LOCK

    def __init__(self, subscribe: Subscribe[T]) -> None:  # does not call the base class, which makes a lock
        self._begin = subscribe

    def subscribe(
        self,
        on_next: ObserverBase[T] | abc.OnNext[T] | None = None,
        on_error: abc.OnError | None = None,
        on_completed: abc.OnCompleted | None = None,
        *,
        scheduler: SchedulerBase | None = None,
    ) -> DisposableBase:
        """Like the library's `subscribe`. Without `on_error`, an error is raised where it happens."""
        observer = on_next if hasattr(on_next, "on_next") else Functions(on_next, on_error, on_completed)
        subscription: _Subscription[T] = _Subscription(observer)
        subscription.hold(self.begin(subscription, scheduler))
        return subscription

    def begin(self, subscription: Any, scheduler: SchedulerBase | None) -> DisposableBase:
        """Emit to an existing subscription, see `subscribe_through`."""
        try:
            return self._begin(subscription, scheduler)
        except Exception as error:
            if subscription.stopped:
                raise
            subscription.on_error(error)
            return SerialDisposable()

    if not TYPE_CHECKING:  # the library has many overloads for its types

        def pipe(self, *operators: Callable[[Any], Any]) -> Any:
            """Like the library's, without composing the operators into one function first."""
            made = self
            for operator in operators:
                made = operator(made)
            return made

    def map(self, mapper: typing.Mapper[T, U]) -> Observable[U]:
        """Like the library's, without its trampoline, which costs more than the work of an operator that only waits."""
        return self._with(_Map, mapper)

    def do_action(
        self,
        on_next: abc.OnNext[T] | None = None,
        on_error: abc.OnError | None = None,
        on_completed: abc.OnCompleted | None = None,
    ) -> Observable[T]:
        """Like the library's; see `map`."""
        return self._with(_Do, on_next or ignore, on_error or ignore, on_completed or ignore)

    def distinct_until_changed(
        self, key_mapper: typing.Mapper[Any, Any] | None = None, comparer: typing.Comparer[Any] | None = None
    ) -> Observable[Any]:
        """Like the library's; see `map`."""
        if key_mapper is not None or comparer is not None:
            return super().distinct_until_changed(key_mapper, comparer)
        return self._with(_Distinct)

    def take_while(self, predicate: typing.Predicate[Any], inclusive: bool = False) -> Observable[Any]:
        """Like the library's; see `map`."""
        return self._with(_TakeWhile, predicate, inclusive)

    def _with(self, observer_of: Callable[..., ObserverBase[Any]], *given: Any) -> Observable[Any]:
        return LightObservable(partial(_observe, self, observer_of, given))


def _observe(
    source: Observable[Any],
    observer_of: Callable[..., ObserverBase[Any]],
    given: tuple[Any, ...],
    observer: ObserverBase[Any],
    scheduler: SchedulerBase | None,
) -> DisposableBase:
    return source.subscribe(observer_of(observer, *given), scheduler=scheduler)


def operator_from(
    subscribe: Callable[[Observable[T], ObserverBase[U], SchedulerBase | None], DisposableBase],
) -> Callable[[Observable[T]], Observable[U]]:
    """An operator, made of a function that subscribes an observer to what the operator makes of a source."""
    return lambda source: LightObservable(partial(subscribe, source))


def subscribe_through(
    source: Observable[T], observer: ObserverBase[T], scheduler: SchedulerBase | None
) -> DisposableBase:
    """Subscribe the observer that an operator was given directly to `source`: the operator changes no item.

    The observer is a subscription that ends with the source and disposes it, so a `LightObservable` needs no other.
    """
    if isinstance(source, LightObservable):
        return source.begin(observer, scheduler)
    return source.subscribe(observer, scheduler=scheduler)


def subscribe_into(
    held: SerialDisposable, source: Observable[Any], observer: ObserverBase[Any], scheduler: SchedulerBase | None
) -> None:
    """Subscribe `observer` to `source`, and let `held` hold the subscription from its beginning.

    A source may end, or lead to another subscription in its place, within its own subscription. (With
    `held.disposable = source.subscribe(…)`, the old subscription would then dispose the new one.)
    """
    inner: _Subscription[Any] = _Subscription(observer)
    held.disposable = inner
    inner.hold(subscribe_through(source, inner, scheduler))


class _Subscription(ObserverBase[T], DisposableBase):
    """Stands between source and observer: passes nothing on after the end, and disposes the source."""

    __slots__ = ("observer", "source", "stopped")

    def __init__(self, observer: Any) -> None:
        self.observer = observer
        self.source: DisposableBase | None = None
        self.stopped = False

    def hold(self, source: DisposableBase) -> None:
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


class Functions:
    """An observer made of up to three functions."""

    __slots__ = ("on_completed", "on_error", "on_next")

    def __init__(self, on_next: Any, on_error: abc.OnError | None, on_completed: abc.OnCompleted | None) -> None:
        self.on_next = on_next or ignore
        self.on_error = on_error or _raise
        self.on_completed = on_completed or ignore


def ignore(*_: Any) -> None:
    """The default callback: does nothing."""


def _raise(error: Exception) -> None:
    raise error


@dataclass(slots=True, eq=False, repr=False)
class ForwardingObserver(ObserverBase[T]):
    """An observer that passes everything on to `observer`; operators override what they do differently."""

    observer: ObserverBase[Any]

    def on_next(self, value: T) -> None:
        """Pass the item on."""
        self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        """Pass the error on."""
        self.observer.on_error(error)

    def on_completed(self) -> None:
        """Pass the end on."""
        self.observer.on_completed()


@dataclass(slots=True, eq=False, repr=False)
class _Map(ForwardingObserver[Any]):
    mapper: typing.Mapper[Any, Any]

    def on_next(self, value: Any) -> None:
        try:
            mapped = self.mapper(value)
        except Exception as error:  # raised by the mapper
            self.observer.on_error(error)
        else:
            self.observer.on_next(mapped)


@dataclass(slots=True, eq=False, repr=False)
class _Do(ForwardingObserver[Any]):
    next: abc.OnNext[Any]
    error: abc.OnError
    completed: abc.OnCompleted

    def on_next(self, value: Any) -> None:
        if self._done(self.next, value):
            self.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        if self._done(self.error, error):
            self.observer.on_error(error)

    def on_completed(self) -> None:
        if self._done(self.completed):
            self.observer.on_completed()

    def _done(self, action: Callable[..., object], *given: Any) -> bool:
        try:
            action(*given)
        except Exception as error:  # raised by the action
            self.observer.on_error(error)
            return False
        return True


_NO_ITEM = object()


@dataclass(slots=True, eq=False, repr=False)
class _Distinct(ForwardingObserver[Any]):
    last: Any = _NO_ITEM

    def on_next(self, value: Any) -> None:
        before, self.last = self.last, value
        if before is _NO_ITEM or before != value:
            self.observer.on_next(value)


@dataclass(slots=True, eq=False, repr=False)
class _TakeWhile(ForwardingObserver[Any]):
    predicate: typing.Predicate[Any]
    inclusive: bool
    over: bool = False

    def on_next(self, value: Any) -> None:
        if self.over:
            return
        try:
            self.over = not self.predicate(value)
        except Exception as error:  # raised by the predicate
            self.over = True
            self.observer.on_error(error)
            return
        if not self.over or self.inclusive:
            self.observer.on_next(value)
        if self.over:
            self.observer.on_completed()


class SerialDisposable(DisposableBase):
    """Holds one disposable at a time: setting another disposes the one before, and after `dispose` also the new one."""

    __slots__ = ("_disposed", "_held")

    def __init__(self) -> None:
        self._held: DisposableBase | None = None
        self._disposed = False

    @property
    def disposable(self) -> DisposableBase | None:
        """The one it holds now."""
        return self._held

    @disposable.setter
    def disposable(self, new: DisposableBase) -> None:
        before, self._held = self._held, None if self._disposed else new
        if before is not None:
            before.dispose()
        if self._disposed:
            new.dispose()

    def dispose(self) -> None:
        """Dispose the present one, and every one that is set later."""
        self._disposed = True
        before, self._held = self._held, None
        if before is not None:
            before.dispose()


@dataclass(slots=True, eq=False, repr=False)
class FollowingObserver(ForwardingObserver[T]):
    """A forwarding observer that also has one other subscription at a time, such as the next stage: see `follow`."""

    scheduler: SchedulerBase | None
    followed: SerialDisposable = field(default_factory=SerialDisposable, init=False)

    def follow(self, source: Observable[Any], observer: ObserverBase[Any]) -> None:
        """Subscribe `observer` to `source`, in place of the subscription before, see `subscribe_into`."""
        subscribe_into(self.followed, source, observer, self.scheduler)


def operator_with(
    observer_of: Callable[..., FollowingObserver[T]], *given: Any
) -> Callable[[Observable[T]], Observable[U]]:
    """An operator, made of the class of the source's observer, and what it is given beside observer and scheduler."""
    return operator_from(partial(_follow, observer_of, given))


def _follow(
    observer_of: Callable[..., FollowingObserver[T]],
    given: tuple[Any, ...],
    source: Observable[T],
    observer: ObserverBase[U],
    scheduler: SchedulerBase | None,
) -> DisposableBase:
    made = observer_of(observer, scheduler, *given)
    return CompositeDisposable(source.subscribe(made, scheduler=scheduler), made.followed)


class Disposable(DisposableBase):
    """Calls `action` once, when it is disposed."""

    __slots__ = ("_action",)

    def __init__(self, action: Callable[[], object]) -> None:
        self._action: Callable[[], object] | None = action

    def dispose(self) -> None:
        """Call the action, the first time only."""
        action, self._action = self._action, None
        if action is not None:
            action()


class CompositeDisposable(DisposableBase):
    """Two disposables as one."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: DisposableBase, second: DisposableBase) -> None:
        self._first, self._second = first, second

    def dispose(self) -> None:
        """Dispose the first, then the second."""
        self._first.dispose()
        self._second.dispose()
