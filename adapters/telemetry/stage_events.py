"""Events and stages of jobs, from the rows of a client's recording, for metrics and traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.event_json import OUTCOME_KINDS
from wakestream.streams.recording.recording import Direction, Tap
from wakestream.streams.recording.timeline import STAGE_AFTER, stage_after

FIRST = "wake"
"""The first stage of a job."""

STAGE_NAMES = tuple(dict.fromkeys(STAGE_AFTER.values()))


class StageEvents(Tap):
    """A tap with a method for each change of a job; subclasses override them.

    It remembers running jobs only.
    """

    def __init__(self) -> None:
        self._stage: dict[str, str] = {}

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """See `Tap.row`."""
        if direction == "in" and label == "job.accept" and job is not None:
            self._stage[job] = FIRST
            self.began(job, data)
        elif direction == "out" and job in self._stage:
            before = self._stage[job]
            self.happened(job, label, data)
            if label in OUTCOME_KINDS:
                del self._stage[job]
                self.ended(job, before, label, data)
            elif (stage := stage_after(before, label)) != before:
                self._stage[job] = stage
                self.moved(job, before, stage)

    def frame(self, direction: Direction, message: m.Message) -> None:
        """Frames are ignored."""

    def began(self, job: str, data: Mapping[str, Any]) -> None:
        """The job has started, in the stage `FIRST`, or was started again after a restart."""

    def happened(self, job: str, kind: str, data: Mapping[str, Any]) -> None:
        """An event of the job, before `moved` and `ended`."""

    def moved(self, job: str, before: str, stage: str) -> None:
        """The job has left the stage `before`."""

    def ended(self, job: str, before: str, outcome: str, data: Mapping[str, Any]) -> None:
        """The job has its outcome and has left the stage `before`."""
