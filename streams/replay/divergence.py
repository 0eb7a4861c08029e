"""Compare a recorded log with the log of its replay: the first difference of each job or connection."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from operator import attrgetter
from typing import Any

import orjson

from wakestream.streams.recording.event_json import EVENT_KINDS
from wakestream.streams.recording.recording import Header, Log, Row, ended_jobs
from wakestream.streams.replay.input_rows import LINK_FRAMES, frame_of

MEASURED = frozenset({"waited", "now", "ts", "eta", "retry_in", "capability_expires"})
"""Fields that hold a measured time. They are not compared."""

ROW = ("dir", "label", "data")

LAG = 1e-3
"""Seconds that an event loop may be late: events closer together may come in any order."""

REST = 1.0
"""Seconds by which the rest of a pause may differ: jobs that pause together count it from different moments."""

LATE = 0.1
"""Seconds by which a replay may act later than recorded. A loaded machine is late in the log, and never early."""

EARLY = 1.0
"""Seconds by which a replay may act earlier than recorded."""

EARLY_SHARE = 0.2
"""The share of the time since the input before it by which a replay may act earlier, if that is more than `EARLY`."""

MOST_LINES = 12
"""Lines that are shown of one row: of a hub's state many may differ."""

_REST = re.compile(r"\bin \d+ s\b")
"""The rest of a pause in the text of its note."""

_PLACE = re.compile(r" \([^():]+:\d+\)$")
"""The source line in the text of an internal failure. It changes with every edit of that file."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference in one stream (a job, or a connection of the hub).

    `expected` is the row in the log, `got` the row in the replay; one may be missing. If both logs have both rows, at
    most `LAG` seconds apart, `apart` is that time in the recorded one: the order of such rows is chance. If only their
    times differ, the replay is `late` by so many seconds (less than 0: early).
    """

    stream: Hashable
    expected: Row | None
    got: Row | None
    apart: float | None = None
    late: float | None = None

    @property
    def row(self) -> Row | None:
        """The recorded row, or the replay's row if the log has none."""
        return self.expected or self.got

    @property
    def seq(self) -> int:
        """The number of the recorded row, or of the replay's row if the log has none."""
        return self.row.seq if self.row is not None else 0

    @property
    def label(self) -> str:
        """The label of the missing row, or of the additional one."""
        return self.row.label if self.row is not None else ""

    def lines(self) -> list[str]:
        """A short diff of the two rows: `-` is the log, `+` the replay."""
        sides = ("-", self.expected, self.got), ("+", self.got, self.expected)
        return [line for side in sides for line in _side(*side, timed=self.late is not None)]


def divergences(recorded: Log, again: Log, *, lenient: bool = False, ignore_time: bool = False) -> list[Divergence]:
    """Compare two logs: the frames sent, the events of jobs, and the arguments of effects, in the order of each stream.

    Of a client, also when its jobs act: at most `LATE` later than recorded, or `EARLY` earlier. (A hub and a monitor
    act at the moment of their input.)

    Rows that the replay has after the point where the log was cut off are not a difference, nor are events of a kind
    that the recorded program did not know.

    Example:
        >>> divergences(log, (await replay(log)).again)
        []

    Args:
        recorded: The log.
        again: The log of its replay.
        lenient: Whether to ignore fields that only the replay has.
        ignore_time: Whether to compare no times.

    Returns:
        The first difference of each stream, earliest first. Jobs whose pipeline now crashes come before all others,
        since their other differences follow from the crash.
    """
    program = recorded.header.program
    then, now = _streams(recorded.header, recorded.rows), _streams(recorded.header, again.rows)
    beyond = _beyond(recorded, again)
    late = _on_time if ignore_time or program != "daemon" else partial(_late, recorded.rows)
    first = (
        _first(stream, then[stream], now[stream], lenient, beyond, late) for stream in dict.fromkeys([*then, *now])
    )
    differences = [difference for difference in first if difference is not None]
    broken = crashes(recorded, again) if differences else {}
    return sorted(differences, key=lambda difference: (difference.stream not in broken, difference.seq))


def crashes(recorded: Log, again: Log) -> dict[str, str]:
    """The jobs whose pipeline crashes in the replay only, with the text of the error."""
    then = {row.job for row in recorded.rows if _broke(row)}
    return {str(row.job): str(row.data["why"]) for row in again.rows if _broke(row) and row.job not in then}


def _broke(row: Row | None) -> bool:
    return row is not None and row.label == "failed" and row.data.get("code") == "internal"


Beyond = Callable[[Row], bool]


def _beyond(recorded: Log, again: Log) -> Beyond:
    """Return a test for rows that only the replay has: whether the row comes after the end of the log.

    For a client, that is every row of a job without an outcome. A killed hub or monitor may have decided to send more
    than its log has, so nothing is known about rows after the last one.
    """
    if recorded.header.program == "daemon":
        ended = ended_jobs(recorded)
        return lambda got: got.job not in ended
    then, now = (list(filter(partial(_streams_of, recorded.header), log.rows)) for log in (recorded, again))
    unknown = {row.seq for row in now[len(then) :]}
    return lambda got: got.seq in unknown


Late = Callable[[Row, Row], float | None]


def _on_time(expected: Row, got: Row) -> None:
    """Compare no times."""


def _late(recorded: Sequence[Row], expected: Row, got: Row) -> float | None:
    """Seconds by which the replay acted later than recorded (less than 0: earlier), if that is not allowed."""
    late = got.t - expected.t
    if -EARLY <= late <= LATE:
        return None
    before = recorded[: bisect_left(recorded, expected.seq, key=attrgetter("seq"))] if late < 0 else ()
    inputs = (row.t for row in reversed(before) if row.dir != "out" and row.job in (None, expected.job))
    since = next(inputs, 0.0)
    return late if late > 0 or -late > EARLY_SHARE * (expected.t - since) else None


