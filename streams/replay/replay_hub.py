"""Run the hub's decider again on a hub's log: the same events at the same times. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.hub.rows import FACTS, event_row, sent_row
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.config_json import config_from
from wakestream.streams.recording.recording import Log, MemoryTap, Row, Tap
from wakestream.streams.recording.secrets import REDACTED
from wakestream.streams.replay.input_rows import row_errors

Sent = f.Send | f.Broadcast


class ReplayedHub:
    """The hub's decider with its open connections. Facts take effect at once, since nothing is written to disk.

    Args:
        limits: The hub's limits.
        tap: Records the events and the frames that the hub sends.
        deliver: Called with each message to send, and with its open receivers.
        idle_ticks: Whether to record ticks that change nothing.
    """

    def __init__(
        self,
        limits: hub.Limits,
        tap: Tap,
        deliver: Callable[[Sent, list[int]], None] = lambda _command, _receivers: None,
        *,
        idle_ticks: bool = True,
    ) -> None:
        self._state = hub.HubState(limits=limits)
        self._tap, self._deliver, self._idle_ticks = tap, deliver, idle_ticks
        self.open: set[int] = set()

    def handle(self, event: f.Event, now: float) -> None:
        """Decide on an event at `now` (UNIX seconds), then apply the facts and send the messages."""
        match event:
            case f.ProcessStarted(rows, kept):  # what the journal had when the hub started
                hub.DECIDER.recover(kept, self._state, rows)
            case f.Opened(fd):
                self.open.add(fd)
            case f.Closed(fd):
                self.open.discard(fd)
        facts, commands = hub.DECIDER.step(self._state, event, now)
        if self._idle_ticks or facts or commands or not isinstance(event, f.Tick):
            self._tap.row(*event_row(event, now))
        for command in commands:
            if isinstance(command, f.Send | f.Broadcast):
                receivers = (command.fd,) if isinstance(command, f.Send) else command.to
                connected = [fd for fd in receivers if fd in self.open]
                self._tap.row(*sent_row(connected, command.message, command.old))
                self._deliver(command, connected)


def replay_hub(log: Log, limits: hub.Limits | None = None) -> Log:
    """Run the hub's decider on the inputs of `log`.

    Args:
        log: A hub's log.
        limits: Other limits than those that the log was recorded under.

    Returns:
        The log of what the hub decides now.

    Raises:
        UnusableLog: A row cannot be read as an event.
    """
    t = 0.0
    tap = MemoryTap(lambda: t)
    replayed = ReplayedHub(limits or config_from(hub.Limits(), log.header.config.get("policy", {})), tap)
    for row in log.rows:
        with row_errors(row):
            event = event_from(row)
            now = 0.0 if event is None else float(row.data["now"])
        if event is not None:
            t = row.t
            replayed.handle(event, now)
    return Log(log.header, tuple(tap.rows))


def event_from(row: Row) -> f.Event | None:
    """The event of an input row; None for a frame that the hub sent."""
    data = row.data
    if row.dir not in ("conn", "in"):
        return None
    if "frame" not in data:
        return _WITHOUT_FRAME[row.label](data)
    message = wire.from_frame(data["frame"])
    if isinstance(message, m.Register):
        credential = None if data.get("without_key") else REDACTED
        return f.Registering(data["fd"], message, credential, _license(data["license"]))
    return f.Received(data["fd"], message, data["old"])


_WITHOUT_FRAME: dict[str, Callable[[Mapping[str, Any]], f.Event]] = {
    "started": lambda data: f.ProcessStarted(
        tuple(map(msgspec.json.encode, data.get("state", ()))), tuple(map(FACTS.from_plain, data.get("kept", ())))
    ),
    "tick": lambda _: f.Tick(),
    "opened": lambda data: f.Opened(data["fd"]),
    "closed": lambda data: f.Closed(data["fd"]),
    "unreadable": lambda data: f.Unreadable(data["fd"], data["why"], data["code"]),
    "clock": lambda data: f.ClockMoved(float(data["by"])),
    "news_settled": lambda data: f.NewsSettled(data["delivery"]),
    "disk": lambda data: f.DiskSeen(bool(data["low"])),
    "revoked": lambda data: f.Revoked(data["license"]),
    "key_ended": lambda data: f.KeyEnded(data["fd"]),
    "licenses": lambda data: msgspec.convert({"tied": data["tied"], "released": data["released"]}, f.BookSeen),
}


def _license(found: Any) -> f.License | None:
    return None if found is None else f.License(found["id"], found["role"], found["revoked"])
