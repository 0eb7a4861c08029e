"""Whatever happens, in whatever order: nothing is spent beyond a budget that is gone, and what jobs used adds up."""

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from tests.streams.hub.test_event_sequences import coherent, steps
from tests.support.fuzz.example_counts import BOUNDED
from wakestream.streams.hub import costs, hub
from wakestream.streams.hub import events as f
from wakestream.streams.hub.state import ALL, Budgets, Connection, WarmHours
from wakestream.streams.protocol import messages as m

LIMITS = hub.Limits(
    price=1.0,
    budgets=Budgets({ALL: (3.0, None), "one": (1.0, 2.0)}),
    keep_warm=WarmHours({ALL: ("daily 00:00-06:00",)}),
    zone="Europe/Berlin",
    webhook=True,
)
BOSS = Connection(0, 0.0, admin=True)


def again(state: hub.HubState) -> hub.HubState:
    """What a new process makes of a snapshot."""
    return hub.DECIDER.restore(hub.DECIDER.snapshot(state), hub.HubState(LIMITS))


def used(state: hub.HubState, now: float) -> dict[str, float]:
    """Seconds of each GPU that ended and open jobs used."""
    found: dict[str, float] = dict.fromkeys(state.gpus, 0.0)
    for months in state.usage.months.values():
        for gpu, seconds in chain.from_iterable(of_month.items() for of_month in months.values()):
            found[gpu] = found.get(gpu, 0.0) + seconds
    for job in state.jobs.values():
        for gpu, seconds in state.used_by(job, now).items():
            found[gpu] = found.get(gpu, 0.0) + seconds
    return found


def decided(state: hub.HubState, event: f.Event, now: float) -> tuple[list[f.Fact], list[f.Command]]:
    """Decide and apply the facts: no grant, and no wake, beyond a budget."""
    blocked, wakers = dict(state.blocked), set(state.may_wake())
    facts, commands = hub.DECIDER.step(state, event, now)
    for fact in facts:
        if isinstance(fact, f.GpusBlocked):
            blocked = dict(fact.until)
        if isinstance(fact, f.JobGranted):
            assert not {ALL, fact.gpu} & blocked.keys()
    woken = {command.fd for command in commands if isinstance(command, f.Send) and isinstance(command.message, m.Boot)}
    assert woken <= wakers | set(state.may_wake())
    return facts, commands


@BOUNDED
@given(steps, st.sampled_from([0.0, 1_774_000_000.0]))
def test_budgets_hold_and_what_is_used_adds_up(sequence: list[tuple[f.Event, float]], begin: float) -> None:
    state, now = hub.HubState(LIMITS), begin
    for event, seconds in sequence:
        now += seconds
        if isinstance(event, f.Opened) and event.fd in state.connections:
            continue
        if isinstance(event, f.ProcessStarted):
            state = again(state)
        facts, commands = decided(state, event, now)
        assert coherent(state)
        assert all(f.Notify(fact) in commands for fact in facts if isinstance(fact, f.PowerNews))
        for gpu, sum_ in used(state, now).items():
            assert sum_ <= state.gpus[gpu].account.ran(0.0, now, LIMITS.zone) + 0.001
        kept = again(state)
        assert (kept.usage, kept.reached, kept.news) == (state.usage, state.reached, state.news)
        assert used(kept, now) == used(state, now)
        assert costs.of(state, BOSS, now, None, 40_000)["unused"]["used_s"] >= 0
