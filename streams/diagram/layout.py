"""Where the parts of a marble diagram stand on their lines. Pure.

Time is to scale, but long waits without new events are folded. Marks at the same position are combined, and their
labels are flags on poles without overlaps.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise

from wakestream.streams.diagram.marbles import TIMES, Mark

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
        index = bisect_right(self._starts, t) - 1
        return self.stretches[max(0, index)].at(t)

    def time(self, x: float) -> float:
        """The time at a position; the inverse of `at`."""
        for stretch in self.stretches:
            if x <= stretch.right and stretch.right > stretch.left:
                part = (x - stretch.left) / (stretch.right - stretch.left)
                return stretch.start + max(0.0, part) * (stretch.end - stretch.start)
        return self.stretches[-1].end

    @property
    def folds(self) -> list[Stretch]:
        """The folded waits."""
        return [stretch for stretch in self.stretches if stretch.folded]

    @cached_property
    def _starts(self) -> list[float]:
        return [stretch.start for stretch in self.stretches]


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
    sound = [drawn for drawn in tries if _sound(drawn)]
    paid = {drawn: sum(price(fold.start, fold.end) for fold in drawn.folds) for drawn in sound}
    return max(sound, key=lambda drawn: (_seen(drawn, times, apart) - paid[drawn], -len(drawn.folds)))


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


def _sound(drawn: Scale) -> bool:
    """Whether each fold is much shorter than without folding, and a part is still to scale."""
    plain = [stretch for stretch in drawn.stretches if not stretch.folded]
    if not drawn.folds:
        return True
    if not plain:
        return False
    width = sum(stretch.right - stretch.left for stretch in plain)
    unit = width / sum(stretch.end - stretch.start for stretch in plain)
    return all((fold.end - fold.start) * unit > SHORTER * (fold.right - fold.left) for fold in drawn.folds)


def _seen(drawn: Scale, times: list[float], apart: float) -> int:
    """How many moments are far enough from the one before."""
    count, last = 0, -apart
    for t in times:
        x = drawn.at(t)
        if x - last >= apart:
            count, last = count + 1, x
    return count


def _merged(times: list[float], folded: set[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The folded waits, and between them the stretches that are to scale."""
    for fold, gaps in groupby(pairwise(times), folded.__contains__):
        waits = list(gaps)
        yield from waits if fold else [(waits[0][0], waits[-1][1])]


MOST = 120
"""The most labels of a lane that are tried, the most important first."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A label at `x` that needs `width`, with the gap to the next one. The greater `weight` gets the space."""

    x: float
    width: float
    weight: int


@dataclass(frozen=True, slots=True)
class Bunch:
    """Marks of one label at the same position, or so near that they look like one."""

    x: float
    marks: tuple[Mark, ...]
    end: float

    @property
    def first(self) -> Mark:
        """The earliest mark."""
        return self.marks[0]

    @property
    def weight(self) -> int:
        """The greatest weight of the marks."""
        return max(mark.weight for mark in self.marks)

    @property
    def label(self) -> str:
        """The label, with the number of marks if there are several."""
        return self.first.label if len(self.marks) == 1 else f"{self.first.label} {TIMES}{len(self.marks)}"


def bunched(marks: Iterable[Mark], at: Callable[[float], float], near: float) -> list[Bunch]:
    """Combine marks of the same kind and label that are within `near` of the first one; from left to right."""
    ordered = sorted(marks, key=lambda mark: (mark.t, mark.seq))
    return _joined((Bunch(at(mark.t), (mark,), at(mark.t)) for mark in ordered), near, lambda bunch: bunch.x)


def chained(bunches: Iterable[Bunch], near: float) -> list[Bunch]:
    """Combine bunches of the same label that follow within `near`, so that they share one label."""
    return _joined(bunches, near, lambda bunch: bunch.end)


def _joined(bunches: Iterable[Bunch], near: float, edge: Callable[[Bunch], float]) -> list[Bunch]:
    """Combine bunches of the same kind and label that are within `near` of the `edge` of the one before."""
    joined: list[Bunch] = []
    last: dict[tuple[str, str], int] = {}
    for bunch in bunches:
        key = (bunch.first.kind, bunch.first.label)
        index = last.get(key)
        if index is not None and bunch.x - edge(joined[index]) <= near:
            joined[index] = Bunch(joined[index].x, (*joined[index].marks, *bunch.marks), bunch.end)
        else:
            last[key] = len(joined)
            joined.append(bunch)
    return joined


def place(flags: Sequence[Flag], rows: int, right: float) -> list[int | None]:
    """Choose the row of each flag: 0 is next to the line, None means that there is no space.

    A text is to the right of its pole and ends before `right`. Texts do not touch, and no pole crosses a text.
    """
    wanted = sorted(range(len(flags)), key=lambda index: (-flags[index].weight, flags[index].x, index))
    chosen: list[tuple[float, int]] = []
    rows_by_flag: dict[int, int] = {}
    for index in wanted[:MOST]:
        insort(chosen, (flags[index].x, index))
        packed = _packed(flags, chosen, rows, right)
        if packed is None:
            chosen.remove((flags[index].x, index))
        else:
            rows_by_flag = packed
    return [rows_by_flag.get(index) for index in range(len(flags))]


def _packed(flags: Sequence[Flag], chosen: list[tuple[float, int]], rows: int, right: float) -> dict[int, int] | None:
    """Place the flags from right to left, each in the lowest row where it ends before the next text or pole."""
    free = [right] * rows
    rows_by_flag: dict[int, int] = {}
    for x, index in reversed(chosen):
        row = next((row for row in range(rows) if x + flags[index].width <= free[row]), None)
        if row is None:
            return None
        rows_by_flag[index] = row
        free[: row + 1] = [x] * (row + 1)  # the pole passes through the rows below
    return rows_by_flag
