"""The cases that every power provider has to pass, for tests of your own provider.

Write a `PowerWorld`: a stand-in for the provider's API, with switches. `HttpStandIn` is the base of one for an HTTP
API. Then subclass `PowerConformance` with a fixture `world`; pytest runs all cases on it, with the real monitor in real
time.

Example:
    >>> class TestAcme(PowerConformance):
    ...     @pytest.fixture
    ...     async def world(self):
    ...         async with serving(AcmeStandIn()) as world:
    ...             yield world
"""

from __future__ import annotations

import asyncio
import time

import pytest

from wakestream.adapters.power.config import CannotList
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.testing.power_faults import PowerFaults
from wakestream.adapters.testing.power_watch import LOOK, calling, watched
from wakestream.adapters.testing.power_world import CALL_TIMEOUT as CALL_TIMEOUT
from wakestream.adapters.testing.power_world import Fault as Fault
from wakestream.adapters.testing.power_world import PowerWorld as PowerWorld
from wakestream.operators.model.ports import PowerState
from wakestream.streams.monitor import persistence
from wakestream.streams.protocol import messages as m

SINCE = 300.0
"""Seconds by which `since` may be wrong: the machine's clock, and a busy test machine."""


class PowerConformance(PowerFaults):
    """The cases: the life of a machine here, and what its API does wrong in `PowerFaults`; see the module."""

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
            await seen.serves()
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
            await seen.serves()
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

    @pytest.mark.parametrize("state", ["running", "stopped"])
    async def test_since_is_when_the_machine_came_into_its_state(self, world: PowerWorld, state: PowerState) -> None:
        await world.become("stopped" if state == "running" else "running")
        await world.become(state)
        async with calling(world) as power:
            since = (await power.inspect()).since
        if since is None:
            pytest.skip("this provider does not say since when")
        wrong = time.time() - since
        assert abs(wrong) < SINCE, (
            f"`since` of a machine that came to be {state} just now is {since:g}, which is {abs(wrong):.0f} s "
            f"{'ago' if wrong > 0 else 'ahead'}: give the UNIX seconds, in UTC, of when it came into this state (not "
            "of when it was created), or None"
        )

    async def test_a_look_shows_what_the_last_call_did(self, world: PowerWorld) -> None:
        async with calling(world) as power:
            for call, wrong in ((power.start, "stopped"), (power.stop, "running")):
                await power.inspect()
                before = world.starts + world.stops
                await call()
                while world.starts + world.stops == before:  # noqa: ASYNC110 - a packet may be on its way
                    await asyncio.sleep(LOOK)
                await world.finish()
                state = (await power.inspect()).state
                assert state != wrong, (
                    f"`inspect` says {state} after a `{call.__name__}` that has come to its end: ask the API at each "
                    "call, and keep no answer for the next one"
                )

    async def test_a_machine_that_was_made_again_under_its_name_is_found(self, world: PowerWorld) -> None:
        if world.name is None:
            pytest.skip("this provider's machines have no names")
        async with watched(world, machine=world.name) as seen:
            await seen.comes("off")
            await world.replace()
            await seen.looks()
            seen.wake()
            await seen.until(lambda: world.starts == 1 or bool(seen.failures()))
            assert world.starts == 1, (
                f"the machine {world.name!r} was made again, with another id, and {seen}. Look the name up again when "
                "its id is gone; AccountPower and HttpPower do so"
            )
            await world.finish()
            await seen.comes("booted")

    async def test_the_machine_is_in_the_list_and_can_be_named(self, world: PowerWorld) -> None:
        async with calling(world) as power:
            try:
                listed = await power.machines()
            except CannotList:
                pytest.skip("this provider cannot list machines")
        assert "stopped" in [machine.state for machine in listed]
        if world.name is not None:
            async with calling(world, world.name) as named:
                assert (await named.inspect()).state == "stopped"
