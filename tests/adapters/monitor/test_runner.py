"""The monitor at work over fakes, in virtual time: a day of waiting takes milliseconds."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, NamedTuple

import pytest

from tests.support.log_lines import logged
from wakestream.adapters.monitor.runner import MonitorProgram
from wakestream.adapters.testing.fakes import FakeLink, FakePower
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.testing.power_watch import no_health
from wakestream.operators.model.errors import JournalError, NoSpace, WorkerUnreachable
from wakestream.operators.model.ports import Health, Journal, LinkUp, Reading
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.monitor.persistence import MachineKept
from wakestream.streams.monitor.power_machine import PowerPolicy
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.config_json import plain_config
from wakestream.streams.recording.recording import Direction, Header, Log, MemoryTap, untapped
from wakestream.streams.replay.replay import replay

pytestmark = pytest.mark.virtual


class Memory(FakeJournal[MachineKept]):
    """A journal that takes a while, and notes what had been asked of the provider by then; it may be full."""

    def __init__(self, power: FakePower, *, full: bool = False) -> None:
        super().__init__()
        self.power, self.full = power, full
        self.before: list[tuple[MachineKept, int]] = []

    async def append(self, facts: Sequence[MachineKept]) -> None:
        await asyncio.sleep(0)
        if self.full:
            raise NoSpace("no space left")
        self.before += [(fact, self.power.starts) for fact in facts]
        await super().append(facts)


class SlowTap(MemoryTap):
    """A recording on a busy machine: writing a row, and deciding on a tick, sometimes take a while."""

    def __init__(self) -> None:
        loop: Any = asyncio.get_running_loop()
        super().__init__(loop.time)
        self.loop, self.random = loop, Random(1)

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        if label == "tick":
            self.loop.jump(self.random.choice((0.0, 0.3)))
        super().row(direction, label, data, job)
        self.loop.jump(self.random.choice((0.0, 0.3)))

    def hear(self, event: m.Message | LinkUp) -> None:
        if isinstance(event, LinkUp):
            self.row("conn", "up", {"features": sorted(event.features)})
        else:
            self.frame("in", event)


class RecordedLink(FakeLink):
    """Records as a real link does: what comes before it has a reader, and what is sent."""

    def __init__(self, tap: SlowTap | None) -> None:
        super().__init__()
        self.tap = tap
        if tap is not None:
            self.events.subscribe(tap.hear)

    def send(self, message: m.Message) -> bool:
        if self.up and self.tap is not None:
            self.tap.frame("out", message)
        return super().send(message)


class Room:
    """A monitor that runs, its hub and its machine."""

    def __init__(
        self,
        power: FakePower | None = None,
        journal: Journal[MachineKept] | None = None,
        tap: SlowTap | None = None,
        *,
        ends: bool = False,
        **settings: Any,
    ) -> None:
        self.link = RecordedLink(tap)
        self.power = power or FakePower(boot=40.0, halt=5.0)
        self.loaded_after = 0.0
        self.asked = 0
        self.policy = PowerPolicy(gpu="gpu-1", **settings)
        self.program = MonitorProgram(
            Monitor(self.policy, Random(1)),
            self.link,
            self.power,
            self.health,
            journal=journal,
            clock=lambda: 1.7e9 + asyncio.get_running_loop().time(),
            tap=tap or untapped,
            end_machine=self.power.stop if ends else None,
        )

    async def health(self, _url: str | None) -> Health:
        self.asked += 1
        if (await self.power.inspect()).state != "running":
            raise WorkerUnreachable("connection refused")
        return Health(asyncio.get_running_loop().time() >= self.loaded_after)

    async def becomes(self, state: str) -> m.PowerState:
        return await self.link.next(m.PowerState, lambda message: message.state == state)

    def states(self) -> list[str]:
        return [message.state for message in self.link.said(m.PowerState)]


@asynccontextmanager
async def at_work(room: Room) -> AsyncIterator[Room]:
    stop = asyncio.Event()
    running = asyncio.create_task(room.program.run(stop))
    await asyncio.sleep(0)
    room.link.connect("power_state")
    try:
        yield room
    finally:
        stop.set()
        async with asyncio.timeout(1.0):
            await running
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("monitor")] == []


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_job_wakes_the_machine_and_its_worker_makes_it_online() -> None:
    async with at_work(Room()) as room:
        await room.becomes("off")
        room.loaded_after = now() + 60.0
        room.link.receive(m.Submit(request_id="job-1"))
        room.link.receive(m.Boot(request_id="job-1", gpu="gpu-1"))
        booted = await room.link.next(m.Booted)
        assert 40.0 <= now() < 46.0
        assert booted.request_id == "job-1"
        await room.becomes("online")
        assert 60.0 <= now() < 66.0
    assert room.power.starts == 1
    # The boot request, which came while it was starting, was answered with the state.
    assert room.states() == ["unknown", "off", "starting", "starting", "booted", "online"]


async def test_an_idle_machine_is_stopped_and_started_again_by_a_job() -> None:
    async with at_work(Room(FakePower(on=True, boot=40.0, halt=20.0))) as room:
        await room.becomes("online")
        began = now()
        query = await room.link.next(m.TaskQuery)
        assert now() - began == pytest.approx(1800.0, abs=2.0)
        room.link.receive(m.TaskQueryResponse(request_id=query.request_id, active_count=0, has_recent_active=False))
        query = await room.link.next(m.TaskQuery, lambda asked: bool(asked.drain))
        room.link.receive(m.TaskQueryResponse(request_id=query.request_id, active_count=0, has_recent_active=False))
        await room.becomes("stopping")
        room.link.receive(m.Submit(request_id="job-2"))
        await room.becomes("online")
    assert room.power.stops == 1
    assert room.power.starts == 1
    assert room.states()[-6:] == ["draining", "stopping", "off", "starting", "booted", "online"]


class Silent(FakePower):
    """A provider that never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[float] = []
        self.looked_again = asyncio.Event()

    async def inspect(self) -> Reading:
        self.looks.append(now())
        if len(self.looks) > 1:
            self.looked_again.set()
        await asyncio.Event().wait()
        raise AssertionError("never answers")


