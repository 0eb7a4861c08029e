"""The clock is set: which numbers of a state are moved, and that no decision changes."""

from collections.abc import Iterator
from dataclasses import is_dataclass
from inspect import get_annotations
from typing import Any, get_args, get_type_hints
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.model.events import FileRef
from wakestream.streams.decider import Decision
from wakestream.streams.hub.state import HubState, Limits
from wakestream.streams.moments import Moment, mover
from wakestream.streams.worker import shares, worker
from wakestream.streams.worker import state as w

History = list[tuple[Any, float]]

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
    "Durable.depot_saved": "seconds",
    "GpuRecord.boots": "seconds",
    "GpuRecord.failed_boots": "a share",
    "GpuRecord.idle_after": "seconds",
    "GpuRecord.told": "labels",
    "Connection.labels": "labels",
    "GpuRecord.price": "money",
    "GpuRecord.retry_at": "in the future, and moved by itself",
    "HubJob.began": "seconds",
    "HubJob.used": "seconds",
    "HubState.blocked": "the end of a day or a month",
    "HubState.capabilities": "all capabilities are renewed, since they contain times of the wall clock",
    "HubState.rates": "bytes a second",
    "HubState.saving": "seconds",
    "HubState.unpaid_until": "the end of a day",
    "HubState.uploads": "bytes a second, beside a moment",
    "JobUsed.at": "a time for people",
    "JobUsed.gpus": "seconds",
    "Meter.share": "seconds",
    "Planned.at": "planned again each second",
    "Planned.machines": "seconds",
    "Planned.starts": "seconds",
    "PowerNews.at": "a time for people",
    "Usage.days": "seconds",
    "Usage.months": "seconds",
    "Usage.totals": "seconds",
    "Usage.work": "seconds",
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
    found = {place for place in floats(HubState, "", set()) if not place.startswith(("Result.", "QueueState."))}
    assert found == NO_MOMENTS.keys()
    assert all(place.startswith("Frame.") for place in floats(w.QueueState, "", set()))


def test_moments_are_moved_wherever_they_are() -> None:
    move = mover(dict[str, list[tuple[str, Moment | None]]])
    assert move is not None
    assert move({"a": [("b", 1.0), ("c", None)]}, lambda at: at + 1) == {"a": [("b", 2.0), ("c", None)]}
    assert mover(dict[str, float]) is None


PAIRS = st.integers(1, 3).map(lambda number: w.pair(FileRef(f"{number:032x}", ".mp4"), FileRef("0" * 32, ".wav")))
ASKS = st.builds(w.Ask, PAIRS, st.sampled_from("ab"), st.just(True), st.sampled_from(["", "x", "y"]))
AT_WORKER = st.one_of(
    ASKS,
    ASKS,
    st.builds(w.Ended, PAIRS.map(w.task_id), st.integers(1, 2), st.just(1), st.just("d" * 64)),
    st.just(w.Ready()),
)


def history(events: st.SearchStrategy[Any]) -> st.SearchStrategy[History]:
    return st.lists(st.tuples(events, st.sampled_from([0.0, 1.0, 700.0, 3500.0])), min_size=20, max_size=40)


def names(decision: Decision[Any, Any]) -> list[Any]:
    """What is decided about what, without times."""
    about = ("task_id", "job", "status")
    return [(type(each), *(getattr(each, name, None) for name in about)) for each in (*decision[0], *decision[1])]


# The hub's and the outbox's are in their test_any_order.py. The monitor's clock cannot be set.
@patch.object(shares, "MAX_FINISHED", 1)
@patch.object(shares, "MAX_FRESH", 2)
@settings(max_examples=100, deadline=None)
@given(data=st.data(), by=st.sampled_from([3600.0, -3600.0, 1e6, -1e6]))
def test_no_decision_changes_when_the_clock_is_set_and_set_right_again(data: st.DataObject, by: float) -> None:
    state, shifted, now, offset = w.QueueState(), w.QueueState(), 1e9, 0.0
    jumps = {data.draw(st.integers(5, 15)): by, data.draw(st.integers(16, 40)): -by}
    for number, (event, seconds) in enumerate(data.draw(history(AT_WORKER))):
        now += seconds
        if jump := jumps.get(number):
            offset += jump
            worker.DECIDER.step(shifted, w.ClockMoved(jump), now + offset)
            worker.DECIDER.step(state, w.ClockMoved(0.0), now)  # an event is a time to look at all
        assert decided(shifted, event, now + offset) == decided(state, event, now)


def decided(state: w.QueueState, event: Any, now: float) -> Any:
    try:
        decision = worker.DECIDER.step(state, event, now)
    except WorkerRefused as error:
        return error.code
    return names(decision)
