"""What a person sees of the demo: each program's lines, each job live, and the table at the end."""

from __future__ import annotations

import re
import time
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.display import Display, LiveDisplay, PlainLines, is_terminal
from wakestream.adapters.cli.render.log_reader import line as log_line
from wakestream.adapters.config import units
from wakestream.adapters.runtime import printing
from wakestream.operators.lifecycle.outcome import is_outcome
from wakestream.operators.model import events as e
from wakestream.streams.protocol.printable import printable
from wakestream.streams.recording.timeline import STAGES, stage_times

T = TypeVar("T")
COLOURS = {"demo": "bold", "hub": "blue", "monitor": "magenta", "worker": "yellow"}

_MACHINE = re.compile(r"\[\d+\] (.*)")


def spoken(program: str, line: str) -> tuple[str, str]:
    """Who says what in a program's line, without the time and the level that go without saying.

    What the monitor passes on of the machine that it powers is the worker's.
    """
    entry = log_line(line)
    if not entry.level:
        return program, line
    passed_on = _MACHINE.fullmatch(entry.message)
    if passed_on is not None:
        return spoken("worker", passed_on[1])
    return program, entry.message if entry.level == "INFO" else f"{entry.level.lower()}: {entry.message}"


class DemoOutput(AbstractContextManager["DemoOutput"]):
    """Collects what happened, and prints it as it happens."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self._console = console or printing.console()
        self._quiet = quiet
        self._live = ExitStack()
        self._display: Display | None = None
        self._jobs: list[tuple[e.Job, float, list[tuple[float, e.JobEvent]]]] = []
        self._start = time.monotonic()
        self._slept: float | None = None

    def __exit__(self, *_: object) -> None:
        self._live.close()

    def say(self, program: str, line: str) -> None:
        """One line of a program."""
        if self._quiet:
            return
        program, line = spoken(program, line)
        passed = Text(f"{time.monotonic() - self._start:6.1f} s  ", "dim")
        who = Text(f"{program:<8}", COLOURS.get(program, "default"))
        said = Text(printable(line), "default" if program == "demo" else "dim")
        if self._console.is_terminal:  # a line too long for it goes on where it began
            row = Table.grid()
            for width in (10, 8, None):
                row.add_column(width=width, no_wrap=width is not None, overflow="fold")
            row.add_row(passed, who, said)
            self._console.print(row)
        else:
            self._console.print(Text.assemble(passed, who, said), soft_wrap=True)

    def begin(self, number: int, job: e.Job) -> None:
        """Job `number` starts."""
        gpu = t("demo.gpu_off" if number == 1 else "demo.gpu_on")
        video, audio = (path.name for path in job.inputs.values())
        self.say("demo", t("demo.job", number=number, video=video, audio=audio, gpu=gpu))
        self._jobs.append((job, time.monotonic(), []))
        self._display = None
        if not self._quiet and is_terminal():
            self._display = self._live.enter_context(LiveDisplay(job, self._console))
        elif not self._quiet:
            self._display = PlainLines(f"          {t('demo.head', number=number)}   ")

    def event(self, event: e.JobEvent) -> None:
        """One event of the job that runs."""
        self._jobs[-1][2].append((time.monotonic(), event))
        if self._display is not None:
            self._display.show(event)
        if is_outcome(event):
            self._live.close()

    def asleep(self) -> None:
        """The GPU is off again."""
        self._slept = time.monotonic()
        self.say("demo", t("demo.asleep"))

    def table(self) -> None:
        """Stage times, bytes sent and saved, where the results lie."""
        table = Table(title="wakestream demo", title_justify="left")
        table.add_column("")
        for number in range(1, len(self._jobs) + 1):
            table.add_column(t("demo.head", number=number), justify="right")
        logs = [events for _, _, events in self._jobs]
        times = [stage_times(events, start) for _, start, events in self._jobs]
        uploads = [_last(events, e.Uploaded) for events in logs]
        results = [_last(events, e.Done) for events in logs]
        branches = [_last(events, e.Granted) for events in logs]
        rows = [(t("demo.branch"), [t(f"demo.{each.branch}") if each else "-" for each in branches])]
        for stage in STAGES:
            cells = [words.duration(each[stage]) if stage in each else "-" for each in times]
            rows.append((t(f"stage.{stage}"), cells))
        rows += [
            (t("demo.total"), [words.duration(sum(each.values())) for each in times]),
            (t("demo.sent"), [units.size(each.sent) if each else "-" for each in uploads]),
            (t("demo.saved"), [units.size(each.saved) if each else "-" for each in uploads]),
            (t("demo.result"), [units.size(each.size) if each else "-" for each in results]),
        ]
        if self._slept is not None:
            rows.append((t("demo.asleep_after"), ["", words.duration(self._slept - logs[-1][-1][0])]))
        for name, cells in rows:
            table.add_row(name, *cells)
        self._console.print(table)
        for number, (job, _, _) in enumerate(self._jobs, 1):
            self._console.print(t("demo.lies", number=number, path=job.output.resolve()), soft_wrap=True)

    def next_steps(self, *, opened: bool) -> None:
        """What to do after the demo."""
        if not self._quiet:
            steps = ("up", "join", "submit") if opened else ("open", "up", "join")
            self._console.print("", *(t(f"demo.next.{step}") for step in ("title", *steps)), sep="\n", soft_wrap=True)


def _last(events: list[tuple[float, e.JobEvent]], kind: type[T]) -> T | None:
    """The last event of a kind; None if there is none, because an earlier result was reused."""
    return next((event for _, event in reversed(events) if isinstance(event, kind)), None)
