"""Why no connection came about, as people understand it: the system's words for it differ from system to system."""

from __future__ import annotations

import errno
import socket

_WHY = {
    errno.ECONNREFUSED: "nobody listens there (connection refused)",
    errno.EHOSTUNREACH: "no way leads there from this machine (no route to host)",
    errno.ENETUNREACH: "no way leads there from this machine (network unreachable)",
    errno.ETIMEDOUT: "no answer from there (timed out)",
}


def no_connection(error: OSError) -> str:
    """A clause about it."""
    if isinstance(error, socket.gaierror):
        if error.errno == getattr(socket, "EAI_AGAIN", None):
            return "the name of that host cannot be looked up at the moment; does this machine have a network?"
        return "no host of that name is known; is it spelled right?"
    text = str(error)
    # asyncio sums up several failed addresses in one error without a number, but with the words of each.
    if isinstance(error, ConnectionRefusedError) or "refused" in text or "Connect call failed" in text:
        return _WHY[errno.ECONNREFUSED]
    return _WHY.get(error.errno or 0) or error.strerror or text or type(error).__name__
