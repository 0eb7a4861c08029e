"""Report each job of a log and of its replay: stages with their times, the outcome, and the differences. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from wakestream.streams.recording.event_json import OUTCOME_KINDS
from wakestream.streams.recording.recording import Log, Row
from wakestream.streams.recording.timeline import spent, stage_times_of_kinds
from wakestream.streams.replay.divergence import Divergence
from wakestream.streams.replay.replay import Replayed

UNFINISHED = "unfinished"
"""The outcome of a job whose end is not in the log."""

_BADNESS = {UNFINISHED: 1, "failed": 2, "timed_out": 2, "no_capacity": 2, "gone": 2}


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended: its last event (`kind`), and the stage that timed out or the error code (`detail`)."""

    kind: str
    detail: str = ""
    why: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.detail}" if self.detail else self.kind

    @property
    def waited(self) -> bool:
        """Whether the job timed out or has not ended."""
        return self.kind in ("timed_out", UNFINISHED)

    def worse_than(self, other: JobEnd) -> bool:
        """Whether this end is worse for the user than `other`."""
        return _BADNESS.get(self.kind, 0) > _BADNESS.get(other.kind, 0)


@dataclass(frozen=True, slots=True)
class JobReport:
    """One job, or the one machine of a monitor's log. Times are seconds; `start` counts from the log's epoch."""

    job: str
    start: float
    seconds: float
    stages: Mapping[str, float]
    outcome: JobEnd
    kinds: tuple[str, ...]
    """The kinds of its events, or the labels of its frames, in order."""


@dataclass(frozen=True, slots=True)
class Report:
    """All jobs as recorded (`then`) and as replayed (`now`), and the first difference of each stream."""

    program: str
    then: Mapping[str, JobReport]
    now: Mapping[str, JobReport]
    divergences: tuple[Divergence, ...] = ()
    of_job: Mapping[str, Divergence] = field(default_factory=dict)

    @property
    def changed(self) -> tuple[str, ...]:
        """The jobs whose outcome has changed."""
        return tuple(job for job in self.now if job in self.then and self.then[job].outcome != self.now[job].outcome)


def report(replayed: Replayed) -> Report:
    """Report each job as recorded and as replayed."""
    of_job: dict[str, Divergence] = {}
    for divergence in by_weight(replayed.divergences):
        if divergence.row is not None and divergence.row.job is not None:
            of_job.setdefault(divergence.row.job, divergence)
    then, now = (jobs_in(log) for log in (replayed.recorded, replayed.again))
    return Report(replayed.recorded.header.program, then, now, replayed.divergences, of_job)


def by_weight(divergences: Iterable[Divergence]) -> list[Divergence]:
    """The earliest first, but last the calls that a job no longer makes: they follow from its different end."""
    return sorted(
        divergences, key=lambda divergence: str(divergence.stream).endswith(" effects") and divergence.got is None
    )


def jobs_in(log: Log) -> dict[str, JobReport]:
    """The jobs of `log`, in the order of their first rows."""
    return {job.job: job for job in _READERS[log.header.program](log)}


def _client_jobs(log: Log) -> Iterator[JobReport]:
    starts: dict[str, float] = {}
    events: defaultdict[str, list[Row]] = defaultdict(list)
    for row in log.rows:
        if row.job is not None and row.label == "job.accept":
            starts.setdefault(row.job, row.t)
        elif row.job in starts and row.dir == "out" and "event" in row.data:
            events[row.job].append(row)
    for job, start in starts.items():
        yield _client_job(job, start, events[job])


def _client_job(job: str, start: float, events: Sequence[Row]) -> JobReport:
    stages = stage_times_of_kinds(((row.t, row.label) for row in events), start)
    seconds = events[-1].t - start if events else 0.0
    return JobReport(job, start, seconds, stages, _end(events), tuple(row.label for row in events))


def _end(events: Sequence[Row]) -> JobEnd:
    last = events[-1] if events else None
    if last is None or last.label not in OUTCOME_KINDS:
        return JobEnd(UNFINISHED)
    detail = {"timed_out": "stage", "failed": "code"}.get(last.label, "")
    return JobEnd(last.label, str(last.data.get(detail, "")), str(last.data.get("why", "")))


_HUB_STAGES = {
    "gpu.job.submit": "submit", "gpu.power.offline": "wake", "ack": "held", "gpu.job.done": "", "gpu.job.cancel": "",
    "gpu.job.result": "", "error": "", "gpu.power.boot.result": "",
}  # fmt: skip
_HUB_ENDS = {
    "gpu.job.done": "done", "gpu.job.result": "done", "gpu.job.cancel": "cancelled", "error": "failed",
    "gpu.power.boot.result": "failed",
}  # fmt: skip


def _hub_jobs(log: Log) -> Iterator[JobReport]:
    rows: defaultdict[str, list[Row]] = defaultdict(list)
    for row in log.rows:
        submitted = row.dir == "in" and row.label == "gpu.job.submit"
        if row.job is not None and (submitted or row.job in rows) and row.label in _HUB_STAGES:
            rows[row.job].append(row)
    for job, its in rows.items():
        yield _hub_job(job, [row for row in its if row.label != "gpu.job.submit" or row.dir == "in"])


def _hub_job(job: str, rows: Sequence[Row]) -> JobReport:
    end = next((row for row in rows if row.label in _HUB_ENDS), None)
    until = rows.index(end) + 1 if end is not None else len(rows)
    lived = rows[:until]
    stages = spent([(row.t, _HUB_STAGES[row.label]) for row in lived])
    labels = tuple(row.label for row in lived)
    return JobReport(job, rows[0].t, lived[-1].t - rows[0].t, stages, _hub_end(end), labels)


def _hub_end(end: Row | None) -> JobEnd:
    if end is None:
        return JobEnd(UNFINISHED)
    frame = end.data.get("frame", {})
    kind = "failed" if frame.get("error") else _HUB_ENDS[end.label]
    if kind != "failed":
        return JobEnd(kind)
    code = "boot_failed" if end.label == "gpu.power.boot.result" else frame.get("code") or "error"
    return JobEnd(kind, str(code), str(frame.get("msg") or frame.get("error_msg") or ""))


def _machine(log: Log) -> Iterator[JobReport]:
    rows = [row for row in log.rows if row.dir == "out" and row.label == "gpu.power.state"]
    if not rows:
        return
    start, end = rows[0].t, log.rows[-1].t
    moves = [(row.t, str(row.data.get("state"))) for row in rows]
    last, why = moves[-1][1], str(rows[-1].data.get("msg") or "")
    gpu = str(rows[0].data.get("gpu"))
    kinds = tuple(state for _, state in moves)
    yield JobReport(gpu, start, end - start, spent([*moves, (end, "")]), JobEnd(last, "", why), kinds)


_READERS: Mapping[str, Callable[[Log], Iterator[JobReport]]] = {
    "daemon": _client_jobs,
    "hub": _hub_jobs,
    "monitor": _machine,
}
