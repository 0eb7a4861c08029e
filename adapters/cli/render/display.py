"""How a running job is shown: a live display on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from typing import Self

from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.base import Display
from wakestream.adapters.cli.render.live import LiveDisplay
from wakestream.adapters.cli.render.log_reader import line as log_line
from wakestream.adapters.runtime.desktop import notify
from wakestream.adapters.runtime.printing import say, say_json
from wakestream.adapters.telemetry import logs
from wakestream.operators.lifecycle.outcome import is_outcome
from wakestream.operators.lifecycle.reuse import OWN
from wakestream.operators.model import events as e
from wakestream.streams.recording.event_json import kind, plain_event

STEADY = (e.Uploading, e.Running, e.Downloading, e.Waking)
"""Events that come often: plain output shows one of a kind every few seconds."""

PLAIN_EVERY = 5.0

NO_CURSOR = ("dumb", "unknown")
"""Terminals on which nothing can be drawn twice in the same place."""


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

    def _like_ours(self, text: str) -> str:
        first, end, more = text.partition("\n")
        found = log_line(first)
        if not found.level or first.startswith("{"):
            return text
        return f"{self._line(f'{found.level.lower()}: {found.message}', time.monotonic())}{end}{more}"

    def _line(self, text: str, at: float) -> str:
        return f"{self._prefix}{at - self._start:7.1f} s  {text}"

    def _due(self, event: e.JobEvent, at: float) -> bool:
        if not isinstance(event, STEADY):
            return True
        changed = getattr(event, "phase", getattr(event, "status", None))
        last, before = self._shown.get(kind(event), (-math.inf, None))
        if at - last < PLAIN_EVERY and changed == before:
            return False
        self._shown[kind(event)] = (at, changed)
        return True


def display(job: e.Job, *, as_json: bool, plain: bool = False, quiet: bool = False) -> Display:
    """The display that fits where standard output goes."""
    if quiet:
        return JsonLines(job.id, quiet=True) if as_json else Outcomes()
    if as_json:
        return JsonLines(job.id)
    if plain or not sys.stdout.isatty() or os.environ.get("TERM") in NO_CURSOR:
        return PlainLines()

    return LiveDisplay(job)


class Notifying(Display):
    """Shows the events with another display. A job that the user cancels is not told."""

    def __init__(self, shown: Display, job: e.Job) -> None:
        super().__init__()
        self._shown, self._job = shown, job
        self._outcome: e.JobEvent | None = None

    def __enter__(self) -> Self:
        self._shown.__enter__()
        return self

    def __exit__(self, *failed: object) -> None:
        self._shown.__exit__(*failed)
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
