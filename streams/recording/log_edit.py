"""Makes logs from the rows of other logs."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wakestream.streams.recording.recording import Log, Row


def inputs(log: Log) -> tuple[Row, ...]:
    """Return the inputs of the program: all rows but its outputs."""
    return tuple(row for row in log.rows if row.dir != "out")


def outputs(log: Log) -> tuple[Row, ...]:
    """Return the outputs of the program."""
    return tuple(row for row in log.rows if row.dir == "out")


def with_rows(log: Log, rows: Iterable[Row], notes: Mapping[str, Any] | None = None) -> Log:
    """Return a log with other rows, sorted by time and numbered from 1; at the same time, inputs come first.

    Args:
        log: The log.
        rows: Its new rows. They keep their times, which a replay depends on.
        notes: Is added to the header's config.
    """
    ordered = sorted(rows, key=lambda row: (row.t, row.dir == "out"))
    numbered = tuple(dataclasses.replace(row, seq=seq) for seq, row in enumerate(ordered, 1))
    header = dataclasses.replace(log.header, config={**log.header.config, **(notes or {})})
    return Log(header, numbered)


def log_as_replayed(log: Log, again: Log) -> Log:
    """Return a log as its replay `again` would be recorded: inputs of `log`, outputs and effects of `again`.

    Results of effects that the replay did not use come after the ones that it used, for other programs.
    """
    came_in = [row for row in log.rows if row.dir in ("in", "conn")]
    return with_rows(log, [*came_in, *(row for row in again.rows if row.dir not in ("in", "conn")), *_left(log, again)])


def _left(log: Log, again: Log) -> Iterator[Row]:
    """The results of effects that the replay did not use."""
    asked: defaultdict[tuple[str | None, str], list[Row]] = defaultdict(list)
    last: dict[str | None, float] = {}
    for row in again.rows:
        if row.dir == "effect":
            asked[row.job, row.label].append(row)
            last[row.job] = row.t
    for row in log.rows:
        if row.dir == "effect" and not _take(asked[row.job, row.label], row):
            yield dataclasses.replace(row, t=max(row.t, last.get(row.job, 0.0)))


def _take(rows: list[Row], wanted: Row) -> bool:
    """Remove a row with the same result from `rows`; returns whether there was one."""
    for row in rows:
        if _result(row) == _result(wanted):
            rows.remove(row)
            return True
    return False


def _result(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.data.items() if name not in ("args", "at")}
