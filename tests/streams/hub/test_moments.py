"""Which numbers of the hub's state are moved when the clock is set."""

from collections.abc import Iterator
from dataclasses import is_dataclass
from inspect import get_annotations
from typing import Any, get_args, get_type_hints

from msgspec import Struct

from wakestream.streams.hub.moments import Moment, mover
from wakestream.streams.hub.state import HubState, Limits

NO_MOMENTS = {
    "Account.since": "the ledger has times of the wall clock, and is told of a change",
    "Account.at": "the same",
    "Account.running_since": "the same",
    "Account.days": "seconds",
    "Account.before": "seconds",
    "Account.off_since": "as `since`",
    "BudgetReached.at": "a time for people",
    "BudgetReached.until": "the end of a day or a month",
    "Durable.boots": "times for people, and seconds",
    "GpuRecord.boots": "seconds",
    "GpuRecord.idle_after": "seconds",
    "GpuRecord.price": "money",
    "GpuRecord.retry_at": "in the future, and moved by itself",
    "HubJob.began": "seconds",
    "HubJob.used": "seconds",
    "HubState.blocked": "the end of a day or a month",
    "HubState.capabilities": "all capabilities are renewed, since they contain times of the wall clock",
    "HubState.unpaid_until": "the end of a day",
    "JobUsed.at": "a time for people",
    "JobUsed.gpus": "seconds",
    "Meter.share": "seconds",
    "PowerNews.at": "a time for people",
    "Usage.days": "seconds",
    "Usage.months": "seconds",
    "Usage.totals": "seconds",
}


def floats(kind: Any, place: str, seen: set[Any]) -> Iterator[str]:
    """Where numbers are in this type that are no moments."""
    if kind is float:
        yield place
    for part in () if kind == Moment else get_args(kind):
        yield from floats(part, place, seen)
    if isinstance(kind, type) and (is_dataclass(kind) or issubclass(kind, Struct)) and kind not in (*seen, Limits):
        seen.add(kind)
        for name, hint in get_type_hints(kind, include_extras=True).items():
            owner = next(base for base in reversed(kind.__mro__) if name in get_annotations(base))
            of = kind if issubclass(kind, Struct) else owner
            yield from floats(hint, f"{of.__name__}.{name}", seen)


def test_each_number_of_the_state_is_a_moment_or_is_known_to_be_none() -> None:
    found = {place for place in floats(HubState, "", set()) if not place.startswith(("Result.", "WorkerState."))}
    assert found == NO_MOMENTS.keys()


def test_moments_are_moved_wherever_they_are() -> None:
    move = mover(dict[str, list[tuple[str, Moment | None]]])
    assert move is not None
    assert move({"a": [("b", 1.0), ("c", None)]}, lambda at: at + 1) == {"a": [("b", 2.0), ("c", None)]}
    assert mover(dict[str, float]) is None
