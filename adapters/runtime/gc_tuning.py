"""Fewer rounds of the garbage collector, for programs that keep nearly all that they make."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

SERVER = (50_000, 20, 100)
"""For a server: what peers leave behind is still found soon, what jobs and connections hold is seldom looked at."""

MANY = 100_000
"""So many new things at the end of a block are a result, not litter."""


@contextlib.contextmanager
def few_collections(young: int, middle: int, old: int) -> Iterator[None]:
    """Within the block the collector has these thresholds, and passes by what is there already."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(young, middle, old)
    try:
        yield
    finally:
        if gc.get_count()[0] > MANY:
            gc.freeze()  # and with the rest to the oldest: not to be looked at this very moment
        gc.set_threshold(*before)
        gc.unfreeze()
