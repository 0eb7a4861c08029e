"""The cases that every power provider has to pass, for tests of your own provider.

Write a `PowerWorld`: a stand-in for the provider's API, with switches. Then subclass `PowerConformance` with a fixture
`world`; pytest runs all cases on it, with the real monitor in real time.

Example:
    >>> class TestAcme(PowerConformance):
    ...     @pytest.fixture
    ...     async def world(self):
    ...         async with acme_stand_in() as world:
    ...             yield world
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any, ClassVar, Literal

import pytest
from loguru import logger

from wakestream.adapters.monitor.runner import MonitorProgram
from wakestream.adapters.power.config import CannotList, Provider
from wakestream.adapters.runtime.tasks import tasks_of_block
from wakestream.adapters.testing.fakes import FakeLink
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import Denied, Transient
from wakestream.operators.model.ports import Health, PowerState
from wakestream.streams.monitor import persistence
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.monitor.power_machine import PowerPolicy
from wakestream.streams.protocol import messages as m

Fault = Literal[
    "slow", "down", "denied", "busy", "broken", "garbage", "strange",
    "start_busy", "start_broken", "start_lost", "start_unknown", "start_ignored", "start_slow", "no_capacity", "quota",
]  # fmt: skip
"""What is wrong with the API, until `PowerWorld.fault` is None again.

`slow`: no answer. `down`: the connection is closed. `denied`: the credentials are refused. `busy`: too many requests,
`Retry-After: 1`. `broken`: an error of the server. `garbage`: an answer that the API does not have. `strange`: JSON of
another shape. With `start_` only starts are meant: `start_broken` has no effect, `start_lost` is an error although the
machine starts, `start_unknown` an error code that no document knows, `start_ignored` an accepted start without effect,
`start_slow` one that is accepted and stays in an intermediate state. `no_capacity` and `quota`: the provider's own
refusals of a start.
"""

WITHIN = 30.0
"""Seconds that one case may take, on a busy machine."""

LOOK = 0.02
CALL_TIMEOUT = 5.0


class PowerWorld(ABC):
    """A stand-in for a provider with one machine, which is off at first.

    Attributes:
        starts: How often the provider accepted a start, with or without effect.
        calls: How often it was asked to start, accepted or not.
        stops: How often it accepted a stop.
        fault: What is wrong with the API at present.
        faults: The faults that this stand-in has; cases that need another one are skipped.
        addresses: Whether readings have an address.
        shows_stopping: Whether the provider has a state between running and stopped.
        secrets: The credentials, which no message may show.
        name: The machine's name, None if the provider has no names.
    """

    faults: ClassVar[frozenset[Fault]] = frozenset()
    addresses: ClassVar[bool] = False
    shows_stopping: ClassVar[bool] = True
    starts: int = 0
    calls: int = 0
    stops: int = 0
    fault: Fault | None = None
    secrets: tuple[str, ...] = ()
    name: str | None = None

    @abstractmethod
    def provider(self, *, machine: str | None = None, timeout: float = CALL_TIMEOUT) -> Provider:
        """Make a provider object, as the monitor does at its start.

        Args:
            machine: The id or name of the machine; None for its id.
            timeout: Seconds that a call may take.
        """

    @abstractmethod
    async def become(self, state: PowerState) -> None:
        """Put the machine into this state, as if another person had done it in the provider's web console."""

    @abstractmethod
    async def finish(self) -> None:
        """Let a start or stop that has begun come to its end."""

    async def move(self) -> None:
        """Give the machine another address."""
        pytest.skip("this stand-in has no addresses")

    async def skew(self, seconds: float) -> None:
        """Move the provider's clock."""
        pytest.skip("this stand-in has no clock")

    async def without_gpu(self) -> None:
        """Let the next start bring up the machine without its GPU."""
        pytest.skip("this provider never starts a machine without its GPU")

    async def unknown_word(self) -> None:
        """Report a state that no document knows."""
        pytest.skip("this provider has no words for states")


