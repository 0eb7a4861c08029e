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

_WINDOWS = {
    1225: errno.ECONNREFUSED, 10061: errno.ECONNREFUSED, 1231: errno.ENETUNREACH, 10051: errno.ENETUNREACH,
    1232: errno.EHOSTUNREACH, 10065: errno.EHOSTUNREACH, 121: errno.ETIMEDOUT, 10060: errno.ETIMEDOUT,
}  # fmt: skip
"""Its numbers of the same: those of connections that are made in the background, and those of sockets."""


def no_connection(error: OSError) -> str:
    """A clause about it."""
    if isinstance(error, socket.gaierror):
        if error.errno == getattr(socket, "EAI_AGAIN", None):
            return "the name of that host cannot be looked up at the moment; does this machine have a network?"
        return "no host of that name is known; is it spelled right?"
    text = str(error)
    # asyncio sums up several failed addresses in one error without a number, but with the number of each.
    numbers = {error.errno, *map(int, re.findall(r"\[Errno (\d+)\]", text))}
    there = {getattr(error, "winerror", None), *map(int, re.findall(r"\[WinError (\d+)\]", text))}
    numbers |= {number for each, number in _WINDOWS.items() if each in there}
    if isinstance(error, ConnectionRefusedError) or "refused" in text:
        numbers.add(errno.ECONNREFUSED)
    known = next((why for number, why in _WHY.items() if number in numbers), None)
    return known or _in_its_words(error, text)


def _in_its_words(error: OSError, text: str) -> str:
    if "Connect call failed" in text:  # asyncio's, with the address, which those who read it know
        return os.strerror(error.errno) if error.errno else "no connection to any of its addresses came about"
    return error.strerror or text or type(error).__name__
