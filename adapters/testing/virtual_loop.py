"""An event loop with virtual time: when all tasks wait, time jumps to the next timer. It has no sockets and no threads.

For replay and tests: the same code as on a real loop runs here, and a wait of 30 minutes takes microseconds. Timers for
the same moment fire in the order of their creation, so each run is the same.
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
    """Tasks wait but there is no timer that could wake them; the message names the tasks."""


class RealWorldTouched(RuntimeError):
    """Code in virtual time tried to use a thread, a socket or a process."""


_INSTEAD = "use the fakes of wakestream.adapters.testing.fakes in virtual time"


TOUCHED = "wakestream.real_world_touched"
"""The audit event of each refusal, which shows it even if the error is caught."""


def touched(what: str) -> RealWorldTouched:
    """The error of a refusal; also raises the audit event `TOUCHED`."""
    sys.audit(TOUCHED, what)
    return RealWorldTouched(what)


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise touched(f"{name} needs a socket, a pipe or a process; {_INSTEAD}")

    return refuse


class _Timer(asyncio.TimerHandle):
    """As asyncio's, but cheaper, without a traceback of its creation: a replay makes hundreds of thousands."""

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
    """An asyncio loop whose `time()` starts at `start` seconds and advances only when all tasks wait."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self._now = start
        self._ages = itertools.count()
        self._timers: list[tuple[float, int, Any]] = []  # when, age, handle: compared without a call into Python
        self._cancelled = 0
        self.hold = math.inf
        """Timers that are due later than this do not fire yet."""

    @property
    def idle(self) -> bool:
        """Whether no other callback waits for this moment; in `RowOrder`, turns of the loop need not pass then."""
        return not self._ready  # type: ignore[attr-defined]

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's; timers for the same moment fire in the order of creation."""
        if self._closed:  # type: ignore[attr-defined]
            self._check_closed()  # type: ignore[attr-defined]
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._ages), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Remove cancelled timers when more than half of the timers are cancelled."""
        self._cancelled += handle._scheduled  # type: ignore[attr-defined]  # one that has fired is not in the heap
        if self._cancelled > 100 and 2 * self._cancelled > len(self._timers):
            self._timers = [timer for timer in self._timers if not timer[2].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def _run_once(self) -> None:
        """One iteration, as asyncio's: instead of waiting for I/O, advance the clock."""
        ready = self._ready  # type: ignore[attr-defined]
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            # Advance the clock to the next timer.
            while self._timers and self._timers[0][2].cancelled():
                heapq.heappop(self._timers)
                self._cancelled -= 1
            if not self._timers or math.isinf(self._timers[0][0]):
                self.nothing_left()
            self._now = max(self._now, self._timers[0][0])
        timers = self._timers
        due = min(self._now, self.hold)
        while timers and timers[0][0] <= due:
            timer = heapq.heappop(timers)[2]
            timer._scheduled = False
            self._cancelled -= timer._cancelled
            ready.append(timer)
        for _ in range(len(ready)):  # what they add runs in the next iteration
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def jump(self, seconds: float) -> None:
        """Advance the clock at once, as after a sleep of the machine: timers that are due fire late."""
        self._now += seconds

    def nothing_left(self) -> NoReturn:
        """Raise `VirtualDeadlock`."""
        waiting = sorted(task.get_name() for task in asyncio.all_tasks(self))
        raise VirtualDeadlock(f"deadlock at {self._now:g} s; these tasks wait: {', '.join(waiting)}")

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> NoReturn:
        """Refused: there are no threads in virtual time."""
        raise touched(f"{func!r} needs a thread; {_INSTEAD}")

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
    """Run a coroutine on a new `VirtualLoop`, as `asyncio.run` does.

    Args:
        main: The coroutine.
        start: The loop's first time in seconds.

    Returns:
        What the coroutine returns.

    Raises:
        VirtualDeadlock: tasks wait for something that cannot happen.

    Example:
        >>> run_virtual(asyncio.sleep(1800, "done"))
        'done'
    """
    # A replay keeps nearly all its objects, so garbage collections find nothing; with a thousand jobs they would take a
    # third of the time.
    with few_collections(1_000_000, 50, 1000), asyncio.Runner(loop_factory=lambda: VirtualLoop(start)) as runner:
        return runner.run(main)
