"""The time axis of a marble diagram: where its ticks stand, and times in few letters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from wakestream.streams.diagram.layout import Scale, Stretch

PER_TICK = 92.0
"""Ticks are about this far apart, in pixels."""


def ticks(scale: Scale, width_of: Callable[[str], float], apart: float = PER_TICK) -> Iterator[tuple[float, str]]:
    """Place and text of each tick, from left to right; none touches the next, and none stands in a folded wait."""
    free = -math.inf
    for stretch in scale.stretches:
        if stretch.folded:
            continue
        for t, label in _of(stretch, apart):
            x = stretch.at(t)
            if x >= free and x + width_of(label) <= stretch.right + width_of(""):
                yield x, label
                free = x + width_of(label)


def _of(stretch: Stretch, apart: float) -> Iterator[tuple[float, str]]:
    span, wide = stretch.end - stretch.start, stretch.right - stretch.left
    if span <= 0 or wide <= 0:
        return
    step = _round(span * apart / wide)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(stretch.start / step - 1e-9)
    for count in range(first, first + int(wide / apart * 3) + 2):
        if count * step <= stretch.end:
            yield count * step, clock(count * step, decimals)


def _round(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten; above a minute, whole parts of an hour."""
    for whole in (60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400):
        if 50 < step <= whole:
            return float(whole)
    power = 10.0 ** math.floor(math.log10(step))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= step * (1 - 1e-9))


def clock(t: float, decimals: int) -> str:
    """A moment: `95.2 s`, from two minutes on `2:05` or `1:02:05`."""
    if t < 120:
        return f"{t:.{decimals}f} s"
    minutes, seconds = divmod(t, 60)
    hours, minutes = divmod(int(minutes), 60)
    rest = f"{seconds:0{3 + decimals if decimals else 2}.{decimals}f}"
    return f"{hours}:{minutes:02}:{rest}" if hours else f"{minutes}:{rest}"


def compact(seconds: float) -> str:
    """How long in at most six letters: `8 ms`, `2.2 s`, `58 s`, `1m 35s`, `29 min`, `2h 03m`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes}m {rest:02}s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02}m"
