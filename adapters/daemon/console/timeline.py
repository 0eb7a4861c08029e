"""The latest rows, as in a recording: the page draws them, and saves them as a log.

Those of earlier runs are in a file beside the outbox, as far as a page can show them. The file is only for display: it
is written once a second without a sync. When the disk loses a part of it or cannot take it, the timeline is shorter.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
from loguru import logger

from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.disk.state_file import move_aside
from wakestream.adapters.runtime.known_secrets import redacted
from wakestream.adapters.runtime.tasks import finish_despite_cancel
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

_TOO_MANY: Final = frozenset({"uploading", "downloading", "storing", "pong", "ping"})


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
        rows: list[Row] = []
        for row in reversed(self.rows):
            if row.seq <= seq or len(rows) >= SHOWN:
                break
            if row.label not in _TOO_MANY and (row.dir != "effect" or "item" not in row.data):
                rows.append(row)
        if self._link is not None and seq < self._link.seq < (rows[-1].seq if rows else 0):
            rows.append(self._link)
        return [{**_brief(row), "t": row.t + self._ahead(row)} for row in reversed(rows)]

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
        lines = (row_line(Row(row.seq, row.t, row.dir, row.label, redacted(row.data), row.job)) for row in rows)
        return chain((header_line(self.header),), lines)


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
    text = orjson.dumps(redacted(row.data), default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    plain["text"] = text if len(text) <= TEXT_MOST else f"{text[: TEXT_MOST - 1]}…"
    inner = row.data.get("data")
    said = {**inner, **row.data} if isinstance(inner, Mapping) else row.data
    plain |= {name: said[name] for name in ("phase", "state", "gpu") if name in said}
    if "error" in row.data and row.dir == "effect":
        plain["fault"] = True
    return plain


EARLIER: Final = 1_500
"""Rows of earlier runs that a page gets when it opens."""

EVERY: Final = 1.0
"""Seconds between two writes."""

TIMELINE_FILE: Final = "timeline.jsonl"

Run = dict[str, Any]
"""`boot` identifies the run, `epoch` is its start in UNIX seconds, `rows` are those of `Timeline.since`."""


class TimelineFile:
    """Writes the rows of `timeline` for the run `boot`. `load` reads the rows of earlier runs."""

    def __init__(self, path: Path, boot: str, timeline: Timeline) -> None:
        self._path, self._boot, self._timeline = path, boot, timeline
        self._runs: list[Run] = []
        self._seq = 0
        self._lines = 0

    def earlier(self, seen: str) -> Sequence[Run]:
        """The earlier runs, for a page that knows those before the run `seen` and a part of that one."""
        at = next((at for at, run in enumerate(self._runs) if run["boot"] == seen), 0)
        return () if seen == self._boot else self._runs[at:]

    async def load(self) -> None:
        """Read the file, and remove rows that no page can show."""
        self._runs = await asyncio.to_thread(_read, self._path, aside=True)
        self._lines = await asyncio.to_thread(_rewrite, self._path, self._runs)

    async def keep(self) -> None:
        """Write new rows until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await finish_despite_cancel(self.write())

    async def write(self) -> None:
        """Write the new rows."""
        if self._timeline.last == self._seq:
            return
        begin = [] if self._seq else [{"boot": self._boot, "epoch": self._timeline.header.epoch}]
        rows = self._timeline.since(self._seq)
        self._seq = self._timeline.last
        self._lines += len(begin) + len(rows)
        await asyncio.to_thread(self._append, _lines([*begin, *rows]))
        if self._lines > 2 * EARLIER:
            runs = await asyncio.to_thread(_read, self._path)
            self._lines = await asyncio.to_thread(_rewrite, self._path, runs)

    def _append(self, lines: bytes) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(lines)
        except OSError as error:
            logger.debug("the timeline cannot be written: {}", error)


def _read(path: Path, *, aside: bool = False) -> list[Run]:
    """The runs in the file, with at most `EARLIER` rows. Invalid lines are left out.

    With `aside` a file that has such lines before its last one, which a kill may have cut off, is moved aside.
    """
    runs: list[Run] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return runs
    for line in lines:
        plain: dict[str, Any] = {}
        with suppress(ValueError):
            plain = msgspec.json.decode(line, type=dict[str, Any])
        if isinstance(plain.get("boot"), str) and isinstance(plain.get("epoch"), int | float):
            runs.append({**plain, "rows": []})
        elif runs and isinstance(plain.get("seq"), int) and isinstance(plain.get("t"), int | float):
            runs[-1]["rows"].append(plain)
        elif aside and line is not lines[-1]:
            move_aside(path, "a line in it is no event")
            aside = False
    spare = sum(len(run["rows"]) for run in runs) - EARLIER
    for run in runs:
        gone = max(0, min(spare, len(run["rows"])))
        del run["rows"][:gone]
        spare -= gone
    return [run for run in runs if run["rows"]]


def _rewrite(path: Path, runs: Iterable[Run]) -> int:
    """Replace the file by these runs; returns the number of lines."""
    lines = [line for run in runs for line in ({**run, "rows": None}, *run["rows"])]
    try:
        write_atomic(path, _lines(lines), sync=False)
    except OSError as error:
        logger.debug("the timeline cannot be written: {}", error)
    return len(lines)


def _lines(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
