"""An event loop in which waiting costs nothing: time jumps to the next timer. No sockets, no threads, no real clock.

For replay and for tests: the very code that runs on the real loop runs here, and a wait of 30 minutes takes
microseconds. Timers due at the same moment fire in the order of their creation, so a run is the same each time.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import math
import sys
from asyncio import base_events
from collections.abc import Callable
from typing import Any, NoReturn

from wakestream.adapters.runtime.gc_tuning import few_collections


class VirtualDeadlock(RuntimeError):
    """Nothing is left that could ever happen, and somebody still waits; the message names the tasks."""


class RealWorldTouched(RuntimeError):
    """Code on the virtual loop tried to use a thread, a socket or a process."""


_INSTEAD = "use the fakes of wakestream.adapters.testing.fakes in virtual time"


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


class _Timer(asyncio.TimerHandle):
    """As asyncio's, made in one step and without a note of where: a replay makes hundreds of thousands."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: VirtualLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop, self._callback, self._args, self._when = loop, callback, args, when
        self._cancelled, self._scheduled = False, True
        self._repr = self._source_traceback = None


class VirtualLoop(base_events.BaseEventLoop):
    """An asyncio loop whose `time()` starts at `start` seconds and moves only when everything waits."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self._now = start
        self._ages = itertools.count()
        self._timers: list[tuple[float, int, Any]] = []  # when, age, handle: compared without a call into Python
        self._cancelled = 0

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's, with ties in order of creation."""
        if self._closed:  # type: ignore[attr-defined]
            self._check_closed()  # type: ignore[attr-defined]
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._ages), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers stay until they are due, or until they are the most."""
        self._cancelled += handle._scheduled  # type: ignore[attr-defined]  # one that has fired waits no more
        if self._cancelled > 100 and 2 * self._cancelled > len(self._timers):
            self._timers = [each for each in self._timers if not each[2].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def _run_once(self) -> None:
        """One turn, as asyncio's own: where that one would wait for I/O, this one moves the clock."""
        ready = self._ready  # type: ignore[attr-defined]
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            self._skip()
        timers = self._timers
        while timers and timers[0][0] <= self._now:
            timer = heapq.heappop(timers)[2]
            timer._scheduled = False
            self._cancelled -= timer._cancelled
            ready.append(timer)
        for _ in range(len(ready)):  # what these add is for the next turn
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _skip(self) -> None:
        """To the moment of the next timer."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
            self._cancelled -= 1
        if not self._timers or math.isinf(self._timers[0][0]):
            self.nothing_left()
        self._now = max(self._now, self._timers[0][0])

    def jump(self, seconds: float) -> None:
        """Let time pass at once, as a machine that sleeps does: what was due meanwhile fires late."""
        self._now += seconds

    def nothing_left(self) -> NoReturn:
        """Raise `VirtualDeadlock`."""
        waiting = sorted(task.get_name() for task in asyncio.all_tasks(self))
        raise VirtualDeadlock(f"nothing can happen any more at {self._now:g} s; still waiting: {', '.join(waiting)}")

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> NoReturn:
        """Refused: threads do not run in virtual time."""
        raise touched(f"{func!r} wants a thread; {_INSTEAD}")

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
    # A replay keeps nearly all that it makes, so every collection looks at all of it again and finds nothing: with a
    # thousand jobs that is a third of the time.
    with few_collections(1_000_000, 50, 1000), asyncio.Runner(loop_factory=lambda: VirtualLoop(start)) as runner:
        return runner.run(main)
