"""The log format: inputs, outputs and results of effects, each with its time.

adapters/telemetry/recorder.py writes it.

JSON lines. The first is the header, the others are rows:

    {"v":2,"epoch":1790000000.0,"seed":7,"program":"daemon","config":{...},"redactions":["key",...]}
    {"seq":1,"t":0.0123,"dir":"in","job":"a1","label":"ack","data":{...},"lag":0.0002}

`epoch` is the wall-clock time of t = 0. `t` is the seconds since then; it grows with every row, so that the order of
the rows is the order of events. `dir` is `in` (a frame, or a request of a user), `out` (a frame, or a job's event),
`effect` (the result of a call) or `conn` (the connection came up or went down).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import orjson

from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.event_json import EVENT_KINDS, OUTCOME_KINDS, UNNAMED_KINDS
from wakestream.streams.recording.secrets import SECRET_FIELDS

VERSION: Final = 2
"""The format that is written. 2: inputs may have a `lag`, and a hub's first row has its `state`. 1 is read, too."""
Direction = Literal["in", "out", "effect", "conn"]

TICK: Final = 1e-6
"""The least difference between the times of two rows, in seconds."""

_TICKS: Final = 1e6
"""Ticks in a second."""


class UnusableLog(ValueError):
    """The file is not a log; `str()` tells the fault."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a log.

    Attributes:
        program: Which program recorded it.
        epoch: The UNIX time of t = 0.
        seed: The seed of the program's random source.
        config: The program's settings.
        redactions: The fields whose values are removed.
        v: The version of the format.
        events: The kinds of events that the program knew. A replay does not compare events of other kinds, so a program
            with a new one still replays this log.
    """

    program: str
    epoch: float
    seed: int
    config: Mapping[str, Any] = field(default_factory=dict)
    redactions: tuple[str, ...] = tuple(sorted(SECRET_FIELDS))
    v: int = VERSION
    events: tuple[str, ...] = EVENT_KINDS


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a log.

    Attributes:
        seq: Its number.
        t: Seconds since the header's epoch.
        dir: Whether it is an input, an output, an effect or a change of the connection.
        label: What it is: the type of a frame, the kind of an event, the name of an effect.
        data: Its contents as JSON.
        job: The job that it belongs to.
        lag: Of an input of a client, for how many seconds before `t` no timer had fired: a busy event loop handles
            what came in before the timers that have become due meanwhile. 0 if it is not known.
    """

    seq: int
    t: float
    dir: Direction
    label: str
    data: Mapping[str, Any]
    job: str | None = None
    lag: float = 0.0


@dataclass(slots=True)
class _Draft:
    """A mutable row, which `row` turns into a frozen one: this is three times faster."""

    seq: int
    t: float
    dir: Direction
    label: str
    data: Mapping[str, Any]
    job: str | None = None
    lag: float = 0.0

    def row(self) -> Row:
        row: Any = self
        row.__class__ = Row
        made: Row = row
        return made


@dataclass(frozen=True, slots=True)
class Log:
    """A whole log. `torn`: the last line was incomplete and is left out. `name`: the file that it was read from."""

    header: Header
    rows: tuple[Row, ...] = field(repr=False)  # asyncio prints a task's result when it restores signals
    torn: bool = False
    name: str = field(default="", compare=False)


class Tap(Protocol):
    """Where a program records what happens."""

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """Record one row. Secrets are removed."""

    def row_at(self, moment: float, direction: Direction, label: str, data: Mapping[str, Any]) -> None:
        """Record one row with the time of an earlier `moment` of the clock, if nothing was recorded since then."""
        self.row(direction, label, data)

    def newest(self) -> float | None:
        """The moment of the newest row on the program's clock; None if nothing is recorded.

        What a program decides on the row it decides at this moment, as its replay will: the clock may have gone on.
        """
        return None

    def frame(self, direction: Direction, message: m.Message) -> None:
        """Record one frame, unless it only keeps the connection open."""
        if not isinstance(message, m.Ping | m.Pong):
            label, data, job = frame_row(message)
            self.row(direction, label, data, job)


class _Untapped(Tap):
    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """Record nothing."""

    def frame(self, direction: Direction, message: m.Message) -> None:
        """Record nothing."""


untapped: Final[Tap] = _Untapped()
"""The tap of a program that is not recorded."""


class TapPair(Tap):
    """Records to two taps."""

    def __init__(self, first: Tap, second: Tap) -> None:
        self._taps = (first, second)

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """See `Tap.row`."""
        for tap in self._taps:
            tap.row(direction, label, data, job)

    def row_at(self, moment: float, direction: Direction, label: str, data: Mapping[str, Any]) -> None:
        """See `Tap.row_at`."""
        for tap in self._taps:
            tap.row_at(moment, direction, label, data)

    def newest(self) -> float | None:
        """See `Tap.newest`."""
        first, second = (tap.newest() for tap in self._taps)
        return second if first is None else first

    def frame(self, direction: Direction, message: m.Message) -> None:
        """See `Tap.frame`."""
        for tap in self._taps:
            tap.frame(direction, message)


class RowMaker:
    """Gives each row its number and its time, at least `TICK` after the row before.

    Args:
        now: Returns the program's time.
        clean: Removes secrets.
        start: The program's time of the log's epoch.
        fired: Returns the program's time up to which all timers have fired, for the `lag` of inputs.
    """

    def __init__(
        self,
        now: Callable[[], float],
        clean: Callable[[Any], Any] | None = None,
        start: float = 0.0,
        fired: Callable[[], float] | None = None,
    ) -> None:
        self._now, self._clean, self._start, self._fired = now, clean, start, fired
        self._seq = 0
        self._last = 0  # in whole ticks: faster than rounding decimals

    @property
    def newest(self) -> float:
        """The program's time of the newest row."""
        return self._start + self._last / _TICKS

    def make(
        self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None, at: float | None = None
    ) -> Row:
        """Make the next row, of now or of another moment of the program's time."""
        data = data if self._clean is None else self._clean(data)
        self._seq += 1
        ticks = round(((self._now() if at is None else at) - self._start) * _TICKS)
        self._last = ticks if ticks > self._last else self._last + 1
        lag = 0.0
        if self._fired is not None and direction != "out":
            lag = max(0, self._last - round((self._fired() - self._start) * _TICKS)) / _TICKS
        return _Draft(self._seq, self._last / _TICKS, direction, label, data, job, lag).row()


