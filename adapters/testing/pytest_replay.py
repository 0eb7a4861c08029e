"""Replays and records logs for the pytest plugin, and describes divergences."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import NoReturn, TypeVar, cast

import pytest

from wakestream.adapters.telemetry import recordings as logs_on_disk
from wakestream.adapters.testing.io_guard import no_real_io
from wakestream.adapters.testing.virtual_loop import VirtualDeadlock, run_virtual
from wakestream.operators.lifecycle.outcome import is_outcome
from wakestream.operators.model.events import JobEvent, Outcome
from wakestream.streams.jobs.daemon_pipeline import own_effects
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build
from wakestream.streams.recording.recording import Log, Row, UnusableLog
from wakestream.streams.recording.timeline import stage_times
from wakestream.streams.replay import divergence as streams_divergence
from wakestream.streams.replay import replay as streams_replay
from wakestream.streams.replay.divergence import Divergence
from wakestream.streams.replay.recorded_ports import Watch
from wakestream.streams.replay.report import by_weight

Record = Callable[[Path], Awaitable[None] | None]
"""Records exactly one log into the given empty folder; a coroutine runs on a real loop."""

E = TypeVar("E")
Timed = list[tuple[float, JobEvent]]

SHOWN = 24
"""Lines of a difference that a failure shows."""


@dataclass(slots=True)
class ReplayMark:
    """The arguments of a test's mark, and its test."""

    item: pytest.Item
    log: str | Path
    _: KW_ONLY
    strict: bool | None = None
    lenient: bool = False
    ignore_time: bool = False
    settings: Mapping[str, float | None] | None = None
    build: Build | None = None
    record: Record | None = None

    def __post_init__(self) -> None:
        """A test that changes settings asks what differs, so it is not strict."""
        self.strict = not self.settings if self.strict is None else self.strict

    @property
    def path(self) -> Path:
        """The log's file, beside the test or in the folder of all logs."""
        beside, folder = self.item.path.parent / self.log, str(self.item.config.getini("replay_logs"))
        return beside if beside.exists() or not folder else self.item.config.rootpath / folder / self.log


@dataclass(frozen=True, slots=True)
class Replay:
    """A replayed log. `job` may be omitted when the log has only one. Times are seconds since the start of the log."""

    wanted: ReplayMark
    recorded: Log
    again: Log
    divergences: tuple[Divergence, ...]
    seen: Mapping[str, Timed]

    @property
    def path(self) -> Path:
        """The log's file."""
        return self.wanted.path

    @property
    def jobs(self) -> tuple[str, ...]:
        """The ids of its jobs, in the order of their first event."""
        return tuple(self.seen)

    def timed(self, job: str | None = None) -> Timed:
        """The job's events as `(time, event)`. Raises `LookupError` for an unknown job."""
        name = next(iter(self.seen)) if job is None and len(self.seen) == 1 else str(job)
        if name not in self.seen:
            raise LookupError(f"{self.path.name} has no job {job!r}; it has {', '.join(self.seen) or 'none'}")
        return self.seen[name]

    def events(self, job: str | None = None, kind: type[E] | None = None) -> list[E]:
        """The job's events in the replay, or those of one type."""
        return cast("list[E]", [event for _, event in self.timed(job) if kind is None or isinstance(event, kind)])

    def outcome(self, job: str | None = None) -> Outcome:
        """The job's outcome: `Done`, `Failed`, `TimedOut` or `Cancelled`. Raises `LookupError` when it has none."""
        last = self.timed(job)[-1][1]
        if not is_outcome(last):
            raise LookupError(f"the job has not ended when the log does; its last event is {last}")
        return last

    def stages(self, job: str | None = None) -> dict[str, float]:
        """Seconds that the job spent in each stage of `wakestream.streams.recording.timeline`."""
        return stage_times(self.timed(job))

    def sent(self, label: str | None = None) -> list[Row]:
        """Rows of the frames that the program sent in the replay, or those of one type such as `gpu.job.submit`."""
        rows = (row for row in self.again.rows if row.dir == "out" and "event" not in row.data)
        return [row for row in rows if label in (None, row.label)]

    def check(self) -> None:
        """Fail a strict test when the replay differs from the log."""
        if self.wanted.strict and self.divergences:
            pytest.fail(failure(self), pytrace=False)


def replay_mark(marker: pytest.Mark, item: pytest.Item) -> ReplayMark:
    """The mark's arguments; wrong ones fail the test with the correct usage."""
    try:
        return ReplayMark(item, *marker.args, **marker.kwargs)
    except TypeError as error:
        options = "strict=True, lenient=False, ignore_time=False, settings={}, build=..., record=..."
        usage = f'@pytest.mark.replay("x.jsonl", {options})'
        pytest.fail(f"{usage}: {str(error).replace('ReplayMark.__init__()', 'the mark')}", pytrace=False)


