"""The latest rows, as in a recording: the page draws them, and saves them as a log."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

import orjson

from wakestream.adapters.runtime.known_secrets import redacted
from wakestream.streams.recording.event_json import OUTCOME_KINDS
from wakestream.streams.recording.recording import Direction, Header, Row, RowMaker, Tap, header_line, row_line

KEPT: Final = 20_000
"""Rows that are kept; beyond that, rows of the jobs that ended first are removed."""

SHOWN: Final = 3_000
"""Rows that a page gets when it opens."""

TEXT_MOST: Final = 240

LEAP: Final = 1.0
"""Seconds by which the system clock must differ from the monotonic clock before the timeline follows it."""

LEAPS: Final = 100

_TOO_MANY: Final = frozenset({"uploading", "downloading", "pong", "ping"})


class Timeline(Tap):
    """Implements `Tap` in memory. `news` is set at every row; its reader clears it. Needs a running loop.

    The times of rows do not count while the machine is suspended; the page draws by the clock `now` (UNIX seconds).
    """

    def __init__(self, kept: int = KEPT, now: Callable[[], float] = time.time) -> None:
        self._kept, self._now = kept, now
        self._leaps: deque[tuple[int, float]] = deque(((0, 0.0),), maxlen=LEAPS)
        self.header = Header("daemon", 0.0, 0)
        self.news = asyncio.Event()
        self.rows: deque[Row] = deque()
        self._link: Row | None = None
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._maker = RowMaker(lambda: self._loop.time() - self._start)

    def begin(self, header: Header) -> Tap:
        """Set the header. The times of rows count from its epoch, which is later than the start of the program."""
        self.header = header
        late = self._now() - header.epoch
        self._start = self._loop.time() - (late if 0 <= late < LEAP else 0)
        return self

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """See `Tap.row`. Secrets are redacted when a row is shown, since most rows are not."""
        row = self._maker.make(direction, label, data, job)
        self.rows.append(row)
        ahead = self._now() - self.header.epoch - row.t
        if abs(ahead - self._leaps[-1][1]) > LEAP:
            self._leaps.append((row.seq, ahead))
        if direction == "conn":
            self._link = row
        if len(self.rows) > self._kept:
            self._cut_down()
        self.news.set()

    def _cut_down(self) -> None:
        """Cut down to three quarters. Ended jobs are removed first, completely: a part of a job could not be replayed.

        Jobs that overlapped are removed together, since one may have waited for another.
        """
        spare = len(self.rows) - self._kept * 3 // 4
        ended = {row.job: None for row in self.rows if row.label in OUTCOME_KINDS and row.dir == "out"}
        of_job = Counter(row.job for row in self.rows)
        over = [group for group in _together(self.rows) if ended.keys() >= set(group)]
        gone: set[str | None] = set()
        groups: list[list[str | None]] = [*over, *([job] for job in ended)]
        for group in groups:
            if spare <= 0:
                break
            spare -= sum(of_job[job] for job in group if job not in gone)
            gone |= set(group)
        self.rows = deque(row for row in self.rows if row.job is None or row.job not in gone)
        while len(self.rows) > self._kept * 3 // 4:
            self.rows.popleft()

    def since(self, seq: int) -> list[dict[str, Any]]:
        """At most `SHOWN` rows after `seq` as the page draws them, without those that only count bytes.

        The last change of the connection comes first, even if it is older.
        """
        found: list[Row] = []
        for row in reversed(self.rows):
            if row.seq <= seq or len(found) >= SHOWN:
                break
            if row.label not in _TOO_MANY and (row.dir != "effect" or "item" not in row.data):
                found.append(row)
        if self._link is not None and seq < self._link.seq < (found[-1].seq if found else 0):
            found.append(self._link)
        return [{**_brief(row), "t": row.t + self._ahead(row)} for row in reversed(found)]

    def _ahead(self, row: Row) -> float:
        """The difference between the system clock and the row's time."""
        return self._leaps[max(0, bisect_right(self._leaps, row.seq, key=lambda leap: leap[0]) - 1)][1]

    @property
    def last(self) -> int:
        """The number of the newest row; 0 if there are no rows."""
        return self.rows[-1].seq if self.rows else 0

    def lines(self) -> Iterator[bytes]:
        """The current log without secrets, as a recorder writes it. It can be read in another thread."""
        rows = tuple(self.rows)  # now, and not in the other thread
        told = (row_line(Row(row.seq, row.t, row.dir, row.label, redacted(row.data), row.job)) for row in rows)
        return chain((header_line(self.header),), told)


def _together(rows: Iterable[Row]) -> list[list[str | None]]:
    """The jobs in groups, oldest first; jobs of different groups do not overlap."""
    last = {row.job: row.seq for row in rows if row.job is not None}
    groups: list[list[str | None]] = []
    until, seen = -1, set[str]()
    for row in rows:
        if row.job is None or row.job in seen:
            continue
        seen.add(row.job)
        if row.seq > until:
            groups.append([])
        groups[-1].append(row.job)
        until = max(until, last[row.job])
    return groups


def _brief(row: Row) -> dict[str, Any]:
    kind = "frame" if "type" in row.data else "event" if "event" in row.data else row.dir
    plain = {"seq": row.seq, "t": row.t, "dir": row.dir, "kind": kind, "label": row.label, "job": row.job}
    told = orjson.dumps(redacted(row.data), default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    plain["text"] = told if len(told) <= TEXT_MOST else f"{told[: TEXT_MOST - 1]}…"
    inner = row.data.get("data")
    said = {**inner, **row.data} if isinstance(inner, Mapping) else row.data
    plain |= {name: said[name] for name in ("phase", "state", "gpu") if name in said}
    if "error" in row.data and row.dir == "effect":
        plain["fault"] = True
    return plain
