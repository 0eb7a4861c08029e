"""Two logs side by side: what a program did then, and what it does now; the first place where they part."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import orjson

from wakestream.streams.recording.recording import Log, Row, ended_jobs

MEASURED = frozenset({"waited", "now", "ts", "eta"})
"""Fields that hold a measured time: alike only to the run's own milliseconds."""

BY_LINK = frozenset({"register", "ping", "pong"})
"""Frames that the link sends by itself, beneath what is replayed."""

ROW = ("dir", "label", "data")

LAG = 1e-3
"""Seconds that a loop may be late by: what is due closer together may come in any order."""

_PLACE = re.compile(r" \([^():]+:\d+\)$")
"""Where an internal failure comes from: a line that moves with every edit of the file, and no decision."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first difference in one stream (a job, or a connection of the hub).

    `expected` is the log's row, `got` the replay's; one of them is None where the other has a row too many. `apart` is
    set where the log has both, so many seconds (at most `LAG`) apart: the order of what happens side by side at one
    moment is chance.
    """

    stream: Hashable
    expected: Row | None
    got: Row | None
    apart: float | None = None

    @property
    def seq(self) -> int:
        """The recorded row's number; that of the replay's own row where the log has none."""
        row = self.expected or self.got
        return row.seq if row is not None else 0

    @property
    def label(self) -> str:
        """What should have happened, or what happened in excess."""
        row = self.expected or self.got
        return row.label if row is not None else ""

    def lines(self) -> list[str]:
        """A small diff: `-` is the log, `+` the replay; only what differs."""
        return [*_side("-", self.expected, self.got), *_side("+", self.got, self.expected)]


def divergences(recorded: Log, again: Log, *, lenient: bool = False) -> list[Divergence]:
    """The first difference of each stream, earliest first; empty when the replay did as the log says.

    Where the program now breaks, that comes before all else: what it did not do any more follows from it.

    Compared are frames sent, events of jobs, and the arguments of effects, in their order within each stream. With
    `lenient`, fields that only the replay has are tolerated. What the replay does beyond the point where a log was cut
    off is no difference.
    """
    program = recorded.header.program
    then, now = _streams(program, recorded.rows), _streams(program, again.rows)
    beyond = _beyond(recorded, again)
    found = [_first(stream, then[stream], now[stream], lenient, beyond) for stream in dict.fromkeys([*then, *now])]
    broken = crashes(recorded, again)
    return sorted((each for each in found if each is not None), key=lambda each: (each.stream not in broken, each.seq))


def crashes(recorded: Log, again: Log) -> dict[str, str]:
    """The jobs of a client's log whose pipeline now breaks where it did not then: why, in the error's own words."""
    then = {row.job for row in recorded.rows if _broke(row)}
    return {str(row.job): str(row.data["why"]) for row in again.rows if _broke(row) and row.job not in then}


def _broke(row: Row | None) -> bool:
    return row is not None and row.label == "failed" and row.data.get("code") == "internal"


Beyond = Callable[[Row], bool]


def _beyond(recorded: Log, again: Log) -> Beyond:
    """Whether a row that only the replay has lies where the log tells no more.

    A client's job was cut off when it has no outcome. A hub or a monitor that is killed, or whose log is torn, may have
    sent less than it had decided: what it sends after all that stands in the log is not known.
    """
    program = recorded.header.program
    if program == "daemon":
        ended = ended_jobs(recorded)
        return lambda got: got.job not in ended
    then, now = (list(filter(partial(_streams_of, program), log.rows)) for log in (recorded, again))
    unknown = {row.seq for row in now[len(then) :]}
    return lambda got: got.seq in unknown


def _first(stream: Hashable, then: list[Row], now: list[Row], lenient: bool, beyond: Beyond) -> Divergence | None:
    for place, (expected, got) in enumerate(zip_longest(then, now)):
        if expected is None and beyond(got):
            return None
        if expected is None or got is None or not _alike(expected, got, lenient):
            return Divergence(stream, expected, got, _apart(then, place, got, lenient))
    return None


def _apart(then: list[Row], place: int, got: Row | None, lenient: bool) -> float | None:
    """How long after the row at `place` the log has what the replay has there already, if no more than `LAG`."""
    if got is None or place >= len(then):
        return None
    for later in then[place + 1 :]:
        apart = later.t - then[place].t
        if apart > LAG:
            return None
        if _alike(later, got, lenient):
            return apart
    return None


def _streams(program: str, rows: Iterable[Row]) -> defaultdict[Hashable, list[Row]]:
    streams: defaultdict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        for stream in _streams_of(program, row):
            streams[stream].append(row)
    return streams


def _streams_of(program: str, row: Row) -> Iterable[Hashable]:
    if program == "hub":
        # In a replay nothing takes time to journal, so that nobody is gone when a frame is sent.
        return (*row.data["to"], *row.data.get("gone", ())) if row.dir == "out" else ()
    if row.dir == "out" and "event" in row.data:  # nearly all, where many jobs wait
        return (row.job,)
    if row.dir == "effect":
        # A stream of its own: a call and an event at the same moment have no order between them.
        return (f"{row.job} effects",) if program == "daemon" else ()
    if row.dir != "out" or row.label in BY_LINK:
        return ()
    return (row.job,) if program != "daemon" or row.label.startswith("gpu.job.") else ()


def _alike(expected: Row, got: Row, lenient: bool) -> bool:
    if (expected.dir, expected.label) != (got.dir, got.label):
        return False
    return _same(_compared(expected), _compared(got), lenient)


def _compared(row: Row) -> Any:
    return {**row.data, "why": _PLACE.sub("", str(row.data.get("why")))} if _broke(row) else _decided(row)


def _decided(row: Row) -> Any:
    """Of an effect the program decides the arguments, the world the outcome."""
    if row.dir == "effect":
        return row.data.get("args", row.data)
    frame = row.data.get("frame")  # a hub's row holds one; the event `running` has a number of that name
    return frame if isinstance(frame, Mapping) else row.data


def _same(expected: Any, got: Any, lenient: bool) -> bool:
    if expected == got:  # nearly always, and quickly told
        return True
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        names = expected.keys() if lenient else expected.keys() | got.keys()
        return all(_same(expected.get(name), got.get(name), lenient) for name in names - MEASURED)
    if isinstance(expected, list | tuple) and isinstance(got, list | tuple):  # of JSON, and of ours
        return len(expected) == len(got) and all(_same(a, b, lenient) for a, b in zip(expected, got, strict=True))
    return False


def _side(sign: str, row: Row | None, other: Row | None) -> list[str]:
    if row is None:
        return [f"{sign} (nothing)"]
    head = f"{sign} {row.dir} {row.label}"
    mine, theirs = _flat(row), _flat(other) if other is not None and other.label == row.label else {}
    return [head, *(f"{sign}   {name} = {value}" for name, value in mine.items() if theirs.get(name) != value)]


def _flat(row: Row) -> dict[str, str]:
    data = _decided(row)
    if not isinstance(data, Mapping):  # a user's effect may have been given anything
        data = {"args": data}
    return {name: orjson.dumps(value).decode()[:200] for name, value in data.items() if name not in MEASURED}
