"""How a running job is shown: a live display on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import Self

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.jobs_table import JobProgress
from wakestream.adapters.cli.render.log_reader import line as log_line
from wakestream.adapters.config import units
from wakestream.adapters.runtime import printing
from wakestream.adapters.runtime.desktop import notify
from wakestream.adapters.runtime.printing import say, say_json
from wakestream.adapters.telemetry import logs
from wakestream.operators.lifecycle.outcome import is_outcome
from wakestream.operators.lifecycle.reuse import OWN, reused
from wakestream.operators.model import events as e
from wakestream.streams.protocol.printable import printable
from wakestream.streams.recording.event_json import kind, plain_event
from wakestream.streams.recording.timeline import STAGES, stage_after

# The live display of one job on a terminal: its stages, what it does now, and a bar with rate and time left.

# What all displays of a job's events have in common.


class Display(AbstractContextManager["Display"]):
    """Shows the events of a job while its block runs."""

    previews = False
    """Whether it shows what the engine has so far."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._reused = ""
        self._preview = self._preview_said = ""
        self._preview_at = -math.inf

    def preview(self, text: str) -> None:
        """Show the text that the engine has so far; empty for a picture."""
        end = printable(" ".join(text.split()))
        end = end if len(end) <= PREVIEW_MOST else f"… {end[-PREVIEW_MOST:]}"
        self._preview = t("preview.text", text=end) if end else t("preview.picture")

    def __exit__(self, *_: object) -> None:
        """Restore what the display has changed: by default nothing."""

    def show(self, event: e.JobEvent, ago: float = 0.0) -> None:
        """Show an event of the job that happened `ago` seconds ago."""
        at = time.monotonic() - ago
        self._start = min(self._start, at)
        self._reused = reused(self._reused, event)
        self._show(event, at)

    @abstractmethod
    def _show(self, event: e.JobEvent, at: float) -> None:
        """Show an event that happened at this time of the monotonic clock."""


PREVIEW_MOST = 200
"""Characters of the end of a text that grows."""

_SHOWN = tuple(stage for stage in STAGES if stage != "ready")

WORTH_TELLING = 1.0
"""Seconds from which a stage's time is shown: all of them would not fit into 80 columns."""

ROOMY = 72
"""Columns from which the bar has its name, rate and times."""

_MARKS = {"ended": "✓", "now": "▸", "ahead": "·", "skipped": "-", "failed": "✗", "becomes": "→"}
_ASCII_MARKS = {"ended": "+", "now": ">", "ahead": ".", "skipped": "-", "failed": "x", "becomes": "->"}


class _Speed(ProgressColumn):
    """The rate, where the bar counts bytes and it is known."""

    def render(self, task: Task) -> RenderableType:
        rate = task.fields["rate"]
        return Text(f"{units.size(rate)}/s" if rate else "", "progress.data.speed")


class _Left(ProgressColumn):
    """The time left, which counts down between two reports; dashes while it is not known."""

    def render(self, task: Task) -> RenderableType:
        if (left := task.fields["left"]) is None:
            return Text("-:--:--", "progress.remaining")
        minutes, seconds = divmod(round(left), 60)  # a timedelta says "1 day, ", whatever the language
        return Text(f"{minutes // 60}:{minutes % 60:02}:{seconds:02}", "progress.remaining")


