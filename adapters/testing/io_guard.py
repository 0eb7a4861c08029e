"""Detects and refuses real I/O and threads during code that must not use them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from wakestream.adapters.testing.virtual_loop import TOUCHED, RealWorldTouched

WATCHED: Final = {
    "socket.bind": 1, "socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0, "socket.gethostbyaddr": 0, "subprocess.Popen": 0, "os.system": 0, "os.exec": 0,
    "os.posix_spawn": 0, "os.spawn": 1, "os.fork": None, "os.startfile": 0,
}  # fmt: skip
"""Audit events that are refused, and the argument to show; other arguments may contain secrets."""

_NO_SCHEDULER: Final = "no scheduler was given: pass one at the single subscribe, such as scheduler=LoopScheduler()"

_attempts: list[list[str]] = []
_hooked: list[bool] = []


@contextmanager
def no_real_io() -> Iterator[list[str]]:
    """Within the block sockets and processes raise `RealWorldTouched`, and so do threads that this thread starts.

    Other threads, such as a server of the test run, are not affected.

    Returns:
        A context manager. It yields the list of all attempts, also those whose error was caught.

    Example:
        >>> with no_real_io() as attempts:
        ...     run_virtual(main())
        >>> attempts
        []
    """
    if not _hooked:  # an audit hook cannot be removed; outside of such blocks it does nothing
        sys.addaudithook(_audit)
        _hooked.append(True)
    tried: list[str] = []
    _attempts.append(tried)
    try:
        with _no_threads_of(threading.get_ident()):
            yield tried
    finally:
        _attempts.pop()


@contextmanager
def _no_threads_of(owner: int) -> Iterator[None]:
    start = threading.Thread.start  # Python 3.11 has no audit event for it

    def refuse(thread: threading.Thread) -> None:
        if threading.get_ident() == owner:
            why = _NO_SCHEDULER if _of_a_scheduler() else "virtual time has no threads; use a fake"
            _refuse(f"thread {thread.name!r}: {why}")
        start(thread)

    threading.Thread.start = refuse  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if not _attempts:
        return
    if event == TOUCHED:  # the virtual loop itself raises
        _attempts[-1].append(str(args[0]))
    # Whether an event loop makes its self-pipe, which on Windows is two connected sockets.
    elif event in WATCHED and not sys._getframe(2).f_code.co_name.endswith("socketpair"):
        _refuse(_named(event, args), "a replay or test in virtual time must not do real I/O; use the log, or a fake")


def _refuse(what: str, why: str = "") -> None:
    _attempts[-1].append(what)
    raise RealWorldTouched(f"{what}: {why}" if why else what)


def _of_a_scheduler() -> bool:
    """Whether a scheduler of reactivex starts the thread, as it does for a timer without a scheduler."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        if str(frame.f_globals.get("__name__")).startswith("reactivex.scheduler"):
            return True
        frame = frame.f_back
    return False


def _named(event: str, args: tuple[Any, ...]) -> str:
    place = WATCHED[event]
    return event if place is None or len(args) <= place else f"{event} {args[place]!r}"
