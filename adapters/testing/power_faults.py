"""The cases for power providers whose API is slow, broken, late, or refuses; a part of `PowerConformance`."""

from __future__ import annotations

from typing import cast

import pytest
from loguru import logger

from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.testing.power_watch import calling, watched
from wakestream.adapters.testing.power_world import Fault, PowerWorld
from wakestream.operators.model.errors import Denied, PowerError, Transient
from wakestream.streams.monitor import persistence

_SWALLOWED = {
    "start": "The monitor would wait for a machine that does not start, and the jobs would not hear why",
    "stop": "The monitor would believe that the machine stops, while it runs and costs money",
}


def _check_kind(call: str, fault: str, error: PowerError) -> None:
    """Whether the error says what the monitor has to do."""
    of = fault.removeprefix("own ")
    if of == "denied":
        assert isinstance(error, Denied), f"`{call}` raised {error!r} for refused credentials: raise Denied"
    else:
        assert isinstance(error, Transient), f"`{call}` raised {error!r} for an API that is {of}: raise Transient"
    if of == "busy":
        assert error.retry_after is not None, (  # type: ignore[union-attr]
            f"`{call}` raised {error!r} for a call that came too fast: raise TryAgain with the seconds of `Retry-After`"
        )


class PowerFaults:
    """The cases; see `PowerConformance`."""

    async def test_one_that_was_killed_before_the_provider_showed_the_start_waits_for_it(
        self, world: PowerWorld
    ) -> None:
        world.break_with("start_ignored")
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
        world.break_with("slow")
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
        world.break_with(fault)
        async with calling(world) as power:
            with pytest.raises(Transient) as caught:
                await power.inspect()
        pause = caught.value.retry_after
        assert (pause is not None) == (fault == "busy")
        async with watched(world, misses=2) as seen:
            seen.wake()
            await seen.until(lambda: seen.program.machine.looks.failed >= 1)
            seen.ahead += pause or 0.0
            await seen.until(lambda: seen.program.machine.looks.failed >= 2)
            assert (seen.state, world.calls) == ("unknown", 0)
            world.fault = None
            seen.ahead += pause or 0.0
            await seen.boots()
        assert seen.failures() == []

    async def test_a_machine_that_runs_stays_known_while_the_api_is_down(self, world: PowerWorld) -> None:
        await world.become("running")
        async with watched(world, misses=2) as seen:
            await seen.comes("booted")
            world.break_with("down")
            await seen.until(lambda: seen.program.machine.looks.failed >= 3)
            world.fault = None
            await seen.until(lambda: seen.program.machine.looks.reading == "running")
        assert (world.calls, world.stops) == (0, 0)

    async def test_refused_credentials_are_told_to_the_job_and_never_shown(self, world: PowerWorld) -> None:
        world.break_with("denied")
        lines: list[str] = []
        listening = logger.add(lines.append, level="DEBUG")
        async with calling(world) as power:
            with pytest.raises(Denied):
                await power.inspect()
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

    @pytest.mark.parametrize("call", ["start", "stop"])
    @pytest.mark.parametrize("fault", ["denied", "busy", "down", "broken", "own denied", "own busy", "own broken"])
    async def test_an_error_comes_out_of_start_and_stop(self, world: PowerWorld, call: str, fault: str) -> None:
        await world.become("running" if call == "stop" else "stopped")
        async with calling(world) as power:
            await power.inspect()
            world.break_with(cast("Fault", fault.replace("own ", f"{call}_")))
            try:
                await getattr(power, call)()
            except PowerError as error:
                _check_kind(call, fault, error)
            else:
                raise AssertionError(
                    f"`{call}` returned, although the API did not carry it out ({world.fault}): let its errors leave "
                    f"the method. {_SWALLOWED[call]}"
                )

    async def test_a_machine_that_is_not_found_once_is_looked_for_again(self, world: PowerWorld) -> None:
        await world.become("running")
        async with watched(world, misses=100) as seen:
            await seen.serves()
            world.break_with("missing")
            await seen.until(lambda: seen.program.machine.looks.failed >= 2 or seen.state != "online")
            world.fault = None
            await seen.looks()
            assert seen.state == "online", (
                f"the API did not find the machine for a moment, and {seen}. Raise Gone for such an answer: the "
                "monitor looks again before it counts. Return `terminated` only if the API says that it was deleted"
            )

    async def test_a_start_that_is_described_late_is_one_start(self, world: PowerWorld) -> None:
        world.break_with("lags")
        async with watched(world) as seen:
            await seen.asks()
            await seen.looks()
            world.fault = None
            await world.finish()
            await seen.until(lambda: seen.state == "booted" or bool(seen.failures()))
            assert (seen.state, world.calls, seen.failures()) == ("booted", 1, []), (
                f"the API accepted the start and described it a little later, and {seen}. `start` only begins: return "
                "when the API has accepted it, and leave the rest to `inspect`"
            )

    async def test_a_start_that_comes_too_fast_waits_as_long_as_it_is_told(self, world: PowerWorld) -> None:
        world.break_with("start_busy")
        async with watched(world) as seen:
            await seen.asks()
            await seen.until(lambda: seen.program.machine.boot.again_at is not None)
            boot = seen.program.machine.boot
            wait = (boot.again_at or 0.0) - boot.tried_at
            assert wait >= 1.0  # the second that the API names
            world.fault = None
            seen.ahead += wait
            await seen.until(lambda: world.starts == 1)
        assert (world.calls, seen.failures()) == (2, [])

    @pytest.mark.parametrize("fault", ["start_broken", "start_unknown"])
    async def test_a_start_that_failed_is_repeated(self, world: PowerWorld, fault: Fault) -> None:
        world.break_with(fault)
        async with watched(world) as seen:
            await seen.comes("off")
            seen.wake()
            await seen.until(lambda: world.calls == 2)
            world.fault = None
            await seen.boots()
        assert seen.failures() == []

    async def test_a_start_that_was_carried_out_in_spite_of_an_error_is_not_repeated(self, world: PowerWorld) -> None:
        world.break_with("start_lost")
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
        world.break_with("start_ignored")
        async with watched(world, start_within=world.within) as seen:
            await seen.asks()
            await seen.looks()
            assert world.calls == 1
            seen.ahead = world.within
            await seen.comes("no_capacity")
            world.fault = None
            await seen.boots(2)

    async def test_a_start_that_does_not_come_to_its_end_counts_as_no_capacity(self, world: PowerWorld) -> None:
        world.break_with("start_slow")
        async with watched(world, start_within=world.within) as seen:
            await seen.asks(accepted=True)
            await seen.until(lambda: seen.program.machine.looks.reading == "starting")
            seen.ahead = world.within
            await seen.comes("no_capacity")
            await seen.looks()
            assert (seen.state, world.calls) == ("no_capacity", 1)
            await world.become("running")
            await seen.comes("booted")
        assert (world.calls, seen.failures()) == (1, [])

    async def test_no_capacity_is_asked_for_again_until_there_is_some(self, world: PowerWorld) -> None:
        world.break_with("no_capacity")
        async with watched(world) as seen:
            await seen.comes("off")
            seen.wake()
            await seen.comes("no_capacity")
            await seen.until(lambda: world.calls >= 2)
            world.fault = None
            await seen.boots()
        assert (world.starts, seen.failures()) == (1, [])

    async def test_a_quota_is_told_once_and_not_tried_again(self, world: PowerWorld) -> None:
        world.break_with("quota")
        async with watched(world) as seen:
            await seen.comes("off")
            seen.wake()
            await seen.until(lambda: bool(seen.failures()))
            await seen.looks(10)
        assert (world.calls, len(seen.failures())) == (1, 1)
