"""What `wakestream replay` prints: each job's stages and outcome, and where the replay parts from the log."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from wakestream.adapters.cli import parsing, units
from wakestream.adapters.logs_on_disk import LogFile
from wakestream.streams.divergence import Divergence
from wakestream.streams.event_json import plain_text
from wakestream.streams.recording import Log, Row, row_line
from wakestream.streams.report import JobReport, Outcome, Report, by_weight
from wakestream.streams.timeline import STAGES
from wakestream.streams.trial import Trial

SHOWN = 10
"""Divergences shown of one log; the first is what matters, the others follow from it as often as not."""

UNCHANGED = 20
"""Jobs up to which also those are listed for which a changed setting changes nothing."""

Asked = Mapping[str, float | None]


class Show:
    """Prints for a person, or as JSON lines. `speed` 0 shows no event, N each event at N times the recorded pace."""

    def __init__(self, *, as_json: bool, speed: float = 0.0) -> None:
        self._json, self._speed = as_json, speed
        self._results: Counter[str] = Counter()
        self._colour = not as_json and sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def unusable(self, why: str) -> int:
        """A log, or a wish, that cannot be used; returns the exit code for it."""
        if self._json:
            self.object({"result": "unusable", "why": plain_text(why)})
        return parsing.unusable(why, "unusable")

    def summary(self) -> None:
        """How many logs came out how, where there are several."""
        if self._results.total() > 1:
            counts = ", ".join(f"{count} {result}" for result, count in self._results.items())
            self.note(f"{self._results.total()} logs: {counts}")

    def note(self, line: str) -> None:
        """A remark for a person."""
        if not self._json:
            self.line(line)

    def result(self, plain: Mapping[str, Any], line: str) -> None:
        """The answer: as an object, or as a sentence."""
        if self._json:
            self.object(plain)
        else:
            self.line(line)

    def line(self, line: str) -> None:
        """One line of the answer."""
        print(line)  # noqa: T201

    def object(self, value: Mapping[str, Any]) -> None:
        """One object of the answer in JSON."""
        self.line(orjson.dumps(value).decode())

    def drawing(self, draw: Callable[[int, bool], str]) -> None:
        """A drawing as wide as the terminal."""
        self.line(draw(shutil.get_terminal_size((100, 40)).columns, bool(self._colour)))

    def pace(self, trial: Trial) -> None:
        """Everything that happens in the replay, each at its time."""
        if not self._speed or trial.replayed is None:
            return
        begun = time.monotonic()
        for row in trial.replayed.again.rows:
            time.sleep(max(0.0, begun + row.t / self._speed - time.monotonic()))
            self.line(row_line(row).decode().rstrip() if self._json else _happening(row))
            sys.stdout.flush()

    def trial(self, file: LogFile, log: Log, trial: Trial, asked: Asked) -> None:
        """One log's replay."""
        self._results[trial.result] += 1
        if self._json:
            self.object(_plain(file, log, trial, asked))
            return
        torn = "; its last line was cut off and is left out" if log.torn else ""
        self.line(f"{file.name}: {log.header.program}, {len(log.rows)} rows{torn}")
        if trial.report is None:
            self.line(f"  {trouble(trial)}")
        elif asked:
            self._what_if(trial.report, asked)
        else:
            self._jobs(trial.report)
            self._divergences(trial.divergences)

    def _jobs(self, report: Report) -> None:
        stages = _stages(report.now.values())
        head = ("job", "outcome", "total", *stages)
        rows = [_job_row(job, stages) for job in report.now.values()]
        self._table((head, *rows) if rows else ())

    def _what_if(self, report: Report, asked: Asked) -> None:
        under = ", ".join(f"{name}={'none' if value is None else f'{value:g}'}" for name, value in asked.items())
        self.line(f"  what if {under}: {len(report.changed)} of {len(report.now)} outcomes differ")
        named = report.now if len(report.now) <= UNCHANGED else report.changed
        rows = [(job, _ended(report.then.get(job)), _ended(report.now[job])) for job in named]
        self._table((("job", "then", "now"), *rows) if rows else ())

    def _table(self, rows: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.line("  " + "  ".join(cells).rstrip())

    def _divergences(self, found: Sequence[Divergence]) -> None:
        if not found:
            self.line("  same as recorded")
            return
        for divergence in by_weight(found)[:SHOWN]:
            self.line(f"  {divergence.stream}: first divergence at seq {divergence.seq}, {divergence.label}")
            for line in divergence.lines():
                self.line(f"    {self._painted(line)}")
        if len(found) > SHOWN:
            self.line(f"  and {len(found) - SHOWN} more streams diverge")

    def _painted(self, line: str) -> str:
        if not self._colour:
            return line
        return f"\x1b[{31 if line.startswith('-') else 32}m{line}\x1b[0m"


def trouble(trial: Trial) -> str:
    """Why a replay came to no end, as a sentence."""
    if trial.trouble == "crashed":
        return f"crashed: the program raised {trial.why}"
    who = f"; waiting: {', '.join(trial.waiting)}" if trial.waiting else ""
    return f"deadlock: {trial.why}{who}"


def _stages(jobs: Iterable[JobReport]) -> list[str]:
    """The stages that any of the jobs went through: a job's in their order, others as they come."""
    seen = dict.fromkeys(stage for job in jobs for stage in job.stages)
    return [*(stage for stage in STAGES if stage in seen), *(stage for stage in seen if stage not in STAGES)]


def _job_row(job: JobReport, stages: Sequence[str]) -> Sequence[str]:
    times = (units.duration(job.stages[stage]) if stage in job.stages else "-" for stage in stages)
    return (job.job, str(job.outcome), units.duration(job.seconds), *times)


def _ended(job: JobReport | None) -> str:
    return "-" if job is None else f"{job.outcome} after {units.duration(job.seconds)}"


def _happening(row: Row) -> str:
    arrow = {"in": "→", "out": "←", "effect": "*", "conn": "~"}[row.dir]
    return f"{row.t:10.3f} {arrow} {row.job or '':<20} {row.label}"


def _plain(file: LogFile, log: Log, trial: Trial, asked: Asked) -> dict[str, Any]:
    said: dict[str, Any] = {
        "log": [plain_text(part) for part in file.parts],
        "program": log.header.program,
        "rows": len(log.rows),
        "torn": log.torn,
        "result": trial.result,
    }
    if asked:
        said["set"] = dict(asked)
    if trial.report is None:
        return {**said, "why": trial.why, "waiting": trial.waiting}
    jobs = [_plain_job(job, trial.report) for job in trial.report.now.values()]
    return {**said, "jobs": jobs, "divergences": [_plain_divergence(each) for each in trial.divergences]}


def _plain_job(job: JobReport, report: Report) -> dict[str, Any]:
    then = report.then.get(job.job)
    stages = {stage: round(spent, 6) for stage, spent in job.stages.items()}
    first = report.of_job.get(job.job)
    return {
        "job": job.job,
        "stages": stages,
        "then": None if then is None else plain_outcome(then.outcome, then.seconds),
        "now": plain_outcome(job.outcome, job.seconds),
        "divergence": None if first is None else _plain_divergence(first),
    }


def plain_outcome(outcome: Outcome, seconds: float | None = None) -> dict[str, Any]:
    """An outcome as an object."""
    said: dict[str, Any] = {"outcome": outcome.kind, "detail": outcome.detail, "why": outcome.why}
    return said if seconds is None else {**said, "seconds": round(seconds, 6)}


def _plain_divergence(each: Divergence) -> dict[str, Any]:
    sides = {"expected": each.expected, "got": each.got}
    rows = {name: row and {"dir": row.dir, "label": row.label, "data": row.data} for name, row in sides.items()}
    return {"stream": str(each.stream), "seq": each.seq, "label": each.label, **rows, "diff": each.lines()}
