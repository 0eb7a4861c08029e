"""Explains why a connection failed, in the same words on every system."""

from __future__ import annotations

import errno
import os
import re
import socket

_WHY = {
    errno.ECONNREFUSED: "nothing listens there (connection refused)",
    errno.EHOSTUNREACH: "this machine has no route to it (no route to host)",
    errno.ENETUNREACH: "this machine has no route to it (network unreachable)",
    errno.ETIMEDOUT: "it does not answer (timed out)",
}

_WINDOWS = {
    1225: errno.ECONNREFUSED, 10061: errno.ECONNREFUSED, 1231: errno.ENETUNREACH, 10051: errno.ENETUNREACH,
    1232: errno.EHOSTUNREACH, 10065: errno.EHOSTUNREACH, 121: errno.ETIMEDOUT, 10060: errno.ETIMEDOUT,
}  # fmt: skip
"""The same errors by their numbers on Windows, of overlapped connections and of sockets."""


def no_connection(error: OSError) -> str:
    """The reason as a clause."""
    if isinstance(error, socket.gaierror):
        if error.errno == getattr(socket, "EAI_AGAIN", None):
            return "its host name cannot be resolved at the moment; check the network of this machine"
        return "its host name is unknown; check the spelling"
    text = str(error)
    # For several failed addresses asyncio raises one error, whose text has the number of each.
    numbers = {error.errno, *map(int, re.findall(r"\[Errno (\d+)\]", text))}
    there = {getattr(error, "winerror", None), *map(int, re.findall(r"\[WinError (\d+)\]", text))}
    numbers |= {number for code, number in _WINDOWS.items() if code in there}
    if isinstance(error, ConnectionRefusedError) or "refused" in text:
        numbers.add(errno.ECONNREFUSED)
    known = next((why for number, why in _WHY.items() if number in numbers), None)
    return known or _in_its_words(error, text)


def _in_its_words(error: OSError, text: str) -> str:
    if "Connect call failed" in text:  # asyncio's text repeats the address
        return os.strerror(error.errno) if error.errno else "none of its addresses can be reached"
    return error.strerror or text or type(error).__name__
