"""The parts of a marble diagram: lanes (messages, power, connections, jobs) with marks and spans in time. Pure.

`lanes` makes them from a log, `groups` combines similar ones, `layout` places them, and adapters/cli/marbles draws
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from wakestream.streams.replay.divergence import Divergence

LaneKind = Literal["power", "link", "frames", "connection", "effects", "self", "job", "jobs"]
MarkKind = Literal[
    "in", "out", "effect", "conn", "event", "fault", "retry", "done", "failed", "timed_out", "cancelled", "divergence"
]
Weight = Literal[0, 1, 2, 3, 4]
"""0 is frequent and has no label, 3 changes what happens next, 4 is a divergence."""

TIMES: Final = "\N{MULTIPLICATION SIGN}"

STAGES = ("wait", "upload", "render", "download", "hold")
"""Names of a job's spans. `hold` is used for a hub: the job has its GPU."""

LONG, WAIT, WORK = -0.75, 0.75, 2.5
"""The costs of folding a large part of the whole time, a wait, and a time with work."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One row of the log on its lane. `text` is the whole row; `t` is seconds since the log's epoch."""

    t: float
    label: str
    kind: MarkKind
    weight: Weight
    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A time in one state: a power state, a stage of a job, or a connection that was up."""

    start: float
    end: float
    word: str

    def overlaps(self, start: float, end: float) -> bool:
        """Whether a part of it is between `start` and `end`."""
        return self.start < end and self.end > start


@dataclass(frozen=True, slots=True)
class Lane:
    """One line. `ids` are its jobs or connections; `members` are the lanes that were combined into it."""

    kind: LaneKind
    title: str
    marks: tuple[Mark, ...] = ()
    spans: tuple[Span, ...] = ()
    ids: tuple[str, ...] = ()
    outcome: str = ""
    members: tuple[Lane, ...] = ()

    @property
    def start(self) -> float:
        """Its first time; 0 if it is empty."""
        return min((*(mark.t for mark in self.marks), *(span.start for span in self.spans)), default=0.0)

    @property
    def end(self) -> float:
        """Its last time."""
        return max((*(mark.t for mark in self.marks), *(span.end for span in self.spans)), default=0.0)


@dataclass(frozen=True, slots=True)
class Diagram:
    """All lanes from top to bottom.

    `moments` are the times of rows that are not routine. `busy` are the times in which jobs did more than wait.
    """

    program: str
    epoch: float
    lanes: tuple[Lane, ...]
    moments: tuple[float, ...]
    busy: tuple[Span, ...] = ()
    divergences: tuple[Divergence, ...] = ()

    @property
    def jobs(self) -> int:
        """The number of jobs."""
        return sum(max(1, len(lane.members)) for lane in self.lanes if lane.kind in ("job", "jobs"))

    @property
    def seconds(self) -> float:
        """From the first row to the last."""
        return max(self.moments) - min(self.moments) if self.moments else 0.0

    def price(self, start: float, end: float) -> float:
        """The cost of folding this time: work is worth showing in its length more than waiting is."""
        if end - start >= self.seconds / 4:
            return LONG
        return WORK if any(busy.overlaps(start, end) for busy in self.busy) else WAIT
