"""A snapshot is the state: of all deciders, with all durable facts and all their fields."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.streams.hub_net import comparable
from wakestream.operators.model.errors import JournalError
from wakestream.streams.decider import Decider
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.outbox import outbox
from wakestream.streams.outbox.facts import JobAccepted, OutboxFact
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.snapshot import LONGEST
from wakestream.streams.worker import state as w
from wakestream.streams.worker import worker

WORDS = st.sampled_from(["a", "b", "c", "online", "off", "cancelled"])
BLAKE3 = st.sampled_from(["a" * 64, "b" * 64])
ANY = st.sampled_from([{}, {"name": "a", "kind": "b"}, {"name": "c", "inputs": {"a": [1, "b"]}}])


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type, few enough that facts meet."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is d.DepotFile:
        return st.builds(hint, name=WORDS, blake3=BLAKE3, ext=st.sampled_from(["", ".mp4"]), size=st.integers(0, 9))
    if origin in (types.UnionType, Union):
        return st.one_of(*map(values, args))
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(values(args[0]), max_size=2).map(tuple) if args[-1] is ... else st.tuples(*map(values, args))
    if origin is frozenset:
        return st.frozensets(values(args[0]), max_size=2)
    if origin in (dict, Mapping):
        return ANY if args[1] is Any else st.dictionaries(WORDS, values(args[1]), max_size=2)
    if isinstance(hint, type) and (fields := get_type_hints(hint)) and not issubclass(hint, Path):
        return st.builds(hint, **{name: values(of) for name, of in fields.items() if get_origin(of) is not ClassVar})
    plain = {str: WORDS, int: st.integers(0, 9), float: st.integers(0, 9).map(float), bool: st.booleans()}
    return plain[hint] if hint in plain else ANY if hint is Any else st.from_type(hint)


def case(decider: Decider[Any, Any, Any, Any], kinds: Iterable[type], *last: Any) -> st.SearchStrategy[Any]:
    facts = st.lists(st.one_of(*map(values, kinds)), max_size=20)
    return st.tuples(st.just(decider), facts, st.just(last), st.integers(0, 20))


CASES = {
    "hub": case(hub.DECIDER, [kind for kind in get_args(f.Fact) if kind.DURABLE], f.HubStarted(9.0)),
    "outbox": case(outbox.DECIDER, get_args(OutboxFact)),
    "worker": case(worker.DECIDER, get_args(w.Kept)),
}


@pytest.mark.parametrize(
    ("decider", "kinds"), [(hub.DECIDER, f.Fact), (outbox.DECIDER, OutboxFact), (worker.DECIDER, w.Kept)]
)
def test_every_kind_of_fact_changes_the_state(decider: Decider[Any, Any, Any, Any], kinds: Any) -> None:
    assert [kind for kind in get_args(kinds) if kind not in decider._changes] == []


def applied(decider: Decider[Any, Any, Any, Any], facts: Iterable[Any]) -> list[Any]:
    """Those of the facts that may follow each other."""
    state, fit = decider.recover(()), list[Any]()
    for fact in facts:
        if isinstance(fact, JobAccepted) and not state.outputs.keys().isdisjoint(fact.outputs.values()):
            continue  # the outbox refuses such a job
        try:
            decider.evolve(state, fact)
        except (KeyError, AttributeError):
            state = decider.recover(fit)
        else:
            fit.append(fact)
    return fit


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_all_facts_lead_to_the_same_state_as_a_snapshot_and_the_facts_after_it(name: str, data: st.DataObject) -> None:
    decider, drawn, last, cut = data.draw(CASES[name])
    facts = applied(decider, drawn)
    state = decider.recover(())
    for fact in facts[:cut]:
        decider.evolve(state, fact)
    rows = decider.snapshot(state)
    for fact in facts[cut:]:  # the rows are read later, from what the state was
        decider.evolve(state, fact)
    states = decider.recover([*facts[cut:], *last], snapshot=rows), decider.recover([*facts, *last])
    of_snapshot, of_journal = map(comparable, states) if name == "hub" else states
    assert of_snapshot == of_journal


def test_an_id_that_another_license_used_before_is_of_one_license_after_a_snapshot() -> None:
    of_both = [f.JobDelivered("a", owner, "gpu", (), 0.0, "", "") for owner in ("ann", "bob")]
    state = hub.DECIDER.recover(of_both)
    assert hub.DECIDER.recover([], snapshot=hub.DECIDER.snapshot(state)) == state
    assert state.delivered_of == {"bob": {"a": None}}


def test_why_a_gpu_cannot_use_the_depot_for_a_job_is_in_a_snapshot() -> None:
    refused = [f.JobQueued("a", "ann", None, "video", {}, 0.0), f.JobDirect("a", "its links are refused")]
    state = hub.DECIDER.recover([], snapshot=hub.DECIDER.snapshot(hub.DECIDER.recover(refused)))
    assert state.refusals == {"a": "its links are refused"}


def test_a_large_state_has_many_rows_of_bounded_size() -> None:
    state = hub.HubState()
    for number in range(3000):
        payload = {"text": "x" * 1000}
        hub.DECIDER.evolve(state, f.JobQueued(f"j{number}", "ann", None, "heygem_submit", payload, 1.0))
    rows = list(hub.DECIDER.snapshot(state))
    assert max(map(len, rows)) <= LONGEST + 100
    assert len(rows) > 3
    assert hub.DECIDER.restore(rows) == state


@pytest.mark.parametrize("row", [b"{", b'{"field":"later","items":[1]}', b'{"field":"serial","items":["x"]}'])
def test_a_row_that_cannot_be_read_is_an_error_with_a_way_out(row: bytes) -> None:
    with pytest.raises(JournalError, match="use the version of wakestream that wrote it"):
        hub.DECIDER.restore([row])