async def test_an_unresponsive_provider_times_out_and_is_asked_again() -> None:
    power = Silent()
    async with at_work(Room(power, call_timeout=60.0)) as room:
        room.link.receive(m.StatusQuery(request_id="q-1"))
        answer = await room.link.next(m.StatusResponse)
        assert (answer.status, answer.fresh) == ("unknown", None)
        await power.looked_again.wait()
        assert 60.0 <= power.looks[1] - power.looks[0] < 66.0
        room.link.receive(m.StatusQuery(request_id="q-2"))
        assert (await room.link.next(m.StatusResponse)).status == "unknown"


class Broken(FakePower):
    """A provider with a fault of its own."""

    async def start(self) -> None:
        raise ZeroDivisionError


async def test_a_provider_that_breaks_is_a_failed_boot_and_does_not_wedge_the_monitor() -> None:
    async with at_work(Room(Broken())) as room:
        await room.becomes("off")
        room.link.receive(m.Boot(request_id="boot-1"))
        assert "ZeroDivisionError" in ((await room.link.next(m.BootResult)).msg or "")
        room.link.receive(m.Boot(request_id="boot-2"))
        assert (await room.link.next(m.BootResult)).request_id == "boot-2"


class Careless(FakePower):
    """A provider whose `start` returns what its API or its library returned."""

    returned: Any = None

    async def start(self) -> Any:
        await super().start()
        return self.returned


class LooksAlike(NamedTuple):
    state: str = "running"
    address: str | None = None
    since: float | None = None
    detail: str = ""
    gpus: int | None = None


@pytest.mark.parametrize(
    "returned", ["ok", {"success": False}, False, Reading("running", address="http://wrong.example")]
)
async def test_what_a_start_returns_is_no_reading_and_its_effect_is_seen_by_a_look(returned: Any) -> None:
    power = Careless(boot=5.0)
    power.returned = returned
    async with asyncio.timeout(1000), at_work(Room(power)) as room:
        room.link.receive(m.Boot(request_id="boot-1"))
        wrong = await room.becomes("starting")
        while "returned" not in (wrong.msg or ""):
            wrong = await room.becomes("starting")
        assert "`start` of the power provider returned" in (wrong.msg or "")
        await room.becomes("online")
        assert (power.starts, room.link.said(m.BootResult)) == (1, [])


@pytest.mark.parametrize(
    "reading",
    [None, "running", {"state": "running"}, LooksAlike(), Reading("on"), Reading("running", since="now")],  # type: ignore[arg-type]
)
async def test_a_look_that_returns_no_reading_is_a_failed_look(reading: Any) -> None:
    class Wrong(FakePower):
        async def inspect(self) -> Any:
            return reading

    async with asyncio.timeout(1000), at_work(Room(Wrong())) as room:
        await room.link.next(m.PowerState, lambda said: "`inspect` of the power provider returned" in (said.msg or ""))
        assert (room.program.machine.state, room.program.machine.looks.reading) == ("unknown", None)


class Giddy(FakePower):
    """A provider of which something that it awaits was cancelled: it cancels itself, so often."""

    cancels = 0

    async def inspect(self) -> Reading:
        if self.cancels:
            self.cancels -= 1
            raise asyncio.CancelledError
        return await super().inspect()

    async def start(self) -> None:
        if self.cancels:
            self.cancels -= 1
            raise asyncio.CancelledError
        await super().start()


async def test_a_provider_that_raises_cancelled_is_asked_again() -> None:
    power = Giddy()
    power.cancels = 1
    async with asyncio.timeout(1000), at_work(Room(power)) as room:
        await room.becomes("off")
        power.cancels = 1
        room.link.receive(m.Boot(request_id="boot-1"))
        assert "cancelled itself" in ((await room.link.next(m.BootResult)).msg or "")
        room.link.receive(m.Boot(request_id="boot-2"))
        await room.becomes("online")


