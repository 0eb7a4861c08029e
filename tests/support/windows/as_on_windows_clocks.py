"""Clocks in the steps of the system's timer, as `time.time` and `time.monotonic` have them there before Python 3.13."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

STEP = 1 / 64
"""Seconds; 15.625 ms."""

_STEP_NS = 15_625_000


def begin() -> None:
    """From now on, for all modules."""
    for name in ("time", "monotonic"):
        setattr(time, name, _coarse(getattr(time, name)))
        setattr(time, f"{name}_ns", _coarse_ns(getattr(time, f"{name}_ns")))
    time.get_clock_info = _info(time.get_clock_info)


def _coarse(clock: Callable[[], float]) -> Callable[[], float]:
    return lambda: clock() // STEP * STEP


def _coarse_ns(clock: Callable[[], int]) -> Callable[[], int]:
    return lambda: clock() // _STEP_NS * _STEP_NS


def _info(real: Callable[[str], Any]) -> Callable[[str], Any]:
    # asyncio asks for it: a loop runs timers that are due within the clock's resolution.
    def info(name: Any) -> Any:
        found = real(name)
        return SimpleNamespace(**{**vars(found), "resolution": STEP}) if name in ("time", "monotonic") else found

    return info
