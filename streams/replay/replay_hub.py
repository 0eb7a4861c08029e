"""A hub's log drives its decider again: the same events at the same times, and what it would send now. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from wakestream.operators.model.errors import JournalError
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.hub.rows import FACTS, event_row, sent_row
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.config_json import config_from
from wakestream.streams.recording.recording import REDACTED, Log, MemoryTap, Row, UnusableLog


def replay_hub(log: Log, limits: hub.Limits | None = None) -> Log:
    """The log of what the hub decides now; `limits` are those it was recorded under, unless others are given."""
    return _Replay(log, limits or config_from(hub.Limits(), log.header.config.get("policy", {}))).run()


class _Replay:
    def __init__(self, log: Log, limits: hub.Limits) -> None:
        self.log = log
        self.state = hub.HubState(limits=limits)
        self.t = 0.0
        self.tap = MemoryTap(lambda: self.t)
        self.open: set[int] = set()

    def run(self) -> Log:
        for row in self.log.rows:
            heard = _heard(row)
            if heard is not None:
                self.t = row.t
                self._happen(*heard)
        return Log(self.log.header, tuple(self.tap.rows))

    def _happen(self, event: f.Event, now: float) -> None:
        take_in(self.state, event)
        if isinstance(event, f.Opened):
            self.open.add(event.fd)
        if isinstance(event, f.Closed):
            self.open.discard(event.fd)
        self.tap.row(*event_row(event, now))
        facts, commands = hub.decide(self.state, event, now)
        for fact in facts:
            hub.evolve(self.state, fact)
        for command in commands:
            self._carry_out(command)

    def _carry_out(self, command: f.Command) -> None:
        if isinstance(command, f.Close):
            return
        to = (command.fd,) if isinstance(command, f.Send) else command.to
        here = [fd for fd in to if fd in self.open]
        self.tap.row(*sent_row(here, command.message, command.old))


def take_in(state: hub.HubState, event: f.Event) -> None:
    """What the journal held when the hub started: there it is in the state before anything happens."""
    for fact in event.kept if isinstance(event, f.Started) else ():
        hub.evolve(state, fact)


_OF_FD: dict[str, type[f.Opened | f.Closed]] = {"opened": f.Opened, "closed": f.Closed}


def _heard(row: Row) -> tuple[f.Event, float] | None:
    try:
        event = event_from(row)
        return None if event is None else (event, float(row.data["now"]))
    except (JournalError, LookupError, TypeError, ValueError) as error:
        raise UnusableLog(f"row {row.seq} ({row.dir} {row.label}) cannot be replayed: {error!r}") from error


def event_from(row: Row) -> f.Event | None:
    """The event that a row tells of, or None for what the hub sent."""
    data = row.data
    if row.dir == "conn":
        return _of_itself(row) or _OF_FD[row.label](data["fd"])
    if row.dir != "in":
        return None
    if row.label == "unreadable":
        return f.Unreadable(data["fd"], data["why"], data["code"])
    if row.label in _RARE:
        return _RARE[row.label](data)
    message = wire.from_frame(data["frame"])
    if isinstance(message, m.Register):
        credential = None if data.get("without_key") else REDACTED
        return f.Registering(data["fd"], message, credential, _license(data["license"]))
    return f.Received(data["fd"], message, data["old"])


_RARE: dict[str, Callable[[Mapping[str, Any]], f.Event]] = {
    "clock": lambda data: f.ClockMoved(float(data["by"])),
    "disk": lambda data: f.DiskSeen(bool(data["low"])),
    "revoked": lambda data: f.Revoked(data["license"]),
    "key_ended": lambda data: f.KeyEnded(data["fd"]),
    "licenses": lambda data: msgspec.convert({"tied": data["tied"], "released": data["released"]}, f.BookSeen),
}


def _of_itself(row: Row) -> f.Event | None:
    if row.label == "started":
        return f.Started(tuple(map(FACTS.from_plain, row.data.get("kept", ()))))
    return f.Tick() if row.label == "tick" else None


def _license(found: Any) -> f.License | None:
    return None if found is None else f.License(found["id"], found["role"], found["revoked"])
