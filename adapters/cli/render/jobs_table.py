"""The daemon's jobs as a table: files, state, percent, time left and cost, as much of it as the lines have room for."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.table import bar, fitted
from wakestream.operators.model import events as e
from wakestream.operators.model.events import LIPSYNC
from wakestream.streams.protocol.printable import printable
from wakestream.streams.recording.event_json import event_from

# How far a job is and how long its present step still takes, between its events, too.

REPORTS = 6
"""The last reports, from which the rate is known."""

LONGEST_STEP = 5.0
"""The most seconds for which the value grows after a report, if reports come rarely."""


class Smooth:
    """A value that grows to `total`. Between two reports it grows at the rate of the last ones.

    It never goes beyond what the next report is expected to say, and never back: where it went on too far, it waits.
    A report below the last one is a new beginning.

    Args:
        total: The value at the end.

    Example:
        >>> render = Smooth(100.0)
        >>> render.report(10.0, at=0.0)
        >>> render.report(20.0, at=2.0)
        >>> render.at(3.0), render.at(60.0), render.left(3.0)
        (25.0, 30.0, 15.0)
    """

    def __init__(self, total: float) -> None:
        self.total = total
        self._reports: deque[tuple[float, float]] = deque(maxlen=REPORTS)
        self._shown = 0.0

    def report(self, value: float, at: float) -> None:
        """Note the value at a time, in seconds on any clock."""
        if self._reports and value < self._reports[-1][1]:
            self._reports.clear()
            self._shown = 0.0
        self._reports.append((at, value))

    @property
    def rate(self) -> float | None:
        """The growth in a second; None if it is not known, or if there is none."""
        if len(self._reports) < 2:
            return None
        (first_at, first), *_, (last_at, last) = self._reports
        return (last - first) / (last_at - first_at) if last_at > first_at and last > first else None

    def at(self, now: float) -> float:
        """The value now; 0 before the first report."""
        if not self._reports:
            return 0.0
        at, value = self._reports[-1]
        value += (self.rate or 0.0) * min(max(0.0, now - at), self._step())
        self._shown = max(self._shown, min(value, self.total))
        return self._shown

    def _step(self) -> float:
        """Seconds until the next report is expected."""
        if len(self._reports) < 2:
            return 0.0
        return min(self._reports[-1][0] - self._reports[-2][0], LONGEST_STEP)

    def left(self, now: float) -> float | None:
        """Seconds until the end at this rate; None if the rate is not known."""
        if (rate := self.rate) is None:
            return None
        at, value = self._reports[-1]
        return max(0.0, (self.total - value) / rate - (now - at))


Amount = tuple[float, float]
"""What is done, of how much."""


def amount(event: e.JobEvent | None) -> Amount | None:
    """How much of a transfer or of the rendering is done; None for any other event, and where it is not known."""
    match event:
        case e.Uploading() | e.Downloading() | e.Storing() if event.of:
            return float(event.bytes), float(event.of)
        case e.Remote(percent=float(percent)):
            return percent, 100.0
        case e.Running(percent=percent, status=status) if status != "queued":
            return percent, 100.0
    return None


class JobProgress:
    """Reads a job's events, of which only the last ones may be known. Times are in seconds on one clock."""

    def __init__(self) -> None:
        self._last: e.JobEvent | None = None
        self._at = 0.0
        self._smooth: Smooth | None = None

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> JobProgress:
        """That of a job as the daemon lists it."""
        progress = cls()
        progress.read(job)
        return progress

    @property
    def rate(self) -> float | None:
        """What is done in a second, in bytes or percent; None if it is not known."""
        return self._smooth.rate if self._smooth is not None else None

    @property
    def counts_bytes(self) -> bool:
        """Whether a transfer runs."""
        return isinstance(self._last, e.Uploading | e.Downloading | e.Storing)

    @property
    def waits(self) -> bool:
        """Whether the job waits for its turn."""
        return words.waits_for_turn(self._last)

    def in_depot(self, stage: str) -> bool:
        """Whether its files wait in the depot for a GPU, in this stage."""
        waits = stage == "render" and isinstance(self._last, e.Waking | e.Stored)
        return waits or (isinstance(self._last, e.Remote) and self._last.step == "wait")

    @property
    def place(self) -> int | None:
        """The place in the queue of the hub, while a GPU is on, or of the worker; None if it is in none, or unknown."""
        match self._last:
            case e.Running(status="queued", position=place, why="") | e.Queued(phase="queued", position=place):
                return place
            case e.Waking(phase="queued", position=place):
                return place
        return None

    def show(self, event: e.JobEvent, at: float) -> None:
        """Read an event that happened at this time."""
        moved, before = amount(event), self._last
        if moved is None:
            self._smooth = None
        else:
            done, total = moved
            if self._smooth is None or type(before) is not type(event) or self._smooth.total != total:
                self._smooth = Smooth(total)
            self._smooth.report(done, at)
        self._last, self._at = event, at

    def read(self, job: Mapping[str, Any]) -> None:
        """Read a job as the daemon lists it: its last event, and the first one of the same row."""
        last = job.get("last")
        if last is None or (self._last is not None and last.get("at", 0.0) <= self._at):
            return
        before = job.get("first") if self._smooth is None else None
        for plain in ([before] if before else []) + [last]:
            event = event_from(plain)
            if event is not None:
                self.show(event, float(plain.get("at", 0.0)))

    def done(self, now: float) -> float | None:
        """What is done, in bytes or percent; None where that is not known."""
        return None if self._smooth is None else self._smooth.at(now)

    def percent(self, now: float) -> float | None:
        """Percent of the present step; None where that is not known."""
        return None if self._smooth is None else 100.0 * self._smooth.at(now) / self._smooth.total

    def left(self, now: float) -> float | None:
        """Seconds until the step ends, the GPU is expected, or a pause ends; None where that is not known."""
        if self._smooth is not None:
            return self._smooth.left(now)
        if isinstance(self._last, e.Queued | e.Waking):
            return words.hoped_for(self._last, now - self._at)
        return self.pause(now)

    def pause(self, now: float) -> float | None:
        """Seconds until the next try of a job that pauses; None for any other."""
        return words.pause_left(self._last, now - self._at)


