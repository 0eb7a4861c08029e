"""Ports for programs that need a number and cannot choose a free one."""

import itertools
import os
import random
import socket

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_SPAN = 2000
_FIRST = 12_000 + _WORKER % 8 * _SPAN
_next = itertools.count(random.randrange(_SPAN))


def free_port() -> int:
    """A port of loopback that nothing uses, and that no other test is given soon.

    The kernel gives its own free ports (32768 and above, 49152 on Windows and macOS) to every outgoing connection: one
    that was free a moment ago can be taken when a program listens there. These lie below, and each worker of pytest
    has its own.
    """
    for _ in range(_SPAN):
        port = _FIRST + next(_next) % _SPAN
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port from {_FIRST} to {_FIRST + _SPAN - 1} is free")
