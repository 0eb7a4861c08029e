"""Tables of plain text, also with letters that take two columns of a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence


def width(text: str) -> int:
    """Columns that `text` takes."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """`rows` as lines, the columns in `right` set to the right."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths, right) for row in rows]


def _line(row: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    cells = []
    for column, (text, room) in enumerate(zip(row, widths, strict=True)):
        space = " " * (room - width(text))
        cells.append(space + text if column in right else text + space)
    return "  ".join(cells).rstrip()