@pytest.mark.parametrize("fault", [ZeroDivisionError, asyncio.CancelledError])
async def test_an_error_in_a_health_check_is_retried(
    fault: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(FakePower())
    faults = [fault(), fault()]

    async def health(_url: str | None) -> Health:
        if faults:
            raise faults.pop()
        return Health(True)

    monkeypatch.setattr(room.program, "_health", health)
    async with asyncio.timeout(1000), at_work(room):
        room.link.receive(m.Boot(request_id="boot-1"))
        await room.becomes("online")


async def test_a_start_is_in_the_journal_before_the_provider_is_asked_for_it() -> None:
    power = FakePower(boot=40.0, halt=5.0)
    journal = Memory(power)
    async with at_work(Room(power, journal)) as room:
        room.link.receive(m.Boot(request_id="boot-1"))
        await room.becomes("online")
    asked = [starts for kept, starts in journal.before if kept.start_at is not None]
    assert asked[0] == 0
    assert power.starts == 1
    assert journal.read()[-1].start_at is None
    assert journal.read()[-1].ours


async def test_it_complains_of_that_now_and_then_and_keeps_all_when_there_is_room_again() -> None:
    power = FakePower(boot=40.0, halt=5.0)
    journal = Memory(power, full=True)
    with logged("ERROR") as complaints:
        async with at_work(Room(power, journal)) as room:
            room.link.receive(m.Boot(request_id="boot-1"))
            await room.becomes("online")
            await asyncio.sleep(600.0)
            assert 2 <= len(complaints) <= 12
            journal.full = False
            await asyncio.sleep(10.0)
            assert journal.read()[-1].ours


async def test_a_refused_registration_is_logged_once_until_it_succeeds() -> None:
    with logged("ERROR") as lines:
        async with at_work(Room()) as room:
            for _ in range(2):
                room.link.refuse("unknown key", "unauthorized")
                room.link.disconnect("connection refused")
            room.link.refuse("unknown key", "unauthorized")
            assert len(lines) == 1
            assert "--role monitor" in lines[0]
            room.link.connect("power_state")
            room.link.refuse("revoked", "unauthorized")
    assert len(lines) == 2


class SlowJournal(FakeJournal[MachineKept]):
    """Each write takes three seconds."""

    async def append(self, facts: Sequence[MachineKept]) -> None:
        await asyncio.sleep(3.0)
        await super().append(facts)


async def test_an_event_is_decided_with_its_arrival_time(monkeypatch: pytest.MonkeyPatch) -> None:
    decided: dict[str, float] = {}
    step = Monitor.step

    def noted(self: Monitor, machine: Any, event: Any, at: float, *more: Any) -> Any:
        decided[type(event).__name__] = at
        return step(self, machine, event, at, *more)

    monkeypatch.setattr(Monitor, "step", noted)
    async with at_work(Room(journal=SlowJournal())) as room:
        await room.becomes("off")
        room.link.receive(m.Boot(request_id="boot-1", gpu="gpu-1"))
        await asyncio.sleep(1.0)
        came = now()
        room.link.receive(m.StatusQuery(request_id="q-1"))
        await room.link.next(m.StatusResponse)
        assert now() > came
        assert decided["StatusQuery"] == came


async def test_a_replay_decides_as_a_monitor_did_that_was_slow() -> None:
    tap, random = SlowTap(), Random(2)
    room = Room(FakePower(on=True, boot=7.0, halt=5.0), tap=tap, ends=True, idle_after=20.0, fresh_for=2.0)
    async with at_work(room):
        for number in range(400):
            room.link.receive(m.StatusQuery(request_id=f"query-{number}"))
            if number % 50 == 49:
                room.link.receive(m.Submit(request_id=f"job-{number}"))
            await asyncio.sleep(random.uniform(0.0, 2.0))
    log = Log(Header("monitor", 1.7e9, 1, {"policy": plain_config(room.policy)}), tuple(tap.rows))
    assert log.rows[-1].data["state"] == "off", "its machine ended with it"
    assert (await replay(log)).divergences == ()


class BrokenTap(MemoryTap):
    """The recording breaks at the first answer of the provider."""

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        if direction == "effect":
            raise OSError("the recording broke")


async def test_an_answer_that_is_lost_ends_the_monitor_instead_of_a_wait_without_end() -> None:
    monitor = Monitor(PowerPolicy(gpu="gpu-1"), Random(1))
    program = MonitorProgram(monitor, FakeLink(), FakePower(), no_health, tap=BrokenTap(lambda: 0.0))
    with pytest.raises(JournalError, match=r"the monitor cannot continue \(OSError: the recording broke\)"):
        async with asyncio.timeout(3600.0):
            await program.run(asyncio.Event())


@pytest.mark.parametrize("full", [False, True])
async def test_a_monitor_whose_machine_ends_with_it_says_so_before_it_ends(full: bool) -> None:
    power = FakePower(boot=40.0)
    memory = Memory(power, full=full)
    async with at_work(Room(power, memory, ends=True)) as room:
        room.link.receive(m.Boot(request_id="b1"))
        await room.becomes("online")
    assert power.stops == 1
    off = room.link.said(m.PowerState)[-1]
    assert (off.state, off.msg) == ("off", "it ended with its monitor")
    assert full or memory.read()[-1].off_since == pytest.approx(room.program.machine.on_or_off_since + 1.7e9)
