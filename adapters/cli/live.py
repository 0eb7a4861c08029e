"""The live display of one job on a terminal: its stages, what it does now, and a bar with rate and time left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from wakestream.adapters.cli import words
from wakestream.operators import events as e

STAGES = ("submit", "wake", "check", "upload", "render", "download")

_STAGE_OF: dict[type, str] = {
    e.Queued: "wake", e.Waking: "wake", e.Granted: "check", e.Online: "check", e.Fingerprinted: "check",
    e.Checked: "upload", e.Uploading: "upload", e.Uploaded: "render", e.Submitted: "render", e.Running: "render",
    e.Rendered: "download", e.Downloading: "download",
}  # fmt: skip


class _Speed(ProgressColumn):
    """The rate, where the bar counts bytes."""

    _bytes = TransferSpeedColumn()

    def render(self, task: Task) -> RenderableType:
        return self._bytes.render(task) if task.fields.get("bytes") else Text("")


class LiveDisplay:
    """Implements `Display` with rich; log lines scroll above it."""

    def __init__(self, job: e.Job, console: Console | None = None) -> None:
        self._job = job
        self._stage = "submit"
        self._entered: dict[str, float] = {"submit": time.monotonic()}
        self._left: dict[str, float] = {}
        self._line = "asking the hub for a GPU"
        self._outcome: e.JobEvent | None = None
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), _Speed(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        self._bar = self._progress.add_task("", total=None, visible=False, note="", bytes=False)
        self._live = Live(get_renderable=self.picture, console=console, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()

    def show(self, event: e.JobEvent) -> None:
        """See `Display.show`."""
        self._line = words.event(event)
        stage = _STAGE_OF.get(type(event))
        if stage and stage != self._stage:
            self._enter(stage)
        if isinstance(event, e.Retrying):
            self._live.console.print(Text(self._line, "yellow"))
        self._show_bar(event)
        if isinstance(event, e.Done | e.Failed | e.TimedOut | e.Cancelled):
            self._outcome = event
            self._left.setdefault(self._stage, time.monotonic())

    def _enter(self, stage: str) -> None:
        now = time.monotonic()
        self._left[self._stage] = now
        self._entered[stage] = now
        self._left.pop(stage, None)
        self._stage = stage

    def _show_bar(self, event: e.JobEvent) -> None:
        match event:
            case e.Uploading():
                self._move("upload", event.bytes, event.of, event.name, True)
            case e.Downloading():
                self._move("download", event.bytes, event.of, self._job.output.name, True)
            case e.Running() if event.status != "queued":
                note = f"frame {event.frame}/{event.frames}" if event.frames else ""
                self._move("render", event.percent, 100, note, False)
            case _:
                self._progress.update(self._bar, visible=False)

    def _move(self, name: str, done: float, total: float | None, note: str, counts_bytes: bool) -> None:
        if self._progress.tasks[0].description != name:
            self._progress.reset(self._bar, description=name)
        self._progress.update(self._bar, completed=done, total=total, visible=True, note=note, bytes=counts_bytes)

    def picture(self) -> RenderableType:
        """What stands on the screen now."""
        stages = Table.grid(padding=(0, 2))
        stages.add_row(*(self._cell(stage) for stage in STAGES))
        title = Text(f"{self._job.video.name} + {self._job.audio.name} → {self._job.output.name}", "bold")
        parts: list[RenderableType] = [title, stages, Text(self._line, self._colour())]
        if self._outcome is None:
            parts.append(self._progress)
        return Group(*parts)

    def _cell(self, stage: str) -> Text:
        if stage not in self._entered:
            return Text(f"· {stage}", "dim")
        took = self._left.get(stage, time.monotonic()) - self._entered[stage]
        failed = self._outcome is not None and not isinstance(self._outcome, e.Done) and stage == self._stage
        if failed:
            return Text(f"✗ {stage} {words.duration(took)}", "red")
        if stage in self._left:
            return Text(f"✓ {stage} {words.duration(took)}", "green")
        return Text(f"▸ {stage} {words.duration(took)}", "bold cyan")

    def _colour(self) -> str:
        if self._outcome is None:
            return "default"
        return "bold green" if isinstance(self._outcome, e.Done) else "bold red"
