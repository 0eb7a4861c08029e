"""What befalls jobs, read off the rows of a client's record: for whatever measures or traces them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.event_json import OUTCOME_KINDS, kind_of
from wakestream.streams.recording.recording import Direction, Tap
from wakestream.streams.recording.timeline import STAGE_AFTER

FIRST = "wake"
"""The stage that a job begins with."""

STAGE_NAMES = tuple(dict.fromkeys(STAGE_AFTER.values()))
_STAGE = {kind_of(event): stage for event, stage in STAGE_AFTER.items()}


class StageEvents(Tap):
    """A tap with one method for each thing of interest; each does nothing unless it is overridden.

    Only jobs that run are remembered.
    """

    def __init__(self) -> None:
        self._stage: dict[str, str] = {}

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """See `Tap.row`."""
        if direction == "in" and label == "job.accept" and job is not None:
            self._stage[job] = FIRST
            self.began(job, data)
        elif direction == "out" and job in self._stage:
            self._event(job, label, data)

    def frame(self, direction: Direction, message: m.Message) -> None:
        """Frames tell nothing that events do not."""

    def _event(self, job: str, kind: str, data: Mapping[str, Any]) -> None:
        before = self._stage[job]
        self.happened(job, kind, data)
        if kind in OUTCOME_KINDS:
            del self._stage[job]
            self.ended(job, before, kind, data)
        elif (stage := _STAGE.get(kind, before)) != before:
            self._stage[job] = stage
            self.moved(job, before, stage)

    def began(self, job: str, data: Mapping[str, Any]) -> None:
        """The job runs, in the stage `FIRST`; also again, after a restart."""

    def happened(self, job: str, kind: str, data: Mapping[str, Any]) -> None:
        """An event of the job, before what follows from it."""

    def moved(self, job: str, before: str, stage: str) -> None:
        """The stage `before` is over."""

    def ended(self, job: str, before: str, outcome: str, data: Mapping[str, Any]) -> None:
        """The job has its outcome, and the stage `before` is over."""