def run(mark: ReplayMark) -> Replay:
    """Replay the log in virtual time. An unusable log, or real I/O of a pipeline, fails the test."""
    log, watch = _read(mark), Watch()
    again = streams_replay.replay(
        log,
        settings=mark.settings,
        lenient=mark.lenient,
        ignore_time=mark.ignore_time,
        build=mark.build or job_pipeline,
        watch=watch,
    )
    try:
        with no_real_io() as attempts:
            replayed = run_virtual(again)
    except VirtualDeadlock:
        calls = "".join(f"; the log has no answer to {label} of {job}" for job, label in sorted(watch.unanswered))
        hints = "".join(f"\n{hint}" for hint in _no_build(mark, log))
        _fail(mark, f"the replay does not end: {', '.join(sorted(watch.open))} wait{calls}{hints}")
    except (UnusableLog, ValueError) as error:
        _fail(mark, str(error))
    if attempts:
        pytest.fail(
            f"{mark.path}: the pipeline did real I/O while it was replayed: {'; '.join(attempts)}\n"
            "Call your own effects with world.effects.call(label, args, effect): then they are recorded, and the log "
            "answers them.",
            pytrace=False,
        )
    return Replay(mark, log, replayed.again, replayed.divergences, watch.seen)


def _read(mark: ReplayMark) -> Log:
    if not mark.path.is_file():
        _fail(mark, f"the log does not exist; to record it: {_how_to_record(mark, 'once')}")
    try:
        return logs_on_disk.read(logs_on_disk.LogFile((mark.path,)))
    except UnusableLog as error:
        pytest.fail(str(error), pytrace=False)


def _fail(mark: ReplayMark, why: str) -> NoReturn:
    pytest.fail(f"{mark.path}: {why}", pytrace=False)


def record_log(mark: ReplayMark, record: Record | None) -> None:
    """Record the log again; the file is replaced when the new one is complete."""
    if record is None:
        _fail(mark, f"the test has no way to record it; {NEEDS_RECORD}")
    with tempfile.TemporaryDirectory() as folder:
        recording = record(Path(folder))
        if recording is not None:
            with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
                runner.run(_await(recording))
        _keep(mark, Path(folder))


def _keep(mark: ReplayMark, folder: Path) -> None:
    try:
        runs = logs_on_disk.find([folder]) if any(folder.iterdir()) else []
        if len(runs) != 1:
            _fail(mark, f"recording must make exactly one log, it made {len(runs)}")
        mark.path.parent.mkdir(parents=True, exist_ok=True)
        logs_on_disk.write(logs_on_disk.read(runs[0]), mark.path)
    except UnusableLog as error:
        _fail(mark, f"the recording cannot be used: {error}")


async def _await(recording: Awaitable[None]) -> None:
    await recording


NEEDS_RECORD = (
    "give the mark record=, or override the fixture replay_record, with `def record(folder): ...`, async or not"
)


def _how_to_record(mark: ReplayMark, mode: str) -> str:
    needs = "" if mark.record else f" ({NEEDS_RECORD})"
    return f"pytest {mark.item.nodeid!r} --replay-record={mode}{needs}"


def _no_build(mark: ReplayMark, log: Log) -> list[str]:
    """A hint that the mark names no pipeline although the log was recorded with one."""
    effects = own_effects(log) if mark.build in (None, job_pipeline) else ()
    if not effects:
        return []
    return [f"The jobs of this log called {', '.join(effects)}: give the mark build=, the pipeline of the recording"]


def _late(first: Divergence) -> list[str]:
    if first.late is None:
        return []
    how = "later" if first.late > 0 else "earlier"
    return [f"  The program acts {abs(first.late):.3f} s {how} than in the log; ignore_time=True compares no times."]


def _tie(first: Divergence) -> list[str]:
    if first.apart is None:
        return []
    return [
        f"  The log has both, {first.apart * 1e6:.0f} microseconds apart. Concurrent steps may end at the same moment",
        "  in any order: if the order matters, chain them with `then`; if not, record the log again.",
    ]


def failure(replay: Replay) -> str:
    """The first difference from the log in each stream, and what to do about it."""
    first, *others = by_weight(replay.divergences)
    crashes = list(streams_divergence.crashes(replay.recorded, replay.again).items())
    lines = first.lines()
    shown = [f"    {line}" for line in lines[:SHOWN]] + ([f"    … {len(lines) - SHOWN} more"] if lines[SHOWN:] else [])
    also = [f"  and in {divergence.stream!s}: seq {divergence.seq}, {divergence.label}" for divergence in others[:5]]
    more = [f"  and in {len(others) - 5} more streams"] if others[5:] else []
    return "\n".join(
        [
            f"{replay.path}: the program now behaves differently than in the log",
            *(f"  the pipeline of {job} raised an error: {why}" for job, why in crashes[:5]),
            f"  first in {first.stream!s}: seq {first.seq}, {first.label}   (- the log, + now)",
            *shown, *_late(first), *_tie(first), *also, *more, *_no_build(replay.wanted, replay.recorded),
            f"If the new behaviour is correct, record the log again: {_how_to_record(replay.wanted, 'rewrite')}",
            "To examine it within the test: @pytest.mark.replay(..., strict=False), then replay.divergences",
        ]
    )  # fmt: skip
