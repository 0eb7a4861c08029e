"""Events, kills and answers of the provider in any order: what a monitor never does, and what it does in the end."""

from random import Random
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from wakestream.operators.model.ports import LinkDown, LinkUp, PowerState
from wakestream.streams.monitor import persistence
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.monitor.power_table import TABLE
from wakestream.streams.protocol import messages as m

FAULTS = [fault for fault in get_args(p.Fault) if fault]
MOVES = {f"{state} -> {target}" for state, row in TABLE.items() for target in row.values()}
OURS = LinkUp(frozenset({"power_state", "power_age"}))
HUB = {
    "ours": OURS,
    "deployed": LinkUp(),
    "down": LinkDown("cut"),
    "online": m.Online(),
    "lost": m.PowerState(gpu="gpu-1", state="lost"),
    "elsewhere": m.PowerState(gpu="gpu-1", state="starting"),
    "active": m.TaskActive(task_id="task-1"),
    "release": m.Release(gpu="gpu-1"),
    "asked": m.StatusQuery(request_id="who"),
}


class World(RuleBasedStateMachine):
    """Provider, hub and journal of one monitor. An honest provider says what is true, `hidden` seconds later."""

    @initialize(
        honest=st.booleans(),
        hidden=st.sampled_from([0.0, 2.0, 30.0, 59.0]),
        checks_health=st.booleans(),
        orphans=st.sampled_from(get_args(p.Orphans)),
        more=st.sampled_from([(), ("gpu-2",)]),
    )
    def begins(self, *, honest: bool, hidden: float, **policy: Any) -> None:
        self.honest, self.hidden, self.now = honest, hidden, 1000.0
        within = None if honest else 40.0
        self.policy = p.PowerPolicy("gpu-1", idle_after=120.0, boot_timeout=150.0, start_within=within, **policy)
        self.monitor, self.machine = Monitor(self.policy, Random(3)), p.Machine()
        self.journal: list[persistence.MachineKept] = [persistence.snapshot(self.machine, self.now, self.now)]
        self.call: p.Start | p.Stop | p.Inspect | None = None
        self.query, self.held, self.checking = "", 0, False
        self.started_at: float | None = None  # also of a start whose answer was lost
        self.runs_for_sure = self.gone = self.called_back = False
        self.happens(OURS)

    def happens(self, event: p.PowerEvent) -> None:
        self.now += 0.01
        before = self.machine.copy()
        decision = self.monitor.step(self.machine, event, self.now)
        assert bool(decision.facts) == (before != self.machine), "a fact for each change, and only then"
        kept = persistence.snapshot(self.machine, self.now, self.now)
        if persistence.worth_keeping(self.journal[-1], kept):
            self.journal.append(kept)
        for command in decision.commands:
            self.check(command)

    def check(self, command: p.PowerCommand) -> None:
        match command:
            case p.LogNote(text) if " -> " in text.partition(":")[0]:
                assert text.partition(":")[0] in MOVES
            case p.Say(m.TaskQuery(request_id=request_id)):
                self.query, self.held = request_id, 0
            case p.Say(m.PowerState()):
                assert self.machine.link.features, "a deployed hub does not read power states"
            case p.CheckHealth():
                assert not self.checking, "two health checks at once"
                self.checking = True
            case p.Inspect():
                assert self.call is None, "two calls at once"
                self.call = command
            case p.Start() | p.Stop():
                assert not isinstance(self.call, p.Start | p.Stop), "two calls at once"
                self.call = command
        if isinstance(command, p.Start):
            assert not self.runs_for_sure, "started although it runs"
            assert not self.gone, "started although it was deleted"
            assert not self.honest or self.started_at is None, "started although it was or is being started"
            assert self.journal[-1].start_at is not None, "a start that a restart would forget"
            assert not self.called_back, "started although it was called back"
            self.started_at, self.held = self.now, 0
        if isinstance(command, p.Stop):
            assert self.held == 0, "stopped although a job holds it"

    @rule(seconds=st.sampled_from([0.1, 3.0, 31.0, 70.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.happens(p.Tick())

    @rule(boot=st.booleans(), answer=st.booleans())
    def a_job_needs_it(self, *, boot: bool, answer: bool) -> None:
        self.called_back = False
        self.happens(p.Wake("job", boot, answer))

    @rule(word=st.sampled_from(sorted(HUB)))
    def the_hub_says(self, word: str) -> None:
        at_work = word == "active" and self.machine.state in ("off", "stopping")
        self.called_back = (self.called_back or word == "release") and not at_work
        self.happens(HUB[word])

    @rule(count=st.integers(0, 2), recent=st.booleans())
    def the_hub_answers(self, count: int, *, recent: bool) -> None:
        if self.machine.use.asked_at is not None:
            self.held = count
        self.happens(m.TaskQueryResponse(request_id=self.query, active_count=count, has_recent_active=recent))

    @rule(initialized=st.booleans(), busy=st.integers(0, 1))
    def the_worker_answers(self, *, initialized: bool, busy: int) -> None:
        self.checking = False
        self.happens(p.HealthAnswer(initialized, "refused", busy))

    def true_reading(self) -> PowerState:
        shows = self.started_at is not None and self.now - self.started_at >= self.hidden
        return "running" if shows else "stopped"

    def read(self, reading: PowerState, gpus: int | None = None) -> None:
        assert self.call is not None
        number, self.call = self.call.number, None
        self.gone = reading == "terminated" or (self.gone and reading == "unknown")
        if reading != "unknown":
            self.runs_for_sure = reading in ("running", "starting", "stopping")
        if reading in ("stopped", "failed", "no_capacity"):
            self.held = 0  # its holder has lost it
        self.happens(p.Reading(number, reading, gpus=gpus))

    @precondition(lambda self: isinstance(self.call, p.Inspect))
    @rule()
    def a_look_ends(self) -> None:
        self.read(self.true_reading())

    @precondition(lambda self: not self.honest and isinstance(self.call, p.Inspect))
    @rule(reading=st.sampled_from(get_args(PowerState)), gpus=st.sampled_from([None, 0]))
    def a_look_says_anything(self, reading: PowerState, gpus: int | None) -> None:
        self.read(reading, gpus)

    @precondition(lambda self: not self.honest)
    @rule(reading=st.sampled_from(get_args(PowerState)))
    def an_old_look_ends(self, reading: PowerState) -> None:
        self.happens(p.Reading(0, reading))

    @precondition(lambda self: self.call is not None)
    @rule(fault=st.sampled_from(["transient", *FAULTS]), no_capacity=st.booleans())
    def a_call_fails(self, fault: p.Fault, *, no_capacity: bool) -> None:
        assert self.call is not None
        call, self.call = self.call, None
        fault = "transient" if self.honest else fault  # it may have had an effect
        self.gone = self.gone or fault == "gone"
        refused = no_capacity and isinstance(call, p.Start) and not self.honest
        self.happens(p.CallFailed(call.number, "no", refused, fault))

    @precondition(lambda self: isinstance(self.call, p.Start | p.Stop))
    @rule()
    def a_call_is_taken(self) -> None:
        assert self.call is not None
        call, self.call = self.call, None
        if isinstance(call, p.Stop):
            self.started_at = None
        self.happens(p.Taken(call.number))

    @rule(down=st.sampled_from([0.5, 5.0, 40.0]))
    def the_monitor_is_killed(self, down: float) -> None:
        self.call, self.checking, self.now = None, False, self.now + down
        self.called_back = False  # the hub says it again
        self.machine = persistence.restore(persistence.ages(self.journal, self.now), self.now)
        self.happens(OURS)

    def teardown(self) -> None:
        """After all of this, a wake brings the machine online."""
        self.honest, self.hidden = False, 0.0
        if isinstance(self.call, p.Start | p.Stop):
            self.a_call_is_taken()
        self.happens(OURS)
        for _ in range(90):
            if self.machine.state == "online":
                return
            if self.machine.state in ("off", "failed", "stopping", "unknown", "no_capacity"):
                self.a_job_needs_it(boot=True, answer=False)
            if isinstance(self.call, p.Inspect):
                self.a_look_ends()
            elif self.call is not None:
                self.a_call_is_taken()
            self.the_worker_answers(initialized=True, busy=0)
            if not self.policy.checks_health and self.machine.state == "booted":
                self.the_hub_says("online")
            self.time_passes(3.0)
        raise AssertionError(f"still {self.machine}")


TestAnyOrder = World.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=80, deadline=None)


class CalledBack(World):
    """The same, and in the end no job needs the machine."""

    def teardown(self) -> None:
        """After all of this, a release switches the machine off, whatever it was about to do."""
        self.honest, self.hidden, running = False, 0.0, self.started_at is not None
        self.machine.boot.since = self.now + 10_000.0  # not because its time is over
        self.happens(OURS)
        for _ in range(150):
            self.the_hub_says("release")
            if isinstance(self.call, p.Start):
                running = True
            if isinstance(self.call, p.Inspect):
                self.read("running" if running else "stopped")
            elif self.call is not None:
                running = isinstance(self.call, p.Start)
                self.a_call_is_taken()
            self.the_worker_answers(initialized=False, busy=0)
            if self.machine.use.asked_at is not None:
                self.the_hub_answers(0, recent=False)
            if not running and self.machine.state in ("off", "failed"):
                return
            if self.machine.orphan and self.policy.orphans == "report":
                return  # it is left alone
            self.time_passes(3.0)
        raise AssertionError(f"still {self.machine}")


TestCalledBack = CalledBack.TestCase
TestCalledBack.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_a_late_answer_that_jobs_hold_a_machine_keeps_it_on() -> None:
    world = World()
    world.begins(honest=False, hidden=0.0, checks_health=False, orphans="adopt")
    world.a_look_ends()
    world.a_job_needs_it(boot=False, answer=False)
    world.the_monitor_is_killed(down=0.5)
    world.a_look_ends()
    world.time_passes(200.0)
    world.time_passes(31.0)
    world.the_hub_answers(count=1, recent=False)
    world.the_hub_says("deployed")
    assert world.machine.state == "failed"
    world.teardown()


def test_a_look_that_fails_does_not_make_a_machine_that_was_stopping_start() -> None:
    world = World()
    world.begins(honest=False, hidden=0.0, checks_health=False, orphans="adopt", more=())
    world.a_job_needs_it(boot=False, answer=False)
    world.a_look_ends()
    world.a_call_fails("transient", no_capacity=True)
    world.a_look_says_anything("stopping", None)
    world.time_passes(31.0)
    world.a_call_fails("transient", no_capacity=False)
    assert world.machine.state == "no_capacity"
    world.time_passes(31.0)
    world.a_look_says_anything("stopped", None)
    assert world.machine.state == "starting"
    world.teardown()


@pytest.mark.parametrize("then", ["stopped", "no_capacity"])
def test_a_machine_that_starts_without_a_request_and_does_not_come_is_not_started(then: PowerState) -> None:
    world = World()
    world.begins(honest=False, hidden=0.0, checks_health=False, orphans="stop", more=())
    world.a_look_says_anything("starting", None)
    world.the_hub_says("release")
    world.time_passes(70.0)
    world.a_look_says_anything(then, None)
    for _ in range(100):
        world.time_passes(3.0)
        if isinstance(world.call, p.Inspect):
            world.a_look_says_anything("stopped", None)
    assert world.machine.state in ("off", "failed")
    world.teardown()


@pytest.mark.parametrize("between", ["stopping", "unknown"])
def test_a_start_that_was_seen_to_begin_has_failed_whatever_was_seen_before_it_is_off(between: PowerState) -> None:
    world = World()
    world.begins(honest=False, hidden=0.0, checks_health=False, orphans="stop", more=())
    world.a_look_says_anything("starting", None)
    world.time_passes(3.0)
    world.a_look_says_anything(between, None)
    world.teardown()


def test_a_machine_that_is_stopping_is_not_started_after_a_start_without_capacity_was_called_back() -> None:
    world = World()
    world.begins(honest=False, hidden=0.0, checks_health=False, orphans="stop", more=())
    world.a_look_ends()
    world.a_job_needs_it(boot=False, answer=False)
    world.a_call_fails("transient", no_capacity=True)
    world.a_look_says_anything("stopping", None)
    world.the_hub_says("release")
    world.teardown()
