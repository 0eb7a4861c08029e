"""Rows of a log as inputs of the program that wrote it: connections, jobs, and which frames the link sends itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from wakestream.operators.model.errors import JournalError
from wakestream.operators.model.events import Job
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.jobs.job_order import Order
from wakestream.streams.jobs.job_runner import MOVE, ORDER, RETRY_NOW, Daemon
from wakestream.streams.recording import event_json
from wakestream.streams.recording.recording import Row, UnusableLog

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
