"""Tables and paragraphs of plain text, also with letters that take two columns of a terminal."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence

from wakestream.streams.protocol.printable import printable

# A word, or any letter, with the full-width brackets and stops that belong to it.
_PARTS = re.compile(r"[\uff08\u201c]?(?:[!-~]+|.)[\uff0c\u3002\uff1b\uff1a\u3001\uff1f\uff09\u201d]* *")

GAP = 2
"""Blanks between two columns."""


def width(text: str) -> int:
    """Columns that `text` takes."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def cut(text: str, columns: int) -> str:
    """`text` in at most so many columns; what is longer ends with dots."""
    if width(text) <= columns:
        return text
    end = "…" if _speaks_utf() else "..."[:columns]
    kept = ""
    for letter in text:
        if width(kept + letter + end) > columns:
            break
        kept += letter
    return kept + end


def bar(share: float, columns: int) -> str:
    """A bar of so many columns, of which the first `share` (0 to 1) is full."""
    full, empty = "█░" if _speaks_utf() else "#."
    count = round(columns * min(1.0, max(0.0, share)))
    return full * count + empty * (columns - count)


def _speaks_utf() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


def wrapped(text: str, columns: int) -> list[str]:
    """`text` in lines of so many columns: broken at blanks, and between any two wide letters."""
    lines = [""]
    for part in _PARTS.findall(text):
        if lines[-1] and width((lines[-1] + part).rstrip()) > columns:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def terminal_columns() -> int | None:
    """Width of the terminal; None if standard output is no terminal and lines are not wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def hanging(head: str, text: str, columns: int | None, further: int = 0) -> list[str]:
    """`text` behind `head`; what does not fit into `columns` stands below its first line, `further` in."""
    if columns is None:
        return [head + text]
    first, *more = wrapped(text, max(20, columns - width(head) - further))
    return [head + first, *(" " * (width(head) + further) + line for line in more)]


def paragraphs(lines: Sequence[str], columns: int | None) -> list[str]:
    """Each line broken at words where it is too long, and indented as it was."""
    cut = [(line[: len(line) - len(line.lstrip())], line.lstrip()) for line in lines]
    return [part for indent, text in cut for part in hanging(indent, text, columns, further=2)]


def table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """`rows` as lines, the columns in `right` set to the right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths, right) for row in rows]


def fitted(
    rows: Sequence[Mapping[str, str]],
    longest: str,
    spare: Iterable[tuple[str, int]],
    right: Collection[str],
    columns: int | None,
) -> list[str]:
    """Rows by column as lines of at most so many columns; the first row is a heading and names the columns.

    Args:
        rows: The heading, then the rows.
        longest: The column whose cells are cut where there is no room.
        spare: Columns that are left out before that, in this order, while `longest` has fewer columns than is said.
        right: The columns that are set to the right.
        columns: Of a line; None for no limit.
    """
    names = [*rows[0]]
    if columns is not None:
        widths = {name: max(width(row[name]) for row in rows) for name in names}

        def room() -> int:
            return columns - sum(widths[name] + GAP for name in names if name != longest)

        for name, fewest in spare:
            if name in names and room() < min(fewest, widths[longest]):
                names.remove(name)
        rows = [{**row, longest: cut(row[longest], max(1, room()))} for row in rows]
    on_the_right = [number for number, name in enumerate(names) if name in right]
    return table([[row[name] for name in names] for row in rows], on_the_right)


def _line(row: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    cells = []
    for column, (text, room) in enumerate(zip(row, widths, strict=True)):
        space = " " * (room - width(text))
        cells.append(space + text if column in right else text + space)
    return (" " * GAP).join(cells).rstrip()