def _first(
    stream: Hashable, then: list[Row], now: list[Row], lenient: bool, beyond: Beyond, late: Late
) -> Divergence | None:
    for place, (expected, got) in enumerate(zip_longest(then, now)):
        if expected is None and beyond(got):
            return None
        if expected is None or got is None or not _alike(expected, got, lenient):
            return Divergence(stream, expected, got, _apart(then[place:], now[place:], lenient))
        if (seconds := late(expected, got)) is not None:
            return Divergence(stream, expected, got, late=seconds)
    return None


def _apart(then: list[Row], now: list[Row], lenient: bool) -> float | None:
    """Seconds from the first row of `then` to the first one of `now`, if each log has both, at most `LAG` apart."""
    if not then or not now or _later(now, then[0], lenient) is None:
        return None
    return _later(then, now[0], lenient)


def _later(rows: list[Row], wanted: Row, lenient: bool) -> float | None:
    """Seconds from the first of `rows` to the one that equals `wanted`; None if it is more than `LAG`."""
    for later in rows[1:]:
        apart = later.t - rows[0].t
        if apart > LAG:
            return None
        if _alike(later, wanted, lenient):
            return apart
    return None


def _streams(header: Header, rows: Iterable[Row]) -> defaultdict[Hashable, list[Row]]:
    streams: defaultdict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        for stream in _streams_of(header, row):
            streams[stream].append(row)
    return streams


def _streams_of(header: Header, row: Row) -> Iterable[Hashable]:
    program = header.program
    if program == "hub":
        # In a replay, journaling takes no time, so no receiver disconnects before the frame is sent.
        if row.label == "started" and "journal" in row.data:  # it depends on the hub before it
            return ("journal",)
        return (*row.data["to"], *row.data.get("gone", ())) if row.dir == "out" else ()
    if row.dir == "out" and "event" in row.data:  # nearly all, where many jobs wait
        return (row.job,) if row.label in header.events or row.label not in EVENT_KINDS else ()
    if row.dir == "effect":
        # A separate stream, since the order of a call and an event at the same moment is chance.
        return (f"{row.job} effects",) if program == "daemon" else ()
    if row.dir != "out" or row.label in LINK_FRAMES:
        return ()
    if program == "daemon" and row.label == "gpu.depot.progress":  # how often depends on measured time
        return ()
    return (row.job,) if program != "daemon" or row.label.startswith(("gpu.job.", "gpu.depot.")) else ()


def _alike(expected: Row, got: Row, lenient: bool) -> bool:
    if (expected.dir, expected.label) != (got.dir, got.label):
        return False
    if expected.data == got.data:  # nearly always true, and fast
        return True
    return _same(_compared(expected), _compared(got), lenient)


def _compared(row: Row) -> Any:
    if _broke(row):
        return {**row.data, "why": _PLACE.sub("", str(row.data.get("why")))}
    if row.label == "note" and "rests" in (row.data.get("data") or ()):
        return {**row.data, "text": _REST.sub("", str(row.data.get("text")))}
    return _decided(row)


def _decided(row: Row) -> Any:
    """The part of a row that the program decides: of an effect, only the arguments."""
    if row.dir == "effect":
        return row.data.get("args", row.data)
    return frame_of(row)


def _same(expected: Any, got: Any, lenient: bool) -> bool:
    if expected == got:  # nearly always true, and fast
        return True
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        names = expected.keys() if lenient else expected.keys() | got.keys()
        return all(_alike_in(name, expected.get(name), got.get(name), lenient) for name in names - MEASURED)
    if isinstance(expected, list | tuple) and isinstance(got, list | tuple):  # lists from JSON, tuples from the program
        return len(expected) == len(got) and all(_same(a, b, lenient) for a, b in zip(expected, got, strict=True))
    return False


def _alike_in(name: object, expected: Any, got: Any, lenient: bool) -> bool:
    if name == "rests" and isinstance(expected, float | int) and isinstance(got, float | int):
        return abs(expected - got) <= REST
    return _same(expected, got, lenient)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values in a state, each with its path; the items of a dictionary are pairs in a row of it."""
    if isinstance(value, list) and value and all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        value = {key if isinstance(key, str) else str(key): inner for key, inner in value}
    if not isinstance(value, Mapping):
        yield path, value
        return
    for name, inner in value.items():
        yield from _leaves(inner, f"{path}.{name}" if path else name)


def _side(sign: str, row: Row | None, other: Row | None, *, timed: bool) -> list[str]:
    if row is None:
        return [f"{sign} (nothing)"]
    head = f"{sign} {row.dir} {row.label}"
    if timed:
        return [head, f"{sign}   at {row.t:.3f} s"]
    mine, theirs = _flat(row), _flat(other) if other is not None and other.label == row.label else {}
    apart = (f"{sign}   {name} = {value}" for name, value in mine.items() if theirs.get(name) != value)
    return [head, *islice(apart, MOST_LINES)]


def _flat(row: Row) -> dict[str, str]:
    data = _decided(row)
    if not isinstance(data, Mapping):  # the arguments of a user's effect may be any value
        data = {"args": data}
    if row.label == "started":
        data = dict(_leaves({stored["field"]: stored["items"] for stored in data.get("state", ())}))
    return {name: orjson.dumps(value).decode()[:200] for name, value in data.items() if name not in MEASURED}
