"""Killed at any moment and started again, whenever a start shows: a monitor never starts what is being started."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from wakestream.operators.model.ports import LinkUp, PowerState
from wakestream.streams.monitor import persistence
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import Monitor

steps = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 3.0, 20.0])),
    st.tuples(st.just("wake"), st.just(0.0)),
    st.tuples(st.just("look"), st.just(0.0)),
    st.tuples(st.just("taken"), st.just(0.0)),
    st.tuples(st.just("lost"), st.just(0.0)),
    st.tuples(st.just("kill"), st.sampled_from([0.5, 5.0, 40.0])),
)


class Cloud:
    """A provider whose start shows `hidden` seconds after it was asked for, and its monitor, which may be killed.

    The journal is written before a command is carried out; a kill may come between the two.
    """

    def __init__(self, hidden: float) -> None:
        self.hidden = hidden
        self.policy = p.PowerPolicy(gpu="gpu-1", boot_timeout=300.0, checks_health=False)
        self.monitor, self.machine, self.now = Monitor(self.policy, Random(1)), p.Machine(), 1000.0
        self.journal: list[persistence.MachineKept] = []
        self.started_at: float | None = None
        self.starts = 0
        self.call: p.Start | p.Inspect | None = None
        self.happens(LinkUp(frozenset({"power_state"})))

    def happens(self, event: p.PowerEvent, *, dies: bool = False) -> None:
        before = persistence.snapshot(self.machine, self.now, self.now)
        commands = self.monitor.step(self.machine, event, self.now).commands
        after = persistence.snapshot(self.machine, self.now, self.now)
        if persistence.worth_keeping(self.journal[-1] if self.journal else before, after):
            self.journal.append(after)
        for command in commands:
            if isinstance(command, p.Start) and not dies:
                self.starts += 1
                assert self.starts == 1, "started although it was or is being started"
                self.started_at = self.now
            if isinstance(command, p.Start | p.Inspect):
                self.call = command

    def reading(self) -> PowerState:
        shows = self.started_at is not None and self.now - self.started_at >= self.hidden
        return "running" if shows else "stopped"

    def step(self, kind: str, value: float) -> None:
        self.now += value
        if kind == "wait":
            self.happens(p.Tick())
        elif kind == "wake":
            self.happens(p.Wake("job-1"))
        elif kind == "kill":
            self.call = None
            self.machine = persistence.restore(persistence.ages(self.journal, self.now), self.now)
            self.happens(LinkUp(frozenset({"power_state"})))
        elif kind == "look" and isinstance(self.call, p.Inspect):
            number, self.call = self.call.number, None
            self.happens(p.Reading(number, self.reading()))
        elif kind == "taken" and isinstance(self.call, p.Start):
            number, self.call = self.call.number, None
            self.happens(p.Taken(number))
        elif kind == "lost" and isinstance(self.call, p.Start):
            number, self.call = self.call.number, None
            self.happens(p.CallFailed(number, "no answer", fault="transient"))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([0.0, 2.0, 30.0, 59.0]), st.lists(steps, max_size=60))
def test_no_kill_makes_a_monitor_start_twice(hidden: float, order: list[tuple[str, float]]) -> None:
    cloud = Cloud(hidden)
    for kind, value in [("look", 0.0), ("wake", 0.0), *order]:
        cloud.step(kind, value)


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=40))
def test_after_any_events_a_requested_machine_runs_in_the_end(order: list[tuple[str, float]]) -> None:
    cloud = Cloud(hidden=5.0)
    for kind, value in [("look", 0.0), ("wake", 0.0), *order]:
        cloud.step(kind, value)
    for _ in range(200):
        if cloud.machine.state == "booted":
            return
        for kind in ("taken", "look", "wake"):
            cloud.step(kind, 0.0)
        cloud.step("wait", 3.0)
    raise AssertionError(f"still {cloud.machine.state}: {cloud.machine.reason}")


def test_a_kill_between_the_journal_and_the_call_costs_a_minute_and_no_more() -> None:
    cloud = Cloud(hidden=5.0)
    cloud.step("look", 0.0)
    cloud.happens(p.Wake("job-1"), dies=True)
    cloud.step("kill", 1.0)
    for _ in range(30):
        cloud.step("look", 0.0)
        cloud.step("wait", 3.0)
    assert cloud.starts == 1
