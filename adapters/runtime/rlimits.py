"""The limit of open files and sockets of this process."""

from __future__ import annotations

import contextlib
import sys

SPARE = 100
"""Descriptors kept free for files, pipes and the like."""

OPEN_MAX = 10_240
"""macOS always allows this many; its limit above that cannot be read."""


def connections_allowed(wanted: int) -> int:
    """Raise the limit of open files as far as needed and allowed; returns how many of the `wanted` connections fit."""
    if sys.platform == "win32":  # Windows has no such limit for sockets
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    need = wanted + SPARE
    for most in (need, min(need, OPEN_MAX)):
        more = most if hard == unlimited else min(most, hard)
        if soft == unlimited or soft >= more:
            break
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    return wanted if soft == unlimited else max(1, min(wanted, soft - SPARE))
