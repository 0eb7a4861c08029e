"""Map time to positions on a line: to scale, but long waits without new events are folded. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise

Price = Callable[[float, float], float]
"""How many more moments must become readable before a wait is folded."""

SHORTER = 2.0
"""A wait is folded only if it would be at least this many times as long without."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """The seconds `start`..`end` are at `left`..`right`; `folded` if not to scale."""

    start: float
    end: float
    left: float
    right: float
    folded: bool = False

    def at(self, t: float) -> float:
        """The position of a time in this stretch."""
        if self.end <= self.start:
            return self.left
        part = min(1.0, max(0.0, (t - self.start) / (self.end - self.start)))
        return self.left + part * (self.right - self.left)


@dataclass(frozen=True)
class Scale:
    """Adjacent stretches from left to right."""

    stretches: tuple[Stretch, ...]

    def at(self, t: float) -> float:
        """The position of a time; times outside are at the ends."""
        found = bisect_right(self._starts, t) - 1
        return self.stretches[max(0, found)].at(t)

    def time(self, x: float) -> float:
        """The time at a position; the inverse of `at`."""
        for each in self.stretches:
            if x <= each.right and each.right > each.left:
                part = (x - each.left) / (each.right - each.left)
                return each.start + max(0.0, part) * (each.end - each.start)
        return self.stretches[-1].end

    @property
    def folds(self) -> list[Stretch]:
        """The folded waits."""
        return [each for each in self.stretches if each.folded]

    @cached_property
    def _starts(self) -> list[float]:
        return [each.start for each in self.stretches]


def scale(moments: Iterable[float], width: float, *, fold: float, most: int, apart: float, price: Price) -> Scale:
    """Make a scale for `moments`. The longest waits are folded, as far as that makes enough moments readable.

    Args:
        moments: Times in seconds.
        width: The width of the scale.
        fold: The width of a folded wait.
        most: The most waits that are folded.
        apart: The distance from the moment before at which a moment is readable.
        price: How many more moments a fold must make readable, since it takes space and breaks the line.
    """
    times = sorted(set(moments)) or [0.0]
    gaps = sorted(pairwise(times), key=lambda gap: (gap[0] - gap[1], gap))
    tries = [_drawn(times, set(gaps[:count]), width, fold) for count in range(max(0, min(most, len(gaps) - 1)) + 1)]
    sound = [each for each in tries if _sound(each)]
    paid = {each: sum(price(fold.start, fold.end) for fold in each.folds) for each in sound}
    return max(sound, key=lambda each: (_seen(each, times, apart) - paid[each], -len(each.folds)))


def _drawn(times: list[float], folded: set[tuple[float, float]], width: float, fold: float) -> Scale:
    shown = sum(b - a for a, b in pairwise(times) if (a, b) not in folded)
    unit = (width - fold * len(folded)) / shown if shown > 0 else 0.0
    stretches: list[Stretch] = []
    left = 0.0
    for a, b in _merged(times, folded):
        right = left + (fold if (a, b) in folded else (b - a) * unit)
        stretches.append(Stretch(a, b, left, right, (a, b) in folded))
        left = right
    return Scale(tuple(stretches) or (Stretch(times[0], times[0], 0.0, width),))


def _sound(found: Scale) -> bool:
    """Whether each fold is much shorter than without folding, and a part is still to scale."""
    plain = [each for each in found.stretches if not each.folded]
    if not found.folds:
        return True
    if not plain:
        return False
    unit = sum(each.right - each.left for each in plain) / sum(each.end - each.start for each in plain)
    return all((each.end - each.start) * unit > SHORTER * (each.right - each.left) for each in found.folds)


def _seen(found: Scale, times: list[float], apart: float) -> int:
    """How many moments are far enough from the one before."""
    count, last = 0, -apart
    for t in times:
        x = found.at(t)
        if x - last >= apart:
            count, last = count + 1, x
    return count


def _merged(times: list[float], folded: set[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The folded waits, and between them the stretches that are to scale."""
    for fold, gaps in groupby(pairwise(times), folded.__contains__):
        waits = list(gaps)
        yield from waits if fold else [(waits[0][0], waits[-1][1])]
