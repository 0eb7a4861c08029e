"""Logs made of other logs' rows: what came in, put together again with what went out. Pure."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from wakestream.streams.recording.recording import Log, Row, redact


def inputs(log: Log) -> tuple[Row, ...]:
    """What the world did: all rows but those that the program sent or said."""
    return tuple(row for row in log.rows if row.dir != "out")


def outputs(log: Log) -> tuple[Row, ...]:
    """What the program sent and said."""
    return tuple(row for row in log.rows if row.dir == "out")


def with_rows(log: Log, rows: Iterable[Row], notes: Mapping[str, Any] | None = None) -> Log:
    """`log` with `rows` in its place: sorted by time, what came in before what it led to, numbered from 1.

    Rows keep their times, as a replay goes by them. `notes` are added to the header's config.
    """
    ordered = sorted(rows, key=lambda row: (row.t, row.dir == "out"))
    numbered = tuple(dataclasses.replace(row, seq=seq) for seq, row in enumerate(ordered, 1))
    header = dataclasses.replace(log.header, config={**log.header.config, **(notes or {})})
    return Log(header, numbered)


def redacted(log: Log) -> Log:
    """`log` without secrets; for logs that others made, as our own recorder lets none in."""
    rows = tuple(dataclasses.replace(row, data=redact(row.data)) for row in log.rows)
    return dataclasses.replace(log, header=dataclasses.replace(log.header, config=redact(log.header.config)), rows=rows)


def told_again(log: Log, again: Log) -> Log:
    """`log` as its replay `again` would be recorded: what came in as it was, what was asked and said as it is now.

    Outcomes that the replay did not ask for come after those that it did: they are what another program would need.
    """
    came_in = [row for row in log.rows if row.dir in ("in", "conn")]
    return with_rows(log, [*came_in, *(row for row in again.rows if row.dir not in ("in", "conn")), *_left(log, again)])


def _left(log: Log, again: Log) -> Iterator[Row]:
    """The outcomes of calls that the replay did not ask for."""
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
    """Take a row with the same outcome out of `rows`."""
    for row in rows:
        if _given(row) == _given(wanted):
            rows.remove(row)
            return True
    return False


def _given(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.data.items() if name not in ("args", "at")}
