"""Rows of a log as inputs of the program that wrote it: connections, jobs, and which frames the link sends itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import msgspec

from wakestream.operators.model.errors import JournalError
from wakestream.operators.model.events import Job
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.hub import events as f
from wakestream.streams.hub.rows import FACTS, PLAIN
from wakestream.streams.jobs.job_order import Order
from wakestream.streams.jobs.job_runner import MOVE, ORDER, RETRY_NOW, Daemon
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import to_event
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording import event_json
from wakestream.streams.recording.recording import Log, Row, UnusableLog
from wakestream.streams.recording.secrets import REDACTED

KEEPALIVE: Final = frozenset({"ping", "pong"})
"""Frames that keep a connection open. The log of a client or a monitor does not have them."""

LINK_FRAMES: Final = KEEPALIVE | {"register"}
"""Frames that the link sends itself. The replayed programs do not produce them."""


@contextmanager
def row_errors(row: Row, program: str = "") -> Iterator[None]:
    """Turn the errors of reading `row` into `UnusableLog`; `program` names its log where there are several."""
    try:
        yield
    except (JournalError, LookupError, TypeError, ValueError) as error:
        where = f"{program}: row" if program else "row"
        raise UnusableLog(f"{where} {row.seq} ({row.dir} {row.label}) cannot be replayed: {error!r}") from error


def frame_of(row: Row) -> Mapping[str, Any]:
    """The frame of a row: a hub keeps it in a field, since its rows have more than the frame."""
    frame = row.data.get("frame")  # the event `running` has a number of that name
    return frame if isinstance(frame, Mapping) else row.data


def is_frame(row: Row) -> bool:
    """Whether a row of a client's or monitor's log is a frame that both ends record."""
    return row.dir in ("in", "out") and row.data.get("type") == row.label and row.label not in KEEPALIVE


def links(log: Log) -> list[list[Row]]:
    """The frames of a client's or monitor's log, one list for each connection: each begins with `register`."""
    connections: list[list[Row]] = []
    for row in filter(is_frame, log.rows):
        if not connections or (row.dir == "out" and row.label == "register"):
            connections.append([])
        connections[-1].append(row)
    return connections


def link_event(row: Row) -> LinkUp | LinkDown:
    """The link event of a `conn` row."""
    if row.label == "up":
        return LinkUp(frozenset(row.data.get("features", ())))
    return LinkDown(row.data.get("why", ""), row.data.get("code"))


def job_from(row: Row) -> Job:
    """The job of a `job.accept` row."""
    return event_json.job_from(str(row.job), row.data)


def command_of(daemon: Daemon, row: Row) -> Callable[[], object] | None:
    """The call of a row in which a user cancelled, retried or moved a job; None for other rows."""
    if row.label == "job.cancel":
        return partial(daemon.cancel, str(row.job))
    if row.label == RETRY_NOW:
        return partial(daemon.retry_now, str(row.job))
    if row.label == MOVE:
        return partial(daemon.move, str(row.job), str(row.data["before"]), int(row.data["priority"]))
    if row.label != ORDER:
        return None
    jobs, priorities = (str(row.data[name]).split() for name in ("jobs", "priorities"))
    return partial(daemon.arrange, Order(tuple(jobs), tuple(map(int, priorities))))


def monitor_event(row: Row, *gpus: str) -> p.PowerEvent | None:
    """The event of an input row of the monitor of `gpus`; None for a frame that does not concern it."""
    if row.dir == "in":
        return to_event(wire.from_frame(row.data, strict=False), *gpus)
    if row.dir == "conn":
        return p.Tick() if row.label == "tick" else link_event(row)
    data: dict[str, Any] = dict(row.data)
    if "initialized" in data:
        return p.HealthAnswer(**data)
    if "reading" in data:
        return p.Reading(**data)
    if not data:
        return p.Ended()
    return p.CallFailed(**data) if "why" in data else p.Taken(**data)


def event_from(row: Row) -> f.Event:
    """The event of an input row of a hub."""
    data = row.data
    if row.label == "started":
        state, kept = map(msgspec.json.encode, data.get("state", ())), map(FACTS.from_plain, data.get("kept", ()))
        return f.ProcessStarted(tuple(state), tuple(kept), str(data.get("journal", "")), int(data.get("seq", 0)))
    if row.label == "unreadable":
        return f.Unreadable(data["fd"], data["why"], data["code"])
    if "frame" not in data:
        return msgspec.convert(data, _PLAIN[row.label])
    message = wire.from_frame(data["frame"])
    if isinstance(message, m.Register):
        credential = None if data.get("without_key") else REDACTED
        return f.Registering(data["fd"], message, credential, msgspec.convert(data["license"], f.License | None))
    return f.Received(data["fd"], message, data["old"])


_PLAIN: dict[str, type[f.Event]] = {label: kind for kind, (_, label) in PLAIN.items()}
