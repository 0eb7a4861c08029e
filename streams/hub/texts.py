"""The text requests that are open at the hub: what was asked for whom, and which text worker has it. Pure.

They live in memory only: their clients wait for half a minute to some minutes, and ask again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from wakestream.streams.hub import events as f


class Text(f.TextAsked, frozen=True, kw_only=True):
    """One request, as it was asked. `worker` is the connection that has it, None while it waits."""

    id: int
    worker: int | None = None


@dataclass(slots=True)
class Texts:
    """All open requests, oldest first. `in_vain`: a GPU was online, and no text worker connected."""

    open: dict[int, Text] = field(default_factory=dict)
    serial: int = 0
    in_vain: bool = False

    def of(self, owner: str) -> int:
        """How many requests of one license are open."""
        return sum(text.owner == owner for text in self.open.values())

    def answered(self, worker: int, owner: str, kind: str) -> list[Text]:
        """The requests that a worker's result may answer, oldest first."""
        return [text for text in self.open.values() if (text.worker, text.owner, text.kind) == (worker, owner, kind)]

    def end(self, holds: Callable[[Text], bool]) -> None:
        """Remove the requests for which `holds` is true."""
        self.open = {id_: text for id_, text in self.open.items() if not holds(text)}

    def asked(self, fact: f.TextAsked) -> None:
        """Add a request, which waits."""
        self.serial += 1
        self.open[self.serial] = Text(fact.kind, fact.owner, fact.fd, fact.frame, fact.at, id=self.serial)

    def given(self, fact: f.TextGiven) -> None:
        """Note the worker of a request."""
        self.open[fact.id] = replace(self.open[fact.id], worker=fact.worker)
        self.in_vain = False

    def ended(self, fact: f.TextEnded) -> None:
        """Remove a request that was answered, or failed."""
        self.open.pop(fact.id, None)
        self.in_vain = self.in_vain or fact.in_vain
