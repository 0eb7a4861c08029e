"""The hub's log: each event that it decided on, with the hub's own time, and each frame that it then sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec.structs import asdict

from wakestream.streams.hub import events as f
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.facts_json import FactsJson
from wakestream.streams.recording.recording import Direction, frame_row

FACTS: FactsJson[f.Fact] = FactsJson(cast("type[f.Fact]", f.Fact), Path("hub log"))
"""The hub's facts as they stand in its log."""

Told = tuple[Direction, str, dict[str, Any], str | None]
"""Direction, label, data and job of a row."""


def event_row(event: f.Event, now: float) -> Told:
    """The row of an event. `now` is the time of the decision in UNIX seconds."""
    match event:
        case f.Received():
            label, frame, job = frame_row(event.message)
            return "in", label, {"fd": event.fd, "now": now, "old": event.old, "frame": frame}, job
        case f.Registering():
            label, frame, _ = frame_row(event.message)
            data = {"fd": event.fd, "now": now, "frame": frame, "license": event.license and asdict(event.license)}
            without_key = event.credential is None and event.license is None
            return "in", label, data | ({"without_key": True} if without_key else {}), None
        case f.Unreadable():
            return "in", "unreadable", {"fd": event.fd, "now": now, "why": event.reason, "code": event.code}, None
        case f.ProcessStarted(rows, kept, journal, seq):
            old = {"kept": [*map(FACTS.plain, kept)]} if kept else {}
            state = {"state": [*map(msgspec.json.decode, rows)]} if rows else {}
            read = {"journal": journal, "seq": seq} if journal else {}
            return "conn", "started", {"now": now, **read, **state, **old}, None
        case _:
            direction, label = PLAIN[type(event)]
            job = event.asked.request_id or None if isinstance(event, f.DepotAnswered) else None
            return direction, label, {**msgspec.to_builtins(event), "now": now}, job


PLAIN: dict[type[f.Event], tuple[Direction, str]] = {
    f.Opened: ("conn", "opened"),
    f.Closed: ("conn", "closed"),
    f.Tick: ("conn", "tick"),
    f.Revoked: ("in", "revoked"),
    f.BookSeen: ("in", "licenses"),
    f.DepotAnswered: ("in", "depot"),
    f.KeyEnded: ("in", "key_ended"),
    f.ClockMoved: ("in", "clock"),
    f.DiskSeen: ("in", "disk"),
    f.NewsSettled: ("in", "news_settled"),
}
"""Direction and label of the events whose row has exactly their fields and the time."""


def sent_row(to: Iterable[int], message: m.Message, old: bool, gone: Sequence[int] = ()) -> Told:
    """The row of a frame that goes to the connections `to`, under its older name as well if `old`.

    `gone` are those for which it was decided as well, and which closed before what it rests on was journaled.
    """
    label, frame, job = frame_row(message)
    return "out", label, {"to": list(to), **({"gone": list(gone)} if gone else {}), "old": old, "frame": frame}, job
