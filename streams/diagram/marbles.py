"""What a marble diagram is made of: lanes (messages, power, connections, jobs) with marks and spans in time. Pure.

`marbles_lanes` reads them off a log, `marbles_groups` puts alike ones together, `marbles_scale` and `marbles_labels`
say where they stand; adapters/cli/marbles/marbles.py draws them.
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
"""0 happens all the time and bears no label, 3 changes the course, 4 is a divergence."""

TIMES: Final = "\N{MULTIPLICATION SIGN}"

STAGES = ("wait", "upload", "render", "download", "hold")
"""What a job's spans are called; `hold` is a hub's view: the job has its GPU."""

LONG, WAIT, WORK = -0.75, 0.75, 2.5
"""What a fold costs: of a good part of the whole time, of a wait, and of work that goes on."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One row of the log on its lane. `label` is short, `text` tells all; `t` is seconds since the log's epoch."""

    t: float
    label: str
    kind: MarkKind
    weight: Weight
    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A state that lasted: a power word, a stage of a job, or a connection that was up."""

    start: float
    end: float
    word: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One line. `ids` are the jobs or connections on it; `members` are the lanes that a grouped one stands for."""

    kind: LaneKind
    title: str
    marks: tuple[Mark, ...] = ()
    spans: tuple[Span, ...] = ()
    ids: tuple[str, ...] = ()
    outcome: str = ""
    members: tuple[Lane, ...] = ()

    @property
    def start(self) -> float:
        """When it begins; 0 for an empty lane."""
        return min((*(m.t for m in self.marks), *(s.start for s in self.spans)), default=0.0)

    @property
    def end(self) -> float:
        """When it ends."""
        return max((*(m.t for m in self.marks), *(s.end for s in self.spans)), default=0.0)


@dataclass(frozen=True, slots=True)
class Diagram:
    """All lanes from top to bottom; `moments` are the times at which something new happened.

    `busy` is when jobs did more than wait.
    """

    program: str
    epoch: float
    lanes: tuple[Lane, ...]
    moments: tuple[float, ...]
    busy: tuple[Span, ...] = ()
    divergences: tuple[Divergence, ...] = ()

    @property
    def jobs(self) -> int:
        """How many jobs there are."""
        return sum(max(1, len(lane.members)) for lane in self.lanes if lane.kind in ("job", "jobs"))

    @property
    def seconds(self) -> float:
        """From the first row to the last."""
        return max(self.moments) - min(self.moments) if self.moments else 0.0

    def price(self, start: float, end: float) -> float:
        """What it costs to fold the time between: work that goes on deserves its length more than mere waiting."""
        if end - start >= self.seconds / 4:
            return LONG
        return WORK if any(start < busy.end and end > busy.start for busy in self.busy) else WAIT
