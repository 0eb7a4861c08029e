"""What happened lately, row by row as in a recording: the page draws it as it comes, and saves it as a log."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from wakestream.adapters import logs
from wakestream.streams import messages as m
from wakestream.streams.recording import (
    OUTCOME_KINDS,
    Direction,
    Header,
    Row,
    RowMaker,
    Tap,
    frame_row,
    header_line,
    redact,
    row_line,
)

KEPT: Final = 20_000
"""Rows that are kept; beyond that those of the jobs that ended first go."""

SHOWN: Final = 3_000
"""Rows that one who opens the page is given."""

TEXT_MOST: Final = 240

_TOO_MANY: Final = frozenset({"uploading", "downloading", "pong", "ping"})


class Timeline(Tap):
    """Implements `Tap` in memory. `news` is set at every row; whoever waits for it clears it. Needs a running loop."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self.header = Header("daemon", 0.0, 0)
        self.news = asyncio.Event()
        self.rows: deque[Row] = deque()
        loop = asyncio.get_running_loop()
        start = loop.time()
        self._maker = RowMaker(lambda: loop.time() - start)

    def begin(self, header: Header) -> Tap:
        """Now the rows begin, under that header."""
        self.header = header
        return self

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """See `Tap.row`. What is secret goes when the row is shown, which most are not."""
        self.rows.append(self._maker.make(direction, label, data, job))
        if len(self.rows) > self._kept:
            self._cut_down()
        self.news.set()

    def frame(self, direction: Direction, message: m.Message) -> None:
        """See `Tap.frame`."""
        if not isinstance(message, m.Ping | m.Pong):
            label, data, job = frame_row(message)
            self.row(direction, label, data, job)

    def _cut_down(self) -> None:
        """Down to three quarters: whole jobs that ended go first, as half a job could not be replayed."""
        spare = len(self.rows) - self._kept * 3 // 4
        ended = [row.job for row in self.rows if row.label in OUTCOME_KINDS and row.dir == "out"]
        gone: set[str | None] = set()
        of_job: dict[str | None, int] = {}
        for row in self.rows:
            of_job[row.job] = of_job.get(row.job, 0) + 1
        for job in ended:
            if spare <= 0:
                break
            gone.add(job)
            spare -= of_job[job]
        self.rows = deque(row for row in self.rows if row.job is None or row.job not in gone)
        while len(self.rows) > self._kept:
            self.rows.popleft()

    def since(self, seq: int) -> list[dict[str, Any]]:
        """The rows after that one as the page draws them, without those that only count bytes; `SHOWN` at most."""
        found: list[Row] = []
        for row in reversed(self.rows):
            if row.seq <= seq or len(found) >= SHOWN:
                break
            if not _counts_bytes(row):
                found.append(row)
        return [_brief(row) for row in reversed(found)]

    @property
    def last(self) -> int:
        """The newest row's number; 0 when there is none."""
        return self.rows[-1].seq if self.rows else 0

    def lines(self) -> Iterator[bytes]:
        """The log, without secrets, as a recorder writes it."""
        yield header_line(self.header)
        for row in tuple(self.rows):
            yield row_line(Row(row.seq, row.t, row.dir, row.label, redact(row.data, logs.redact), row.job))


def _counts_bytes(row: Row) -> bool:
    return row.label in _TOO_MANY or (row.dir == "effect" and "item" in row.data)


def _brief(row: Row) -> dict[str, Any]:
    kind = "frame" if "type" in row.data else "event" if "event" in row.data else row.dir
    plain = {"seq": row.seq, "t": row.t, "dir": row.dir, "kind": kind, "label": row.label, "job": row.job}
    told = orjson.dumps(redact(row.data, logs.redact), default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    plain["text"] = told if len(told) <= TEXT_MOST else f"{told[: TEXT_MOST - 1]}…"
    inner = row.data.get("data")
    said = {**inner, **row.data} if isinstance(inner, Mapping) else row.data
    plain |= {name: said[name] for name in ("phase", "state", "gpu") if name in said}
    if "error" in row.data and row.dir == "effect":
        plain["fault"] = True
    return plain
