"""A display that also shows a notification on the desktop when the job has ended."""

from __future__ import annotations

from typing import Self

from wakestream.adapters.cli.render import job_text as words
from wakestream.adapters.cli.render.base import Display
from wakestream.adapters.runtime.desktop import notify
from wakestream.operators.lifecycle.outcome import is_outcome
from wakestream.operators.model import events as e


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
