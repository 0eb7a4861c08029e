"""The rows of a batch, from a table (CSV, as spreadsheets write it, or JSON Lines), and what its columns are for."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath, PureWindowsPath
from typing import Any, Final, NamedTuple

import orjson

from wakestream.operators.model.engine import Kind, Slot, list_of
from wakestream.operators.model.errors import WrongInput
from wakestream.operators.model.events import LIPSYNC
from wakestream.streams.protocol.kinds import lists_of, typed

ROWS_MOST: Final = 10_000
"""Rows of a table."""

COLUMNS_MOST: Final = 1000
"""Columns of a table."""

PAIR: Final = Kind(LIPSYNC, (Slot("video"), Slot("audio")), (Slot("video"),))
"""The kind that also hubs have that do not tell theirs."""

_BLANK: Final = re.compile(r"\{([^{}]+)\}")
_SEPARATORS: Final = (",", ";", "\t")


class Row(NamedTuple):
    """A row: the line where it begins, and its values by column, without the empty ones."""

    line: int
    values: Mapping[str, str]


class Fault(NamedTuple):
    """What is wrong in a table, and what to do.

    Attributes:
        line: The line; in a folder, the part of the names that its files have in common.
        column: The column; empty if it is the whole line.
        why: The sentence.
    """

    line: int | str
    column: str
    why: str

    def of(self, table: str) -> str:
        """The sentence for people."""
        column = f", column {self.column}" if self.column else ""
        return f"{table}, {'line ' if isinstance(self.line, int) else ''}{self.line}{column}: {self.why}"


@dataclass(slots=True)
class Table:
    """What was read.

    Attributes:
        columns: The names of the columns.
        rows: The rows that could be read.
        faults: What is wrong.
    """

    columns: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def table_of(content: bytes, *, lines: bool = False) -> Table:
    """Read a table.

    Args:
        content: The file: UTF-8, or UTF-16 with its mark. CSV may be separated by commas, semicolons or tabs.
        lines: Whether it is JSON Lines, an object in each line.

    Example:
        >>> table_of(b"image;scale\\r\\na.png;2\\r\\n").rows
        [Row(line=2, values={'image': 'a.png', 'scale': '2'})]
    """
    table = Table()
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        table.faults.append(Fault(line, "", "this is not UTF-8; save the table as “CSV UTF-8”"))
        return table
    for row in (_objects if lines else _records)(text, table):
        if len(table.rows) == ROWS_MOST:
            table.faults.append(Fault(row.line, "", f"a table has at most {ROWS_MOST} rows; split it"))
            break
        if (number := len(table.columns)) > COLUMNS_MOST:
            table.faults.append(Fault(row.line, "", f"it has {number} columns; a table has at most {COLUMNS_MOST}"))
            break
        table.rows.append(row)
    if not (table.rows or table.faults):
        table.faults.append(Fault(1, "", "the table has no row; write a line for each job"))
    return table


def _records(text: str, table: Table) -> Iterator[Row]:
    """The rows of CSV below its header."""
    head = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(_SEPARATORS, key=re.sub(r'"[^"]*"', "", head).count)
    reader = csv.reader(re.findall(r"[^\n]*\n|[^\n]+", text), delimiter=separator, strict=True)
    line, begins = 1, 0
    try:
        for cells in reader:
            begins, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells) or (cells[0].startswith("sep=") and begins == 1):
                continue
            if not table.columns:
                table.columns = [cell.strip() for cell in cells]
                table.faults += _of_head(begins, table.columns)
            elif any(cell.strip() for cell in cells[len(table.columns) :]):
                why = f"it has {len(cells)} values for {len(table.columns)} columns; put quotes around a value with"
                table.faults.append(Fault(begins, "", f"{why} {separator!r} in it"))
            else:
                by_column = {name: cell.strip() for name, cell in zip(table.columns, cells, strict=False)}
                yield Row(begins, {name: cell for name, cell in by_column.items() if name and cell})
    except csv.Error as error:
        table.faults.append(Fault(line, "", f"this is no CSV ({error}); check the quotes from this line on"))


def _of_head(line: int, columns: Sequence[str]) -> list[Fault]:
    twice = [name for name, number in Counter(columns).items() if name and number > 1]
    return [Fault(line, name, "two columns have this name; rename one") for name in twice]


def _objects(text: str, table: Table) -> Iterator[Row]:
    """The rows of JSON Lines."""
    columns = set[str]()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            hint = r"; write \\ or / in paths" if "escape" in str(error) else "; write an object such as {}"
            table.faults.append(Fault(number, "", f"this is no JSON ({error.msg}){hint}"))
            continue
        if not isinstance(row, dict):
            table.faults.append(Fault(number, "", 'this is no object; write {"COLUMN": VALUE, …}'))
            continue
        table.columns += [name for name in row if name not in columns]
        columns |= row.keys()
        texts = {name: _text(value) for name, value in row.items() if value is not None}
        yield Row(number, {name: value for name, value in texts.items() if value})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


class Uses(NamedTuple):
    """What columns are for: the inputs, parameters and results of the same names. Others are only for patterns."""

    inputs: list[str]
    params: list[str]
    outputs: list[str]


def uses(table: Table, kind: Kind | None, given: Uses, patterns: Collection[str]) -> Uses:
    """Find out what each column is for, and note those that are for nothing in `table.faults`.

    Args:
        table: The table.
        kind: The kind of the jobs; None if it is not known.
        given: What flags give; columns of these names are only for patterns.
        patterns: The values of these flags, with `{COLUMN}` in them.
    """
    use = Uses([], [], [])
    if len(table.columns) > COLUMNS_MOST:
        return use
    needed = blanks(patterns)
    inputs, outputs = ({slot.name for slot in slots} for slots in ((kind.inputs, kind.outputs) if kind else ((), ())))
    params = kind.params.get("properties", {}) if kind else {}
    for name in table.columns:
        if not name or name.startswith("#"):
            continue
        places = (
            name in inputs or (kind and list_of(name, lists_of(kind.inputs))),
            name in params,
            name in outputs,
        )
        place = next((at for at, fits in enumerate(places) if fits), None)
        if place is not None:
            if name not in given[place]:
                use[place].append(name)
        elif name not in needed and not any(name in names for names in given):
            have = ", ".join([*dict.fromkeys([*inputs, *params, *outputs])]) or "none that is known"
            why = f"no input, parameter or result has this name (they are {have}), and no flag has {{{name}}} in it"
            table.faults.append(Fault(1, name, f"{why}; rename it, or begin its name with #"))
    for name in sorted(needed - {*table.columns, "row"}):
        have = ", ".join(["row", *filter(None, table.columns)])
        table.faults.append(
            Fault(1, name, f"a flag has {{{name}}} in it, and there is no such column; there are {have}")
        )
    return use


def blanks(patterns: Collection[str]) -> set[str]:
    """The columns that are in the patterns."""
    return {name for text in patterns for name in _BLANK.findall(text)}


def filled(text: str, values: Mapping[str, str], change: Callable[[str, str], str] = lambda _, value: value) -> str:
    """Put the values of a row into a pattern. `change` gets a column and its value, and makes it fit.

    Raises:
        WrongInput: A value that is needed is empty.

    Example:
        >>> filled("out/{name}.png", {"name": "cat"})
        'out/cat.png'
    """
    for name in blanks([text]):
        if name not in values:
            raise WrongInput(f"row.{name}", f"it is empty, and a flag has {{{name}}} in it; fill it in")
    return _BLANK.sub(lambda match: change(match[1], values[match[1]]), text)


def path_of(text: str) -> PurePath:
    """A path in a table, which may be one of Windows."""
    return PureWindowsPath(text) if "\\" in text else PurePath(text)


def value_of(text: str, kind: Kind | None, name: str) -> Any:
    """A parameter as a person has written it, with the type that the kind wants if it is known."""
    try:
        value = math.nan if text.lstrip("+-").lower() in ("nan", "inf", "infinity") else orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if kind is None else typed(kind, name, text, value)
