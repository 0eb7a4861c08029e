"""A hot observable that delivers by key, such as everything that comes from the hub. It never fails and never ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from itertools import chain
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc

from wakestream.operators.rx.core.observable import LightObservable

T = TypeVar("T")
Callback = Callable[[Any], None]
Fault = Callable[[Exception, Any], None]


class KeyedSubject(LightObservable[T], Generic[T]):
    """Delivers items to the listeners of a key, and to its subscribers, who get every item.

    Delivery is one dict lookup, however many listeners there are. An item that is fed during a delivery is delivered
    after it, so that all observers see the same order. A listener that joins during a delivery gets the next item.

    Example:
        >>> replies = KeyedSubject(on_fault=lambda error, item: logger.error(error))
        >>> replies.listen("job-1", print)
        >>> replies.feed(reply, "job-1")

    Args:
        on_fault: Called with the error and the item when an observer raises. All other observers still get the item.
            An error that `on_fault` raises is raised by `feed`, after all items were delivered.
    """

    def __init__(self, on_fault: Fault) -> None:
        super().__init__(self._listen)
        self._on_fault = on_fault
        self._by_key: dict[Hashable, list[_Listener]] = {}
        self._all: list[_Listener] = []
        self._queue: deque[tuple[T, Hashable | None]] = deque()
        self._feeding = False
        self._raised: list[Exception] = []

    def listen(self, key: Hashable, on_next: Callback) -> abc.DisposableBase:
        """Deliver the items for `key`, and those for all keys, to `on_next` until disposed."""
        listener = _Listener(self._by_key, key, on_next)
        self._by_key.setdefault(key, []).append(listener)
        return listener

    def by_key(self, key: Hashable) -> Observable[T]:
        """Observe the items for `key`, and those for all keys. Never ends."""
        return _OfKey(self, key)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys that have listeners, oldest first."""
        return tuple(self._by_key)

    def reaches(self, key: Hashable) -> bool:
        """Whether this key has a listener."""
        return key in self._by_key

    def feed(self, item: T, key: Hashable | None = None) -> None:
        """Deliver one item to the listeners of `key`, or without a key to all listeners."""
        self._queue.append((item, key))
        if not self._feeding:
            self._deliver_queued()

    def _deliver_queued(self) -> None:
        self._feeding = True
        try:
            while self._queue:
                self._deliver(*self._queue.popleft())
        finally:
            self._feeding = False
        if self._raised:  # all have got all: now it may be raised
            raised, self._raised = self._raised, []
            raise raised[0]

    def _deliver(self, item: T, key: Hashable | None) -> None:
        concerned = chain.from_iterable(self._by_key.values()) if key is None else self._by_key.get(key, ())
        for listener in (*self._all, *concerned):
            if listener.board is None:  # it left during this delivery
                continue
            try:
                listener.on_next(item)
            except Exception as error:  # the next observer still gets the item
                try:
                    self._on_fault(error, item)
                except Exception as raised:
                    self._raised.append(raised)

    def _listen(self, observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        listener = _Listener({None: self._all}, None, observer.on_next)
        self._all.append(listener)
        return listener


class _OfKey(LightObservable[T]):
    """The items for one key; small, because ten thousand jobs hold three each."""

    __slots__ = ("key", "subject")

    def __init__(self, subject: KeyedSubject[T], key: Hashable) -> None:
        self.subject, self.key = subject, key

    def begin(self, subscription: Any, _: abc.SchedulerBase | None) -> abc.DisposableBase:
        return self.subject.listen(self.key, subscription.on_next)


class _Listener(abc.DisposableBase):
    """One registration; small, because ten thousand jobs hold one each."""

    __slots__ = ("board", "key", "on_next")

    def __init__(self, board: dict[Hashable, list[_Listener]], key: Hashable, on_next: Callback) -> None:
        self.board: dict[Hashable, list[_Listener]] | None = board
        self.key = key
        self.on_next = on_next

    def dispose(self) -> None:
        if self.board is None:
            return
        listeners = self.board[self.key]
        listeners.remove(self)
        if not listeners:
            del self.board[self.key]
        self.board = None
