"""Why no connection came about, as people understand it: the system's words for it differ from system to system."""

from __future__ import annotations

import errno
import os
import re
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
    # asyncio sums up several failed addresses in one error without a number, but with the number of each.
    numbers = {error.errno, *map(int, re.findall(r"\[Errno (\d+)\]", text))}
    if isinstance(error, ConnectionRefusedError) or "refused" in text:
        numbers.add(errno.ECONNREFUSED)
    known = next((why for number, why in _WHY.items() if number in numbers), None)
    return known or _in_its_words(error, text)


def _in_its_words(error: OSError, text: str) -> str:
    if "Connect call failed" in text:  # asyncio's, with the address, which those who read it know
        return os.strerror(error.errno) if error.errno else "no connection to any of its addresses came about"
    return error.strerror or text or type(error).__name__
