"""The ended jobs, by the hub's messages: their capabilities start nothing more at the worker."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from wakestream.streams.hub.capabilities import LEEWAY
from wakestream.streams.protocol import messages as m

REMEMBERED = 10_000
"""Ended jobs of a license that are remembered."""


class EndedJobs:
    """Fed with the hub's messages. `clock` gives UNIX seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ended: dict[str, OrderedDict[str, float]] = {}
        self._floor: dict[str, float] = {}

    def feed(self, event: object) -> None:
        """A message: a job got the GPU, or has ended."""
        match event:
            case m.Submit(request_id=job, license=str(owner)):
                self._begin(job, owner)
            case m.Cancel(request_id=job, license=str(owner)) | m.JobDone(request_id=job, license=str(owner)):
                ended = self._ended.setdefault(owner, OrderedDict())
                ended[job] = self._clock()
                ended.move_to_end(job)
                if len(ended) > REMEMBERED:
                    # The forgotten job is unknown from now on, so all capabilities from before its end are refused.
                    self._floor[owner] = ended.popitem(last=False)[1]
            case m.DispatchBatch(jobs=jobs):
                for frame in jobs:
                    self._begin(str(frame.get("request_id")), str(frame.get("license")))

    def _begin(self, job: str, owner: str) -> None:
        if owner in self._ended:
            self._ended[owner].pop(job, None)

    def has(self, job: str, owner: str, issued: float) -> bool:
        """Whether the job of a capability that was issued at `issued` has ended."""
        return issued <= self._floor.get(owner, float("-inf")) + LEEWAY or job in self._ended.get(owner, {})
