"""How many files and sockets this process may have open: as many as the system's owner lets it."""

from __future__ import annotations

import contextlib
import sys

SPARE = 100
"""Kept free for files, pipes and what else is no connection."""


def connections_allowed(wanted: int) -> int:
    """Raise the limit of open files as far as needed and allowed; how many connections of `wanted` then fit."""
    if sys.platform == "win32":  # has no such limit for sockets
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    need = wanted + SPARE
    if soft != unlimited and soft < need:
        more = need if hard == unlimited else min(need, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS has another limit besides, which it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    return wanted if soft == unlimited else max(1, min(wanted, soft - SPARE))
