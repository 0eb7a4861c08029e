"""What `wakestream replay` prints: each job's stages and outcome, and where the replay parts from the log."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from wakestream.adapters.cli import parser as parsing
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render.table import table
from wakestream.adapters.config import units
from wakestream.adapters.runtime import printing
from wakestream.adapters.runtime.printing import answer, say, say_json
from wakestream.adapters.telemetry.recordings import LogFile
from wakestream.streams.jobs.daemon_pipeline import OWN, own_effects
from wakestream.streams.protocol.printable import printable
from wakestream.streams.recording.event_json import plain_text
from wakestream.streams.recording.recording import Log, row_line
from wakestream.streams.recording.timeline import STAGES
from wakestream.streams.replay.divergence import Divergence
from wakestream.streams.replay.recorded_ports import EffectCall
from wakestream.streams.replay.replay import Settings
from wakestream.streams.replay.report import JobEnd, JobReport, Report, by_weight
from wakestream.streams.triage.replay_attempt import Trial

UNKNOWN = "MODULE:NAME"


@dataclass(frozen=True, slots=True)
class Remarks:
    """`own_effects` are those of a `pipeline` that was not given; `otherwise` is a call that only a setting caused."""

    own_effects: tuple[str, ...] = ()
    pipeline: str = UNKNOWN
    otherwise: EffectCall | None = None

    def lines(self, settings: str) -> list[str]:
        """As sentences; `settings` are those that were changed."""
        said = []
        if self.own_effects:
            said.append(t("replay.own_effects", effects=", ".join(self.own_effects), pipeline=self.pipeline))
        if self.otherwise is not None:
            call, time = self.otherwise, units.duration(self.otherwise.t)
            said.append(t("replay.asks", settings=settings, job=call.job, label=call.label, time=time))
        return said

    def plain(self) -> Mapping[str, Any]:
        """As an object, with what there is."""
        otherwise = self.otherwise and asdict(self.otherwise)
        parts = {"own_effects": list(self.own_effects), "asks_otherwise": otherwise}
        return {name: part for name, part in parts.items() if part}


NONE = Remarks()


def remarks(log: Log, trial: Trial, named: str | None, otherwise: EffectCall | None) -> Remarks:
    """The remarks on a replay with the pipeline `named`; None is the standard one."""
    missing = named is None and trial.result != "same"
    return Remarks(own_effects(log) if missing else (), str(log.header.config.get(OWN, UNKNOWN)), otherwise)


SHOWN = 10
"""Divergences shown of one log; the first is what matters, the others follow from it as often as not."""

UNCHANGED = 20
"""Jobs up to which also those are listed for which a changed setting changes nothing."""


class ReplayOutput:
    """Prints for a person, or as JSON lines. `speed` 0 shows no event, N each event at N times the recorded pace."""

    def __init__(self, *, as_json: bool, speed: float = 0.0) -> None:
        self._json, self._speed = as_json, speed
        self._results: Counter[str] = Counter()
        self._colour = not as_json and sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def unusable(self, why: str) -> int:
        """A log, or a wish, that cannot be used; returns the exit code for it."""
        if self._json:
            say_json({"result": "unusable", "why": plain_text(why)})
        return parsing.unusable(why, "unusable")

    def summary(self) -> None:
        """How many logs came out how, where there are several."""
        if self._results.total() > 1:
            counts = ", ".join(f"{count} {result}" for result, count in self._results.items())
            self.note(t("replay.logs", count=self._results.total(), results=counts))

    def note(self, line: str) -> None:
        """A remark for a person."""
        if not self._json:
            say(line)

    def result(self, plain: Mapping[str, Any], *lines: str) -> None:
        """The answer: as an object, or in sentences."""
        answer(plain, *lines, as_json=self._json)

    def drawing(self, draw: Callable[[int, bool], str]) -> None:
        """A drawing as wide as the terminal."""
        printing.draw(draw(shutil.get_terminal_size((100, 40)).columns, bool(self._colour)))

    def pace(self, trial: Trial) -> None:
        """Everything that happens in the replay, each at its time."""
        if not self._speed or trial.replayed is None:
            return
        begun = time.monotonic()
        for row in trial.replayed.again.rows:
            time.sleep(max(0.0, begun + row.t / self._speed - time.monotonic()))
            arrow = {"in": "→", "out": "←", "effect": "*", "conn": "~"}[row.dir]
            self.result(orjson.loads(row_line(row)), f"{row.t:10.3f} {arrow} {row.job or '':<20} {row.label}")

    def trial(self, file: LogFile, log: Log, trial: Trial, asked: Settings, remarks: Remarks = NONE) -> None:
        """One log's replay."""
        self._results[trial.result] += 1
        if self._json:
            say_json({**_plain(file, log, trial, asked), **remarks.plain()})
            return
        torn = t("replay.torn") if log.torn else ""
        say(t("replay.log", name=file.name, program=log.header.program, count=len(log.rows), torn=torn))
        if trial.report is None:
            say(f"  {trouble(trial)}")
        elif asked:
            _say_changes(trial.report, asked)
        else:
            # A line for each job, with all stages that any of them went through, in their order.
            seen = dict.fromkeys(stage for job in trial.report.now.values() for stage in job.stages)
            stages = [*(stage for stage in STAGES if stage in seen), *(stage for stage in seen if stage not in STAGES)]
            rows = [
                (
                    job.job, str(job.outcome), units.duration(job.seconds),
                    *(units.duration(job.stages[stage]) if stage in job.stages else "-" for stage in stages),
                )
                for job in trial.report.now.values()
            ]  # fmt: skip
            _say_table((t("replay.job"), t("replay.outcome"), t("replay.total"), *stages), rows)
            for job, why in list(trial.crashes.items())[:SHOWN]:
                say("  " + t("replay.broke", job=job, why=why))
            self._divergences(trial.divergences)
        for line in remarks.lines(_under(asked)):
            say(f"  {line}")

    def _divergences(self, divergences: Sequence[Divergence]) -> None:
        if not divergences:
            say(f"  {t('replay.same')}")
            return
        for divergence in by_weight(divergences)[:SHOWN]:
            stream, seq, label = divergence.stream, divergence.seq, divergence.label
            say("  " + t("replay.diverges", stream=stream, seq=seq, label=label))
            for line in divergence.lines():
                painted = f"\x1b[{31 if line.startswith('-') else 32}m{printable(line)}\x1b[0m"
                printing.draw(f"    {painted if self._colour else printable(line)}")
            if stream == "journal":
                say("    " + t("replay.takeover"))
            if divergence.late is not None:
                key = "replay.late" if divergence.late > 0 else "replay.early"
                say("    " + t(key, seconds=f"{abs(divergence.late):.3f}"))
            if divergence.apart is not None:
                say("    " + t("replay.tie", micros=f"{divergence.apart * 1e6:.0f}"))
        if len(divergences) > SHOWN:
            say("  " + t("replay.more", count=len(divergences) - SHOWN))