class MemoryTap(Tap):
    """Keeps the rows in a list, for replays and tests. It does not remove secrets.

    Example:
        >>> tap = MemoryTap(time.monotonic)
        >>> tap.row("conn", "up", {})
        >>> tap.rows[0].label
        'up'

    Args:
        now: Returns the seconds since the log's epoch.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.rows: list[Row] = []
        self._maker = RowMaker(now)

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """See `Tap.row`."""
        self.rows.append(self._maker.make(direction, label, data, job))

    def row_at(self, moment: float, direction: Direction, label: str, data: Mapping[str, Any]) -> None:
        """See `Tap.row_at`."""
        self.rows.append(self._maker.make(direction, label, data, None, moment))

    def newest(self) -> float:
        """See `Tap.newest`."""
        return self._maker.newest


def frame_row(message: m.Message) -> tuple[str, dict[str, Any], str | None]:
    """Return label, data and job of the row of a frame."""
    frame = dict(message.frame) if isinstance(message, m.Unknown) else wire.to_frame(message)
    return str(frame.get("type", "")), frame, getattr(message, "request_id", None)


def header_line(header: Header) -> bytes:
    """Write the first line of a log.

    Example:
        >>> file.write(header_line(Header("daemon", time.time(), seed=7)))

    Args:
        header: The header.

    Returns:
        A line of JSON.
    """
    return (
        orjson.dumps({"v": header.v, **{name: getattr(header, name) for name in Header.__slots__ if name != "v"}})
        + b"\n"
    )


def row_line(row: Row) -> bytes:
    """Write a row.

    Example:
        >>> file.writelines(map(row_line, log.rows))

    Args:
        row: The row.

    Returns:
        A line of JSON.
    """
    line = {"seq": row.seq, "t": row.t, "dir": row.dir, "job": row.job, "label": row.label, "data": row.data}
    if row.lag:
        line["lag"] = row.lag
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS) + b"\n"


def read_log(lines: Iterable[bytes]) -> Log:
    """Read a log.

    Example:
        >>> with open("daemon.jsonl", "rb") as file:
        ...     log = read_log(file)

    Args:
        lines: Its lines. An incomplete last line is left out.

    Returns:
        The log.

    Raises:
        UnusableLog: Another line is not valid; the message names it.
    """
    numbered = iter(enumerate(lines, 1))
    header = _header(next(numbered, (1, b""))[1])
    rows: list[Row] = []
    torn = False
    for number, line in numbered:
        if torn:
            raise UnusableLog(f"line {number - 1} is not JSON")
        row = _row(line, number)
        torn = row is None
        if row is not None:
            rows.append(row)
    return Log(header, tuple(rows), torn)


def _header(line: bytes) -> Header:
    try:
        values = orjson.loads(line)
        version = values.pop("v")
    except (ValueError, AttributeError, KeyError, TypeError):
        raise UnusableLog('the first line is no header ({"v":2,"program":…})') from None
    if version not in range(1, VERSION + 1):
        raise UnusableLog(f"format version {version!r}; this program reads up to version {VERSION}; update it")
    try:
        redactions, events = (tuple(values.get(name, ())) for name in ("redactions", "events"))
        return Header(**{**values, "redactions": redactions, "events": events or UNNAMED_KINDS})
    except TypeError as error:
        raise UnusableLog(f"the header is incomplete: {error}") from None


def _row(line: bytes, number: int) -> Row | None:
    try:
        values = orjson.loads(line)
    except ValueError:
        return None
    try:
        return _Draft(**values).row()
    except TypeError as error:
        raise UnusableLog(f"line {number} is no row: {error}") from None


def ended_jobs(log: Log) -> set[str]:
    """Return the jobs that have an outcome in a client's log."""
    return {row.job for row in log.rows if row.dir == "out" and row.job and row.data.get("event") in OUTCOME_KINDS}


def jobs_of(log: Log) -> Iterator[str]:
    """Return the jobs in a log, in order of appearance."""
    return iter(dict.fromkeys(row.job for row in log.rows if row.job is not None))
