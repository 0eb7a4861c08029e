"""Events in any order: never two starts, never a stop while the hub says that a job holds the machine."""

from random import Random
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from wakestream.operators.model.ports import LinkDown, LinkUp, PowerState, PowerWord
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.monitor.power_table import TABLE
from wakestream.streams.protocol import messages as m

READINGS = get_args(PowerState)
FAULTS = [fault for fault in get_args(p.Fault) if fault]

steps = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.1, 3.0, 31.0, 70.0, 200.0])),
    st.tuples(st.just("wake"), st.booleans()),
    st.tuples(st.just("reading"), st.sampled_from(READINGS)),
    st.tuples(st.just("call"), st.sampled_from(["taken", "failed", "no_capacity", *FAULTS])),
    st.tuples(st.just("look_fails"), st.sampled_from(FAULTS)),
    st.tuples(st.just("without_gpu"), st.just("running")),
    st.tuples(st.just("stale"), st.sampled_from(READINGS)),
    st.tuples(st.just("health"), st.booleans()),
    st.tuples(st.just("answer"), st.integers(0, 2)),
    st.tuples(st.just("hub"), st.sampled_from(["up", "old", "down", "online", "active", "asked"])),
)


class Witness:
    """Plays the provider, which never has two calls to answer, and writes down what it was asked."""

    def __init__(self) -> None:
        policy = p.PowerPolicy(gpu="gpu-1", idle_after=120.0, boot_timeout=150.0, start_within=40.0)
        self.monitor, self.machine, self.now = Monitor(policy, Random(3)), p.Machine(), 0.0
        self.under_way: p.Start | p.Stop | p.Inspect | None = None
        self.held = 0
        self.query = ""
        self.running_for_sure = self.gone = False

    def step(self, kind: str, value: object) -> None:
        self.now += float(str(value)) if kind == "wait" else 0.01
        event = self.event(kind, value)
        if event is None:
            return
        commands = self.monitor.step(self.machine, event, self.now).commands
        for command in commands:
            self.check(command)

    def check(self, command: p.PowerCommand) -> None:
        if isinstance(command, p.Start | p.Stop | p.Inspect):
            assert not isinstance(self.under_way, p.Start | p.Stop), "two calls at once"
            assert not (isinstance(command, p.Inspect) and self.under_way), "two looks at once"
            self.under_way = command
        if isinstance(command, p.Start):
            assert not self.running_for_sure, "started although it runs"
            assert not self.gone, "started although it was deleted"
        if isinstance(command, p.Stop):
            assert self.held == 0, "stopped although a job holds it"
        if isinstance(command, p.Say) and isinstance(command.message, m.TaskQuery):
            self.query = command.message.request_id

    def event(self, kind: str, value: object) -> p.PowerEvent | None:
        match kind, value:
            case "wait", _:
                return p.Tick()
            case "wake", bool(boot):
                return p.Wake("job", boot)
            case "health", bool(initialized):
                return p.HealthAnswer(initialized)
            case "answer", int(count):
                return self.answer(count)
            case "hub", str(word):
                return self.hub(word)
        return self.provider(kind, str(value))

    def answer(self, count: int) -> p.PowerEvent:
        awaited = self.machine.use.query is not None and self.machine.use.query.id == self.query
        self.held = count if awaited else self.held
        return m.TaskQueryResponse(request_id=self.query, active_count=count, has_recent_active=False)

    def hub(self, word: str) -> p.PowerEvent:
        return {
            "up": LinkUp(frozenset({"power_state"})),
            "old": LinkUp(),
            "down": LinkDown("cut"),
            "online": m.Online(),
            "active": m.TaskActive(task_id="task-1"),
        }.get(word, m.StatusQuery(request_id="who"))

    def provider(self, kind: str, value: str) -> p.PowerEvent | None:
        call = self.under_way
        if kind == "stale":
            return p.Reading(0, value)  # type: ignore[arg-type]
        if call is None or (kind == "call") == isinstance(call, p.Inspect):
            return None
        self.under_way = None
        if kind == "look_fails":
            self.gone = self.gone or value == "gone"
            return p.CallFailed(call.number, "no", fault=value)  # type: ignore[arg-type]
        if kind == "without_gpu":
            self.running_for_sure, self.gone = True, False
            return p.Reading(call.number, "running", gpus=0)
        if kind == "reading":
            self.gone = value == "terminated" or (self.gone and value == "unknown")
            self.running_for_sure = value in ("running", "starting", "stopping")
            if value in ("stopped", "failed", "no_capacity"):
                self.held = 0  # its holder has lost it
            return p.Reading(call.number, value)  # type: ignore[arg-type]
        if value == "taken":
            return p.Taken(call.number)
        self.gone = self.gone or value == "gone"
        fault: p.Fault = value if value in FAULTS else ""  # type: ignore[assignment]
        return p.CallFailed(call.number, "no", value == "no_capacity", fault)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=120))
def test_no_order_of_events_starts_twice_or_stops_what_is_held(order: list[tuple[str, object]]) -> None:
    witness = Witness()
    for kind, value in order:
        witness.step(kind, value)
    assert witness.machine.state in get_args(PowerWord)
    assert set(get_args(PowerWord)) == set(TABLE)


@settings(max_examples=100, deadline=None)
@given(st.lists(steps, max_size=80))
def test_after_any_events_a_wake_brings_the_machine_online(order: list[tuple[str, object]]) -> None:
    witness = Witness()
    for kind, value in order:
        witness.step(kind, value)
    if isinstance(witness.under_way, p.Start | p.Stop):
        witness.step("call", "taken")
    witness.step("hub", "up")
    machine = "stopped"
    for _ in range(60):
        if witness.machine.state in ("off", "failed", "stopping", "unknown"):
            witness.step("wake", True)
        if isinstance(witness.under_way, p.Inspect):
            witness.step("reading", machine)
        elif witness.under_way is not None:
            machine = "running" if isinstance(witness.under_way, p.Start) else "stopped"
            witness.step("call", "taken")
        witness.step("health", True)
        witness.step("wait", 3.0)
        if witness.machine.state == "online":
            return
    raise AssertionError(f"still {witness.machine.state}: {witness.machine}")
