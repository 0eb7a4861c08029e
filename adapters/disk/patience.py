"""Files that somebody else has open just now: Windows does not let them be replaced, nor opened while they are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

TRIES = 50
TRY_EVERY = 0.02
"""Seconds. Readers of ours, virus scanners and the search index are done within one second; a player is not."""


def patiently(call: Callable[[], T]) -> T:
    """The outcome of `call`; on Windows it is tried again for a second while the file is in use. It may block so long.

    `PermissionError` when it stays in use, or when there is no right to it.
    """
    for _ in range(TRIES if os.name == "nt" else 0):
        try:
            return call()
        except PermissionError:
            time.sleep(TRY_EVERY)
    return call()


def put(partial: Path, path: Path) -> None:
    """Give a whole file its name, in place of whatever has it. `OSError` as of `patiently`."""
    patiently(lambda: partial.replace(path))
