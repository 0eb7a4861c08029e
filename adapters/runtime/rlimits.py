"""How many files and sockets this process may have open: as many as the system's owner lets it."""

from __future__ import annotations

import contextlib
import sys

SPARE = 100
"""Kept free for files, pipes and what else is no connection."""

OPEN_MAX = 10_240
"""What macOS always allows; above it there is another limit, which it does not tell."""


def connections_allowed(wanted: int) -> int:
    """Raise the limit of open files as far as needed and allowed; how many connections of `wanted` then fit."""
    if sys.platform == "win32":  # has no such limit for sockets
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
