"""The hub's decision: facts and commands, with short forms for messages."""

from __future__ import annotations

from collections.abc import Iterable

from wakestream.streams.decider import Decision
from wakestream.streams.hub import events as f
from wakestream.streams.protocol import messages as m


class HubDecision(Decision[f.Fact, f.Command]):
    """The facts and commands of one event, in order."""

    __slots__ = ()

    def send(self, to: int | Iterable[int], message: m.Message, *, old: bool = False) -> None:
        """Send a message to one connection or to several."""
        if isinstance(to, int):
            self.command(f.Send(to, message, old))
        elif many := tuple(to):
            self.command(f.Send(many[0], message, old) if len(many) == 1 else f.Broadcast(many, message, old))

    def refuse(self, fd: int, code: str, reason: str, request_id: str | None = None) -> None:
        """Send an `error` with the text in both `msg` and `message`, since peers read either."""
        self.send(fd, m.Error(msg=reason, message=reason, code=code, request_id=request_id))