BAR = 10
"""Columns of a job's bar."""

_RIGHT = ("percent", "eta", "cost", "priority")
_SPARE = (
    *(("output", 40), ("since", 30), ("bar", 24), ("kind", 20), ("priority", 20)),
    *((name, 12) for name in ("cost", "eta", "percent")),
)
"""The columns that are left out where there is no room, in this order, while the file names have fewer columns."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What jobs cost by id, with the currency."""

    jobs: Mapping[str, float]
    currency: str = ""

    def text(self, job: str) -> str:
        """The cost of a job; empty if it is not known."""
        amount = self.jobs.get(job)
        return "" if amount is None else f"{amount:.2f} {self.currency}".rstrip()


def jobs_table(
    jobs: Sequence[tuple[Mapping[str, Any], JobProgress]], costs: Costs, now: float, columns: int | None = None
) -> list[str]:
    """The jobs as lines below a heading.

    Args:
        jobs: Each job as the daemon lists it, with its progress.
        costs: What they cost. Without any known cost there is no such column.
        now: UNIX seconds.
        columns: Of a line; None for no limit.
    """
    rows = [_row(job, progress, costs, now) for job, progress in jobs]
    names = [name for name in _names(rows) if name != "bar" or columns is not None]
    shown = [{name: t(f"jobs.{name}") if name != "bar" else "" for name in names}, *rows]
    return fitted(shown, "files", _SPARE, _RIGHT, columns)


def _names(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The columns: bar, cost and priority are shown if a job has them, and the kind if one is not the usual one."""
    idle = {"bar": "", "cost": "", "priority": "0", "kind": LIPSYNC}
    return [name for name in rows[0] if any(row[name] != idle.get(name) for row in rows)]


def _row(job: Mapping[str, Any], progress: JobProgress, costs: Costs, now: float) -> dict[str, str]:
    open_ = job["state"] == "open"
    percent, left = (progress.percent(now), progress.left(now)) if open_ else (None, None)
    return {
        "job": job["id"],
        "files": files(job),
        "kind": printable(str(job.get("kind", LIPSYNC))),
        "state": _state(job, progress, now),
        "bar": "" if percent is None else bar(percent / 100, BAR),
        "percent": "" if percent is None else f"{percent:.0f} %",
        "eta": "" if left is None else words.duration(left, tenths=False),
        "cost": costs.text(job["id"]),
        "since": words.duration(max(0.0, now - (job["ended_at"] or job["accepted_at"])), tenths=False),
        "priority": str(job["priority"]),
        "output": (job["outcome"] or {}).get("path") or job["output"],  # another name, if that one was taken meanwhile
    }


def files(job: Mapping[str, Any]) -> str:
    """The names of a job's input files; its kind if it has none."""
    names = [name for field, name in job["names"].items() if field != "output"]
    return printable(" + ".join(names) or str(job.get("kind", "")))


def _state(job: Mapping[str, Any], progress: JobProgress, now: float) -> str:
    """The stage of an open job, or that it pauses; how another one ended."""
    if job["state"] != "open":
        state = words.state(job["state"])
        return t("state.reused", state=state) if (job["outcome"] or {}).get("reused") else state
    if progress.pause(now) is not None:
        return t("state.paused")
    if progress.waits:
        return t("state.waits")
    if progress.in_depot(job["stage"]):
        return t("state.depot")
    place = progress.place
    return words.state(job["stage"]) if place is None else t("state.queued", place=place)