class LiveDisplay(Display):
    """Draws the job with rich; log lines scroll above it."""

    previews = True

    def __init__(self, job: e.Job, console: Console | None = None) -> None:
        super().__init__()
        self._job = job
        self._stage = "submit"
        self._entered: dict[str, float] = {"submit": self._start}
        self._left: dict[str, float] = {}
        self._line = t("asking")
        self._wait: tuple[e.Queued | e.Waking, float] | None = None
        self._outcome: e.JobEvent | None = None
        self._by_depot = False
        note = TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
        self._few = (BarColumn(12), TextColumn("{task.percentage:3.0f} %"), note)
        self._many = (
            TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.percentage:3.0f} %"), _Speed(),
            TimeElapsedColumn(), TextColumn(t("left")), _Left(), note,
        )  # fmt: skip
        self._reported = JobProgress()
        self._progress = Progress(*self._many)
        self._bar = self._progress.add_task("", total=None, visible=False, note="", rate=None, left=None)
        console = console or printing.console()
        self._console = console
        self._marks = _MARKS if console.encoding.lower().startswith("utf") else _ASCII_MARKS
        # Log lines go above the display, unless the user sent them elsewhere.
        self._live = Live(
            get_renderable=self.picture, console=console, refresh_per_second=8,
            redirect_stderr=bool(sys.stderr and sys.stderr.isatty()),
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _show(self, event: e.JobEvent, at: float) -> None:
        self._entered["submit"] = min(self._entered["submit"], at)
        if isinstance(event, e.Waking) and self._by_depot and not event.phase.startswith("hub_"):
            return  # what its files do says more
        self._by_depot = isinstance(event, e.Storing | e.Stored | e.Remote)
        self._line = words.event(event, self._reused)
        self._reported.show(event, at)
        self._wait = (event, at) if isinstance(event, e.Queued | e.Waking) else None
        stage = "check" if isinstance(event, e.Fingerprinted) else stage_after(self._stage, kind(event))
        if stage != self._stage:
            self._left[self._stage] = at
            self._left.pop(stage, None)
            self._entered[stage] = at
            self._stage = stage
        if isinstance(event, e.Retrying):
            self._live.console.print(Text(self._line, "yellow"))
        match event:
            case e.Uploading() | e.Downloading() | e.Storing():
                stage = "download" if isinstance(event, e.Downloading) else "upload"
                note = units.size(event.bytes) + (f" / {units.size(event.of)}" if event.of else "")
                self._move(stage, event.bytes, event.of, note)
            case e.Running() if event.status != "queued":
                note = t("running.frame", frame=event.frame, frames=event.frames) if event.frames else ""
                self._move("render", event.percent, 100, note)
            case e.Remote(step="render", percent=float(percent)):
                self._move("render", percent, 100, event.gpu or "")
            case _:
                self._progress.update(self._bar, visible=False)
        if is_outcome(event):
            self._outcome = event
            self._left.setdefault(self._stage, at)

    def _move(self, name: str, done: float, total: float | None, note: str) -> None:
        description = t(f"stage.{name}")
        if self._progress.tasks[0].description != description:
            self._progress.reset(self._bar, description=description)
            self._progress.tasks[0].start_time = self._entered[self._stage]
        self._progress.update(self._bar, completed=done, total=total, visible=True, note=note)

    def picture(self) -> RenderableType:
        """What stands on the screen now."""
        becomes = self._marks["becomes"]
        inputs, outputs = (
            " + ".join(printable(path.name) for path in files.values())
            for files in (self._job.inputs, self._job.outputs)
        )
        title = Text(f"{inputs} {becomes} {outputs}", "bold")
        stages = Columns([self._cell(stage) for stage in _SHOWN], padding=(0, 2))
        if self._outcome is None and self._progress.tasks[0].visible:  # it says all that the line would
            # Draw the bar where it is between two reports.
            now = time.monotonic()
            done = self._reported.done(now)
            if done is not None:
                rate = self._reported.rate if self._reported.counts_bytes else None
                self._progress.update(self._bar, completed=done, left=self._reported.left(now), rate=rate)
            self._progress.columns = self._many if self._console.width >= ROOMY else self._few
            return Group(title, stages, self._progress, *([Text(self._preview, "dim")] if self._preview else []))
        return Group(title, stages, Text(self._said(), self._colour()))

    def _said(self) -> str:
        """The line; what is hoped for in a wait comes nearer between two events."""
        if self._wait is None:
            return self._line
        event, at = self._wait
        event = words.nearer(event, time.monotonic() - at)
        # The stage's own time says how long it was.
        return words.waking(event) if isinstance(event, e.Waking) else words.event(event)

    def _cell(self, stage: str) -> Text:
        name = t(f"stage.{stage}")
        if stage not in self._entered:
            passed = self._outcome is not None or _SHOWN.index(stage) < _SHOWN.index(self._stage)
            return Text(f"{self._marks['skipped' if passed else 'ahead']} {name}", "dim", no_wrap=True)
        took = self._left.get(stage, time.monotonic()) - self._entered[stage]
        time_taken = f" {words.duration(took)}" if took >= WORTH_TELLING else ""
        mark, style = self._state(stage)
        return Text(f"{self._marks[mark]} {name}{time_taken}", style, no_wrap=True)

    def _state(self, stage: str) -> tuple[str, str]:
        if self._outcome is not None and not isinstance(self._outcome, e.Done) and stage == self._stage:
            return "failed", "red"
        return ("ended", "green") if stage in self._left else ("now", "bold cyan")

    def _colour(self) -> str:
        if self._outcome is None:
            return "default"
        return "bold green" if isinstance(self._outcome, e.Done) else "bold red"


def is_terminal() -> bool:
    """Whether standard output can be drawn on twice in the same place."""
    return sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


STEADY = (e.Uploading, e.Running, e.Downloading, e.Waking, e.Storing, e.Remote)
"""Events that come often: plain output shows one of a kind every few seconds."""

PLAIN_EVERY = 5.0


class JsonLines(Display):
    """One JSON object per event on standard output, each with `t`, the seconds since the start or the first event.

    With `quiet` only the last event; `reused` says where the result comes from, if it was not made for this job.
    """

    def __init__(self, job: str, *, quiet: bool = False) -> None:
        super().__init__()
        self._job, self._quiet = job, quiet

    def _show(self, event: e.JobEvent, at: float) -> None:
        if self._quiet and not is_outcome(event):
            return
        line = {"t": round(at - self._start, 3), "job": self._job, **plain_event(event)}
        if isinstance(event, e.Done) and self._reused not in ("", OWN):
            line["reused"] = self._reused
        say_json(line)


class Outcomes(Display):
    """Only the last event, as a sentence."""

    def _show(self, event: e.JobEvent, at: float) -> None:
        if is_outcome(event):
            say(words.outcome(event, self._reused))


class PlainLines(Display):
    """One line per event on standard output; of events that come often, one every few seconds. No line comes twice.

    Within its block log lines look the same, on standard error.
    """

    previews = True

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self._prefix = prefix
        self._logs = contextlib.ExitStack()
        self._shown: dict[str, tuple[float, object]] = {}
        self._last = ""

    def __enter__(self) -> Self:
        self._logs.enter_context(logs.through(lambda text: logs.to_stderr(self._like_ours(text))))
        return self

    def __exit__(self, *_: object) -> None:
        self._logs.close()

    def _show(self, event: e.JobEvent, at: float) -> None:
        if self._due(event, at) and (text := words.event(event, self._reused)) != self._last:
            self._last = text
            say(self._line(text, at))

    def preview(self, text: str) -> None:
        """Show what has changed as a line, at most one every few seconds; call it again for what was left out."""
        at = time.monotonic()
        super().preview(text)
        if self._preview != self._preview_said and at - self._preview_at >= PLAIN_EVERY:
            self._preview_said, self._preview_at = self._preview, at
            say(self._line(self._preview, at))

    def _like_ours(self, text: str) -> str:
        first, end, more = text.partition("\n")
        entry = log_line(first)
        if not entry.level or first.startswith("{"):
            return text
        return f"{self._line(f'{entry.level.lower()}: {entry.message}', time.monotonic())}{end}{more}"

    def _line(self, text: str, at: float) -> str:
        return f"{self._prefix}{at - self._start:7.1f} s  {text}"

    def _due(self, event: e.JobEvent, at: float) -> bool:
        if not isinstance(event, STEADY):
            return True
        changed = next((getattr(event, name) for name in ("phase", "status", "step") if hasattr(event, name)), None)
        last, before = self._shown.get(kind(event), (-math.inf, None))
        if at - last < PLAIN_EVERY and changed == before:
            return False
        self._shown[kind(event)] = (at, changed)
        return True


def display(job: e.Job, *, as_json: bool, plain: bool = False, quiet: bool = False) -> Display:
    """The display that fits where standard output goes."""
    if as_json:
        return JsonLines(job.id, quiet=quiet)
    if quiet:
        return Outcomes()
    return PlainLines() if plain or not is_terminal() else LiveDisplay(job)


class _Around(Display):
    """Shows the events with another display, and does something more."""

    def __init__(self, shown: Display) -> None:
        super().__init__()
        self._shown = shown

    def __enter__(self) -> Self:
        self._shown.__enter__()
        return self

    def __exit__(self, *failed: object) -> None:
        self._shown.__exit__(*failed)


class Leaving(_Around):
    """Says whether the PC may be switched off."""

    def __enter__(self) -> Self:
        super().__enter__()
        self._shown.show(e.Note(t("leave.begun")))
        return self

    def show(self, event: e.JobEvent, ago: float = 0.0) -> None:
        """Show an event."""
        self._shown.show(event, ago)
        if isinstance(event, e.Granted):
            self._shown.show(e.Note(t("leave.direct")), ago)

    def _show(self, event: e.JobEvent, at: float) -> None:
        """The other display shows it."""


class Notifying(_Around):
    """Shows a notification at the end. A job that the user cancels is not told."""

    def __init__(self, shown: Display, job: e.Job) -> None:
        super().__init__(shown)
        self._job = job
        self._outcome: e.JobEvent | None = None

    def __exit__(self, *failed: object) -> None:
        super().__exit__(*failed)
        if self._outcome is not None:
            names = " + ".join(path.name for path in self._job.inputs.values())
            notify(names or self._job.kind, words.outcome(self._outcome, self._reused))

    def show(self, event: e.JobEvent, ago: float = 0.0) -> None:
        """Show an event, and keep the last one."""
        self._shown.show(event, ago)
        super().show(event, ago)

    def _show(self, event: e.JobEvent, at: float) -> None:
        if is_outcome(event) and not isinstance(event, e.Cancelled):
            self._outcome = event
