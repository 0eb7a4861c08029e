"""Recognizes errors of a full disk."""

from __future__ import annotations

import errno
import re

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_WINDOWS = 112
_SAID = re.compile(
    r"no space left on device|disk quota exceeded|not enough space on the disk|\bENOSPC\b|\berrno 28\b", re.IGNORECASE
)


def is_full(error: OSError) -> bool:
    """Whether the disk, or the quota of this account, is full."""
    return error.errno in _FULL or getattr(error, "winerror", None) == _WINDOWS


def says_full(text: str) -> bool:
    """Whether a program's own words say that the disk, or the quota of its account, is full."""
    return _SAID.search(text) is not None