class Watched:
    """A running monitor: `link` plays its hub."""

    def __init__(self, program: MonitorProgram, link: FakeLink, world: PowerWorld) -> None:
        self.program, self.link, self.world = program, link, world
        self.stop = asyncio.Event()

    @property
    def state(self) -> str:
        """The state of the machine, as the monitor has it."""
        return self.program.machine.state

    def wake(self, job: str = "job-1") -> None:
        """A job asks for the GPU."""
        self.link.receive(m.Boot(request_id=job))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until this holds."""
        while not holds():  # noqa: ASYNC110 - polled, since providers of other people announce nothing
            await asyncio.sleep(LOOK / 2)

    async def comes(self, *states: str) -> None:
        """Wait until the machine is in one of these states."""
        await self.until(lambda: self.state in states)

    async def asks(self, *, accepted: bool = False) -> None:
        """A job asks for a machine that is off, and the monitor calls the provider, which may have `accepted` that."""
        await self.comes("off")
        self.wake()
        await self.until(lambda: (self.world.starts if accepted else self.world.calls) == 1)

    async def boots(self, starts: int = 1) -> None:
        """The provider accepts this start, and the machine boots."""
        await self.until(lambda: self.world.starts == starts)
        await self.world.finish()
        await self.comes("booted")

    async def looks(self, times: int = 5) -> None:
        """Wait until the machine was looked at so often, successfully or not."""
        before = self.program.machine.calls
        await self.until(lambda: self.program.machine.calls >= before + times)

    def failures(self) -> list[m.BootResult]:
        """What waiting jobs heard."""
        return self.link.said(m.BootResult)


@asynccontextmanager
async def watched(
    world: PowerWorld, journal: FakeJournal[persistence.MachineKept] | None = None, **more: Any
) -> AsyncIterator[Watched]:
    """Run the monitor on a machine of this world, quickly; `more` of its policy."""
    policy: dict[str, Any] = {
        "look_soon": LOOK, "look_online": LOOK, "look_rarely": 2 * LOOK, "boot_timeout": 2 * WITHIN,
        "call_timeout": CALL_TIMEOUT, "checks_health": False, "follows_address": True,
        "stop_again": 0.5, "shows_within": 0.1,
        "capacity": Backoff(initial=0.05, max_delay=0.1), "trouble": Backoff(initial=0.05, max_delay=0.1), **more,
    }  # fmt: skip
    link, power = FakeLink(), world.provider(timeout=policy["call_timeout"])
    kept: FakeJournal[persistence.MachineKept] = FakeJournal() if journal is None else journal
    monitor = Monitor(PowerPolicy(gpu="gpu-1", **policy), Random(1))
    known = persistence.ages(kept.read(), time.time(), kept.restore())
    program = MonitorProgram(monitor, link, power, no_health, tick=LOOK, journal=kept, known=known)
    seen = Watched(program, link, world)
    async with tasks_of_block() as start:
        running = start(program.run(seen.stop))
        await asyncio.sleep(0)
        link.connect("power_state")
        try:
            async with asyncio.timeout(WITHIN):
                yield seen
        finally:
            seen.stop.set()
            await running
            await power.close()


async def no_health(_url: str | None) -> Health:
    """A worker that is never ready."""
    return Health(initialized=False)


def _break(world: PowerWorld, fault: Fault) -> None:
    if fault not in world.faults:
        pytest.skip(f"this provider's stand-in has no fault {fault!r}")
    world.fault = fault


class PowerConformance:
    """The cases; see the module."""

    async def test_a_cold_start_is_one_start(self, world: PowerWorld) -> None:
        async with watched(world) as seen:
            await seen.comes("off")
            for job in ("job-1", "job-2", "job-3"):
                seen.wake(job)
            await seen.boots()
            await seen.looks()
        assert (world.starts, world.calls) == (1, 1)
        assert seen.failures() == []

    async def test_a_machine_that_runs_already_is_not_started(self, world: PowerWorld) -> None:
        await world.become("running")
        async with watched(world) as seen:
            seen.wake()
            await seen.comes("booted")
            await seen.looks()
        assert world.calls == 0

    async def test_an_idle_machine_is_stopped(self, world: PowerWorld) -> None:
        await world.become("running")
        async with watched(world, idle_after=0.1, asks_first=False) as seen:
            await seen.comes("booted")
            seen.link.receive(m.Online())
            await seen.comes("draining")
            query = seen.link.said(m.TaskQuery)[-1]
            seen.link.receive(m.TaskQueryResponse(request_id=query.request_id, active_count=0, has_recent_active=False))
            await seen.until(lambda: world.stops == 1)
            await world.finish()
            await seen.comes("off")
        assert world.stops == 1

    async def test_a_job_that_comes_while_it_stops_starts_it_when_it_has_stopped(self, world: PowerWorld) -> None:
        if not world.shows_stopping:
            pytest.skip("this provider has no state between running and stopped")
        await world.become("stopping")
        async with watched(world) as seen:
            await seen.comes("stopping")
            seen.wake()
            await seen.looks()
            assert world.calls == 0
            await world.finish()
            await seen.boots()
        assert world.calls == 1

    async def test_a_monitor_that_was_killed_in_mid_start_starts_nothing_again(self, world: PowerWorld) -> None:
        journal: FakeJournal[persistence.MachineKept] = FakeJournal()
        async with watched(world, journal) as seen:
            await seen.asks(accepted=True)
        async with watched(world, journal) as seen:
            await seen.looks()
            await world.finish()
            await seen.comes("booted")
        assert world.calls == 1

    async def test_one_that_was_killed_before_the_provider_showed_the_start_waits_for_it(
        self, world: PowerWorld
    ) -> None:
        _break(world, "start_ignored")
        journal: FakeJournal[persistence.MachineKept] = FakeJournal()
        async with watched(world, journal) as seen:
            await seen.asks()
        async with watched(world, journal) as seen:
            await seen.looks()
            assert world.calls == 1
            await world.become("running")
            await seen.comes("booted")
        assert world.calls == 1

    async def test_a_slow_api_is_given_up_in_time_and_starts_nothing(self, world: PowerWorld) -> None:
        _break(world, "slow")
        power = world.provider(timeout=0.2)
        with pytest.raises(Transient, match="did not answer"):
            await power.inspect()
        await power.close()
        async with watched(world, misses=2, call_timeout=0.5) as seen:
            seen.wake()
            await seen.until(lambda: seen.program.machine.looks.failed >= 2)
            assert world.calls == 0
            world.fault = None
            await seen.until(lambda: world.starts == 1)
        assert seen.failures() == []

    @pytest.mark.parametrize("fault", ["down", "busy", "broken", "garbage", "strange"])
    async def test_a_machine_that_cannot_be_looked_at_is_not_started(self, world: PowerWorld, fault: Fault) -> None:
        _break(world, fault)
        power = world.provider()
        with pytest.raises(Transient) as caught:
            await power.inspect()
        await power.close()
        assert (caught.value.retry_after is not None) == (fault == "busy")
        async with watched(world, misses=2) as seen:
            seen.wake()
            await seen.until(lambda: seen.program.machine.looks.failed >= 2)
            assert (seen.state, world.calls) == ("unknown", 0)
            world.fault = None
            await seen.boots()
        assert seen.failures() == []

    async def test_a_machine_that_runs_stays_known_while_the_api_is_down(self, world: PowerWorld) -> None:
        await world.become("running")
        async with watched(world, misses=2) as seen:
            await seen.comes("booted")
            _break(world, "down")
            await seen.until(lambda: seen.program.machine.looks.failed >= 3)
            world.fault = None
            await seen.until(lambda: seen.program.machine.looks.reading == "running")
        assert (world.calls, world.stops) == (0, 0)

    async def test_refused_credentials_are_told_to_the_job_and_never_shown(self, world: PowerWorld) -> None:
        _break(world, "denied")
        lines: list[str] = []
        listening = logger.add(lines.append, level="DEBUG")
        power = world.provider()
        with pytest.raises(Denied):
            await power.inspect()
        await power.close()
        async with watched(world) as seen:
            seen.wake()
            await seen.until(lambda: bool(seen.failures()))
            await seen.looks()
            assert [result.request_id for result in seen.failures()] == ["job-1"]
            assert world.calls == 0
            world.fault = None
            await seen.comes("off")
            seen.wake("job-2")
            await seen.until(lambda: world.starts == 1)
        logger.remove(listening)
        said = " ".join(map(str, (*seen.link.sent, *lines)))
        assert [secret for secret in world.secrets if secret in said] == []

    async def test_a_start_that_comes_too_fast_waits_as_long_as_it_is_told(self, world: PowerWorld) -> None:
        _break(world, "start_busy")
        async with watched(world) as seen:
            await seen.asks()
            began = time.monotonic()
            world.fault = None
            await seen.until(lambda: world.starts == 1)
            assert time.monotonic() - began >= 0.5  # of the second that the provider named; it began to count earlier
        assert (world.calls, seen.failures()) == (2, [])

    @pytest.mark.parametrize("fault", ["start_broken", "start_unknown"])
    async def test_a_start_that_failed_is_repeated(self, world: PowerWorld, fault: Fault) -> None:
        _break(world, fault)
        async with watched(world) as seen:
            await seen.comes("off")
            seen.wake()
            await seen.until(lambda: world.calls == 2)
            world.fault = None
            await seen.boots()
        assert seen.failures() == []

    async def test_a_start_that_was_carried_out_in_spite_of_an_error_is_not_repeated(self, world: PowerWorld) -> None:
        _break(world, "start_lost")
        async with watched(world) as seen:
            await seen.asks()
            world.fault = None
            await seen.looks(10)
            await world.finish()
            await seen.comes("booted")
        assert (world.calls, seen.failures()) == (1, [])

    async def test_a_start_without_effect_is_repeated_only_when_it_counts_as_no_capacity(
        self, world: PowerWorld
    ) -> None:
        _break(world, "start_ignored")
        async with watched(world, start_within=CALL_TIMEOUT) as seen:
            await seen.asks()
            await seen.looks()
            assert world.calls == 1
            await seen.comes("no_capacity")
            world.fault = None
            await seen.boots(2)

    async def test_a_start_that_does_not_come_to_its_end_counts_as_no_capacity(self, world: PowerWorld) -> None:
        _break(world, "start_slow")
        async with watched(world, start_within=CALL_TIMEOUT / 2) as seen:
            await seen.comes("off")
            seen.wake()
            await seen.comes("no_capacity")
            await seen.looks()
            assert (seen.state, world.calls) == ("no_capacity", 1)
            await world.become("running")
            await seen.comes("booted")
        assert (world.calls, seen.failures()) == (1, [])

    async def test_no_capacity_is_asked_for_again_until_there_is_some(self, world: PowerWorld) -> None:
        _break(world, "no_capacity")
        async with watched(world) as seen:
            await seen.comes("off")
            seen.wake()
            await seen.comes("no_capacity")
            await seen.until(lambda: world.calls >= 2)
            world.fault = None
            await seen.boots()
        assert (world.starts, seen.failures()) == (1, [])

    async def test_a_quota_is_told_once_and_not_tried_again(self, world: PowerWorld) -> None:
        _break(world, "quota")
        async with watched(world) as seen:
            await seen.comes("off")
            seen.wake()
            await seen.until(lambda: bool(seen.failures()))
            await seen.looks(10)
        assert (world.calls, len(seen.failures())) == (1, 1)

    async def test_a_terminated_machine_is_never_started(self, world: PowerWorld) -> None:
        await world.become("terminated")
        async with watched(world) as seen:
            seen.wake()
            await seen.until(lambda: len(seen.failures()) == 1)
            seen.wake("job-2")
            await seen.until(lambda: len(seen.failures()) == 2)
            await seen.looks()
        assert (seen.state, world.calls) == ("failed", 0)

    async def test_a_machine_that_vanishes_while_it_serves_is_failed(self, world: PowerWorld) -> None:
        await world.become("running")
        async with watched(world) as seen:
            await seen.comes("booted")
            seen.link.receive(m.Online())
            await seen.comes("online")
            await world.become("terminated")
            await seen.comes("failed")
            seen.wake()
            await seen.until(lambda: bool(seen.failures()))
        assert world.calls == 0

    async def test_a_new_address_is_told_after_each_start(self, world: PowerWorld) -> None:
        if not world.addresses:
            pytest.skip("this provider reports no addresses")
        async with watched(world) as seen:
            await seen.asks(accepted=True)
            await world.finish()
            await seen.until(lambda: seen.program.machine.looks.address is not None)
            first = seen.program.machine.looks.address
            await world.become("stopped")
            await seen.until(lambda: seen.program.machine.looks.address is None)
            await world.move()
            await world.become("running")
            await seen.until(lambda: seen.program.machine.looks.address not in (None, first))
            await seen.until(lambda: seen.link.said(m.PowerState)[-1].url == seen.program.machine.looks.address)

    async def test_a_start_and_a_stop_by_another_person_are_noticed(self, world: PowerWorld) -> None:
        async with watched(world) as seen:
            await seen.comes("off")
            await world.become("running")
            await seen.comes("booted")
            seen.link.receive(m.Online())
            await seen.comes("online")
            await world.become("stopped")
            await seen.comes("off")
        assert (world.calls, world.stops) == (0, 0)

    async def test_a_machine_without_its_gpu_is_a_failed_boot_and_is_stopped(self, world: PowerWorld) -> None:
        await world.without_gpu()
        async with watched(world) as seen:
            await seen.asks(accepted=True)
            await world.finish()
            await seen.until(lambda: bool(seen.failures()) and world.stops == 1)
        assert "without its GPU" in (seen.failures()[0].msg or "")
        assert world.calls == 1

    @pytest.mark.parametrize("seconds", [-7 * 86_400.0, 7 * 86_400.0])
    async def test_a_wrong_clock_stops_nothing(self, world: PowerWorld, seconds: float) -> None:
        await world.skew(seconds)
        async with watched(world, max_uptime=3600.0) as seen:
            await seen.asks()
            await seen.boots()
            seen.link.receive(m.Online())
            await seen.comes("online")
            await seen.looks()
            assert seen.state == "online"
        assert world.stops == 0

    async def test_an_unknown_state_starts_nothing_and_is_not_forgotten(self, world: PowerWorld) -> None:
        await world.unknown_word()
        async with watched(world, misses=2) as seen:
            seen.wake()
            await seen.until(lambda: seen.program.machine.looks.failed >= 3)
            assert (seen.state, world.calls) == ("unknown", 0)
            await world.become("stopped")
            await seen.until(lambda: world.starts == 1)

    async def test_the_machine_is_in_the_list_and_can_be_named(self, world: PowerWorld) -> None:
        power = world.provider()
        try:
            listed = await power.machines()
        except CannotList:
            pytest.skip("this provider cannot list machines")
        finally:
            await power.close()
        assert "stopped" in [machine.state for machine in listed]
        if world.name is not None:
            named = world.provider(machine=world.name)
            assert (await named.inspect()).state == "stopped"
            await named.close()
