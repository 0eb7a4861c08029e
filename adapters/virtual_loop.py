"""An event loop in which waiting costs nothing: time jumps to the next timer. No sockets, no threads, no real clock.

For replay and for tests: the very code that runs on the real loop runs here, and a wait of 30 minutes takes
microseconds. Timers due at the same moment fire in the order of their creation, so a run is the same each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import heapq
import itertools
import math
import sys
from asyncio import base_events
from collections.abc import Callable, Iterator
from typing import Any, NoReturn


class VirtualDeadlock(RuntimeError):
    """Nothing is left that could ever happen, and somebody still waits; the message names the tasks."""


class RealWorldTouched(RuntimeError):
    """Code on the virtual loop tried to use a thread, a socket or a process."""


_INSTEAD = "use the fakes of wakestream.adapters.memory in virtual time"


TOUCHED = "wakestream.real_world_touched"
"""The audit event of each refusal, for those who want to know of it also where the error is caught."""


def touched(what: str) -> RealWorldTouched:
    """The error of one refusal, which auditors hear of."""
    sys.audit(TOUCHED, what)
    return RealWorldTouched(what)


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise touched(f"{name} wants a socket, a pipe or a process; {_INSTEAD}")

    return refuse


class _OrderedTimer(asyncio.TimerHandle):
    """Breaks ties by age; asyncio's own order of equal times is that of a heap."""

    __slots__ = ("age",)
    age: int

    def __lt__(self, other: Any) -> bool:
        mine, others = self._when, other._when  # type: ignore[attr-defined]  # read a dozen times per timer
        return bool(mine < others or (mine == others and self.age < other.age))


class _Clockwork:
    """Stands where a selector would: instead of waiting for I/O it moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            self._loop.nothing_left()
        elif timeout > 0:
            self._loop.advance(timeout)
        return []

    def close(self) -> None:
        """Nothing is open."""


class VirtualLoop(base_events.BaseEventLoop):
    """An asyncio loop whose `time()` starts at `start` seconds and moves only when everything waits."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self._ages = itertools.count()
        self._set_clock(start)
        self._selector = _Clockwork(self)

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock to the next timer; exact, so that sums of delays do not drift."""
        due = self._scheduled[0].when() if self._scheduled else self._now + seconds  # type: ignore[attr-defined]
        if math.isinf(due):
            self.nothing_left()
        self._set_clock(max(self._now, due))

    def _set_clock(self, now: float) -> None:
        self._now = now
        self._clock_resolution = math.ulp(now)  # the loop fires what is due before now + resolution: exactly now's

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's, with ties in order of creation."""
        self._check_closed()  # type: ignore[attr-defined]
        timer = _OrderedTimer(when, callback, args, self, context)
        timer.age = next(self._ages)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def jump(self, seconds: float) -> None:
        """Let time pass at once, as a machine that sleeps does: what was due meanwhile fires late."""
        self._set_clock(self._now + seconds)

    def nothing_left(self) -> NoReturn:
        """Raise `VirtualDeadlock`."""
        waiting = sorted(task.get_name() for task in asyncio.all_tasks(self))
        raise VirtualDeadlock(f"nothing can happen any more at {self._now:g} s; still waiting: {', '.join(waiting)}")

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> NoReturn:
        """Refused: threads do not run in virtual time."""
        raise touched(f"{func!r} wants a thread; {_INSTEAD}")

    def _process_events(self, event_list: list[Any]) -> None:
        """There is no I/O to process."""

    def _write_to_self(self) -> None:
        """No other thread can wake this loop; only a signal handler calls this."""


for _name in (
    "add_reader", "add_writer", "connect_accepted_socket", "connect_read_pipe", "connect_write_pipe",
    "create_connection", "create_datagram_endpoint", "create_server", "create_unix_connection", "create_unix_server",
    "getaddrinfo", "getnameinfo", "sendfile", "sock_accept", "sock_connect", "sock_recv", "sock_recv_into",
    "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendfile", "sock_sendto", "start_tls",
    "subprocess_exec", "subprocess_shell",
):  # fmt: skip
    setattr(VirtualLoop, _name, staticmethod(_refused(_name)))


def run_virtual(main: Any, *, start: float = 0.0) -> Any:
    """Run a coroutine on a new `VirtualLoop`, as `asyncio.run` does."""
    with _few_collections(), asyncio.Runner(loop_factory=lambda: VirtualLoop(start)) as runner:
        return runner.run(main)


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    # A replay keeps nearly all that it makes, so every collection looks at all of it again and finds nothing: with a
    # thousand jobs that is a third of the time.
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(200_000, 50, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
