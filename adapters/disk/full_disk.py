"""Recognizes errors of a full disk."""

from __future__ import annotations

import errno

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_WINDOWS = 112


def is_full(error: OSError) -> bool:
    """Whether the disk, or the quota of this account, is full."""
    return error.errno in _FULL or getattr(error, "winerror", None) == _WINDOWS
