"""Notices and refuses real I/O while something runs that must do none, wherever in the process it is tried."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from wakestream.adapters.virtual_loop import TOUCHED, RealWorldTouched

WATCHED: Final = {
    "socket.bind": 1, "socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0, "socket.gethostbyaddr": 0, "subprocess.Popen": 0, "os.system": 0, "os.exec": 0,
    "os.posix_spawn": 0, "os.spawn": 1, "os.fork": None, "os.startfile": 0,
}  # fmt: skip
"""The interpreter's own audit events of what is refused, and which argument names it; the others may hold secrets."""

_attempts: list[list[str]] = []
_hooked: list[bool] = []


@contextmanager
def no_real_io() -> Iterator[list[str]]:
    """Within the block sockets and processes raise `RealWorldTouched`; the list says what was tried, caught or not."""
    if not _hooked:  # an audit hook cannot be taken off again; outside such blocks it does nothing
        sys.addaudithook(_hear)
        _hooked.append(True)
    tried: list[str] = []
    _attempts.append(tried)
    try:
        yield tried
    finally:
        _attempts.remove(tried)


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if not _attempts:
        return
    if event == TOUCHED:  # the virtual loop itself raises
        _attempts[-1].append(str(args[0]))
    elif event in WATCHED and not _of_the_loop_itself():
        what = _named(event, args)
        _attempts[-1].append(what)
        raise RealWorldTouched(f"{what}: a replay does no real I/O; let the log answer, or use a fake")


def _named(event: str, args: tuple[Any, ...]) -> str:
    place = WATCHED[event]
    return event if place is None or len(args) <= place else f"{event} {args[place]!r}"


def _of_the_loop_itself() -> bool:
    """Windows makes a loop's self-pipe of two connected sockets."""
    return sys._getframe(2).f_code.co_name.endswith("socketpair")
