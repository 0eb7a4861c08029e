"""The recorded incidents of tests/logs/, and what stands in them."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wakestream.streams.recording.recording import Log, Row, read_log

LOGS = Path(__file__).parents[2] / "logs"

NAMES = tuple(
    sorted(path.relative_to(LOGS).as_posix() for path in LOGS.rglob("*.jsonl*") if path.parent.name != "examples")
)
"""Every log, by its path below tests/logs; those of the examples' own pipelines are in the examples' tests."""


def log(name: str) -> Log:
    """A log of the library."""
    data = (LOGS / name).read_bytes()
    text = gzip.decompress(data) if name.endswith(".gz") else data
    return read_log(text.splitlines(keepends=True))


def events(log: Log, kind: str = "", job: str | None = None) -> list[dict[str, Any]]:
    """What a client's jobs went through."""
    told = (row for row in log.rows if row.dir == "out" and "event" in row.data and job in (None, row.job))
    return [dict(row.data) for row in told if kind in ("", row.label)]


def kinds(log: Log) -> list[str]:
    """The events of a client's jobs by name, each run of the same one counted once."""
    names = [str(event["event"]) for event in events(log)]
    return [name for last, name in zip(["", *names], names, strict=False) if name != last]


def rows(log: Log, direction: str, label: str, when: Callable[[Row], bool] = lambda _: True) -> list[Row]:
    """The rows of one kind."""
    return [row for row in log.rows if (row.dir, row.label) == (direction, label) and when(row)]


def ended(log: Log) -> Iterator[tuple[str, str]]:
    """Each job with its outcome."""
    return ((str(row.job), row.label) for row in log.rows if row.label in OUTCOMES and row.dir == "out")


OUTCOMES = frozenset({"done", "failed", "timed_out", "cancelled"})
