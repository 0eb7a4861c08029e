"""A hub with a depot, in memory: it plays the hub of a scene whose GPU is off."""

from collections.abc import Callable
from typing import Any

from tests.support.streams.job_scene import OURS, offline
from wakestream.adapters.testing.fakes import FakeDepot, FakeLink
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m

FEATURES = (*OURS, d.FEATURE)
DEPOT = "http://depot:8384"
RESULT = d.DepotPlace(name="video", blake3="d" * 64, ext=".mp4", size=1000, have=True)


class DepotHub:
    """What the hub says of each frame of a client. `stored`: the jobs in its hands.

    `refused` is the code of every `places`, `result` what `delivered` says, `unknown` the answer to a query of another
    job; `deaf`: it answers no offer.
    """

    def __init__(self, depot: FakeDepot, submitted: Callable[[m.Submit], m.Message | None] = offline) -> None:
        self.depot, self.submitted = depot, submitted
        self.offered: dict[str, tuple[d.DepotFile, ...]] = {}
        self.stored: set[str] = set()
        self.refused: str | None = None
        self.result: dict[str, Any] | None = None
        self.deaf = False
        self.unknown: m.Message | None = None

    def answer(self, message: m.Message) -> m.Message | None:
        """The reply to a frame."""
        match message:
            case m.Submit(request_id=job):
                return self._state(job) or self.submitted(message)
            case d.DepotOffer(request_id=job, files=files) if not self.deaf:
                self.offered[job] = files
                return self.places(job)
            case d.DepotStored(request_id=job):
                if all(file.blake3 in self.depot.known for file in self.offered[job]):
                    self.stored.add(job)
                return self._state(job) or self.places(job)
            case d.DepotQuery(request_id=job):
                return self._state(job) or self.unknown
        return None

    def places(self, job: str) -> d.DepotPlaces:
        """Where the offered files are put."""
        if self.refused:
            return d.DepotPlaces(request_id=job, code=self.refused, reason=f"this depot is {self.refused}")
        files = tuple(
            d.DepotPlace(
                name=file.name, blake3=file.blake3, ext=file.ext, size=file.size, have=file.blake3 in self.depot.known
            )
            for file in self.offered[job]
        )
        return d.DepotPlaces(request_id=job, files=files, depot=DEPOT, capability="sealed")

    def _state(self, job: str) -> m.Message | None:
        if job in self.stored and self.result is not None:
            return delivered(job, **self.result)
        return d.DepotStored(request_id=job, until=1000) if job in self.stored else None


def delivered(job: str, **said: Any) -> d.DepotDelivered:
    """The results are in the depot."""
    return d.DepotDelivered(request_id=job, **{"files": (RESULT,), "gpu": "a", "depot": DEPOT, **said})


def said(link: FakeLink, *leave_out: type[m.Message]) -> list[str]:
    """The types of what the client said, in order."""
    return [message.TYPE.removeprefix("gpu.") for message in link.sent if not isinstance(message, leave_out)]
