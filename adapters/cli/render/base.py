"""What all displays of a job's events have in common."""

from __future__ import annotations

import time
from abc import abstractmethod
from contextlib import AbstractContextManager

from wakestream.operators.lifecycle.reuse import reused
from wakestream.operators.model import events as e


class Display(AbstractContextManager["Display"]):
    """Shows the events of a job while its block runs."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._reused = ""

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
