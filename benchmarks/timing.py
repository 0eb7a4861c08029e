"""Measures small things fairly: in turns with their yardstick, the median of many rounds, the collector at rest."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a folder of its own is made there
"""Where files are in memory; None if the system has no such folder."""


def in_turns(rounds: int, **cases: Callable[[], None]) -> dict[str, float]:
    """Median seconds of each case, taken in turns so that the machine's moods touch all alike."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        case()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, case in cases.items():
                start = time.perf_counter()
                case()
                taken[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return {name: statistics.median(times) for name, times in taken.items()}


def row(what: str, measured: float, yardstick: float, budget: float, *, at_most: bool = True) -> bool:
    """Print one line of the table: the ratio, its budget, and whether it holds."""
    ratio = measured / yardstick
    holds = ratio <= budget if at_most else ratio >= budget
    sign = "<=" if at_most else ">="
    print(f"  {'ok  ' if holds else 'OVER'}  {ratio:7.2f} x  ({sign} {budget:g})   {what}")
    return holds
