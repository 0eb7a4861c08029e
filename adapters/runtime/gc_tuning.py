"""Fewer garbage collections, for programs that keep nearly all the objects that they create."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

SERVER = (50_000, 20, 100)
"""For a server: garbage of closed connections is still found soon, long-lived objects are scanned rarely."""

MANY_JOBS = (10_000, 3, 1_000)
"""For a program whose waiting jobs are a million objects: each scan of them would take seconds."""

MANY = 100_000
"""With more new objects than this at the end of a block, they are its result and not garbage."""


@contextlib.contextmanager
def few_collections(young: int, middle: int, old: int) -> Iterator[None]:
    """Within the block the collector has these thresholds and ignores the objects that existed before."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(young, middle, old)
    try:
        yield
    finally:
        if gc.get_count()[0] > MANY:
            gc.freeze()  # so that unfreeze does not cause a collection of all of them now
        gc.set_threshold(*before)
        gc.unfreeze()