def _say_changes(report: Report, asked: Settings) -> None:
    """A line for each job: how it ended then and now."""
    say("  " + t("replay.what_if", settings=_under(asked), changed=len(report.changed), count=len(report.now)))
    named = report.now if len(report.now) <= UNCHANGED else report.changed
    rows = [(job, _ended(report.then.get(job)), _ended(report.now[job])) for job in named]
    _say_table((t("replay.job"), t("replay.then"), t("replay.now")), rows)


def _say_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    say(*(f"  {line}" for line in table([head, *rows]) if rows))


def _under(asked: Settings) -> str:
    return ", ".join(f"{name}={'none' if value is None else f'{value:g}'}" for name, value in asked.items())


def trouble(trial: Trial) -> str:
    """Why a replay came to no end, as a sentence."""
    if trial.trouble == "crashed":
        return t("replay.crashed", why=trial.why)
    who = t("replay.waiting", jobs=", ".join(trial.waiting)) if trial.waiting else ""
    return t("replay.deadlock", why=trial.why, who=who)


def _ended(job: JobReport | None) -> str:
    return "-" if job is None else t("replay.ended", outcome=job.outcome, time=units.duration(job.seconds))


def _plain(file: LogFile, log: Log, trial: Trial, asked: Settings) -> dict[str, Any]:
    parts = [plain_text(part) for part in file.parts]
    said: dict[str, Any] = {"log": parts, "program": log.header.program, "rows": len(log.rows), "torn": log.torn}
    said |= {"result": trial.result} | ({"set": dict(asked)} if asked else {})
    if trial.report is None:
        return said | {"why": trial.why, "waiting": trial.waiting}
    jobs = [_plain_job(job, trial.report) for job in trial.report.now.values()]
    return said | {"jobs": jobs, "divergences": [_plain_divergence(divergence) for divergence in trial.divergences]}


def _plain_job(job: JobReport, report: Report) -> dict[str, Any]:
    then, first = report.then.get(job.job), report.of_job.get(job.job)
    return {
        "job": job.job,
        "stages": {stage: round(spent, 6) for stage, spent in job.stages.items()},
        "then": then and plain_outcome(then.outcome, then.seconds),
        "now": plain_outcome(job.outcome, job.seconds),
        "divergence": first and _plain_divergence(first),
    }


def plain_outcome(outcome: JobEnd, seconds: float | None = None) -> dict[str, Any]:
    """An outcome as an object."""
    said: dict[str, Any] = {"outcome": outcome.kind, "detail": outcome.detail, "why": outcome.why}
    return said if seconds is None else {**said, "seconds": round(seconds, 6)}


def _plain_divergence(divergence: Divergence) -> dict[str, Any]:
    sides = {"expected": divergence.expected, "got": divergence.got}
    rows = {name: row and {"dir": row.dir, "label": row.label, "data": row.data} for name, row in sides.items()}
    return {
        "stream": str(divergence.stream),
        "seq": divergence.seq,
        "label": divergence.label,
        **rows,
        "diff": divergence.lines(),
        "late": divergence.late,
    }
