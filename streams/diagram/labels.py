"""Combine marks at the same position, and place their labels as flags on poles without overlaps. Pure."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from wakestream.streams.diagram.marbles import TIMES, Mark

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
    found: list[Bunch] = []
    last: dict[tuple[str, str], int] = {}
    for bunch in bunches:
        key = (bunch.first.kind, bunch.first.label)
        index = last.get(key)
        if index is not None and bunch.x - edge(found[index]) <= near:
            found[index] = Bunch(found[index].x, (*found[index].marks, *bunch.marks), bunch.end)
        else:
            last[key] = len(found)
            found.append(bunch)
    return found


def place(flags: Sequence[Flag], rows: int, right: float) -> list[int | None]:
    """Choose the row of each flag: 0 is next to the line, None means that there is no space.

    A text is to the right of its pole and ends before `right`. Texts do not touch, and no pole crosses a text.
    """
    wanted = sorted(range(len(flags)), key=lambda index: (-flags[index].weight, flags[index].x, index))
    chosen: list[tuple[float, int]] = []
    found: dict[int, int] = {}
    for index in wanted[:MOST]:
        insort(chosen, (flags[index].x, index))
        packed = _packed(flags, chosen, rows, right)
        if packed is None:
            chosen.remove((flags[index].x, index))
        else:
            found = packed
    return [found.get(index) for index in range(len(flags))]


def _packed(flags: Sequence[Flag], chosen: list[tuple[float, int]], rows: int, right: float) -> dict[int, int] | None:
    """Place the flags from right to left, each in the lowest row where it ends before the next text or pole."""
    free = [right] * rows
    found: dict[int, int] = {}
    for x, index in reversed(chosen):
        row = next((row for row in range(rows) if x + flags[index].width <= free[row]), None)
        if row is None:
            return None
        found[index] = row
        free[: row + 1] = [x] * (row + 1)  # the pole passes through the rows below
    return found
