"""What the cases for power providers are made of: a provider whose calls are checked, and the real monitor on it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from wakestream.adapters.monitor.runner import MonitorProgram
from wakestream.adapters.power.config import Machine, Provider, returned_nothing, returned_reading
from wakestream.adapters.runtime.tasks import tasks_of_block
from wakestream.adapters.testing.fakes import FakeLink
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.testing.power_world import PowerWorld
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import PowerError
from wakestream.operators.model.ports import Health, Reading
from wakestream.streams.monitor import persistence
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.monitor.power_machine import PowerPolicy
from wakestream.streams.protocol import messages as m

LOOK = 0.02

BLOCKED = 0.25
"""Seconds for which one step of a call may hold up the event loop."""

_LOOK_AT_THREAD = 0.01


class CheckedPower(Provider):
    """A provider whose calls are checked: what they return and raise, and that they do not block the event loop.

    Attributes:
        wrong: What was found, as sentences for the author of the provider.
    """

    def __init__(self, power: Provider) -> None:
        self.power = power
        self.wrong: dict[str, None] = {}

    async def start(self) -> None:
        """See `Power.start`."""
        await self._called("start", self.power.start(), partial(returned_nothing, "start"))

    async def stop(self) -> None:
        """See `Power.stop`."""
        await self._called("stop", self.power.stop(), partial(returned_nothing, "stop"))

    async def inspect(self) -> Reading:
        """See `Power.inspect`."""
        return await self._called("inspect", self.power.inspect(), returned_reading)  # type: ignore[no-any-return]

    async def machines(self) -> Sequence[Machine]:
        """See `Provider.machines`."""
        return await self._called("machines", self.power.machines(), _machines)  # type: ignore[no-any-return]

    async def close(self) -> None:
        """See `Provider.close`."""
        await self.power.close()

    async def _called(self, name: str, call: Awaitable[Any], check: Callable[[Any], Any]) -> Any:
        steps = _Steps(call)
        try:
            returned = await steps
        except (PowerError, TimeoutError):
            raise
        except Exception as error:
            self.wrong[f"`{name}` raised {error!r}: raise a PowerError, so that the monitor knows what to do"] = None
            raise
        finally:
            if steps.longest > BLOCKED:
                self.wrong[
                    f"`{name}` blocked the event loop for {steps.longest:.1f} s, and the monitor could do nothing: "
                    "use an asyncio library or asyncio.to_thread"
                ] = None
        try:
            check(returned)
        except PowerError as error:
            self.wrong[str(error)] = None
        return returned

    def check(self) -> None:
        """Fail if anything was found."""
        if self.wrong:
            raise AssertionError("; ".join(self.wrong))


def _machines(returned: Any) -> None:
    if not isinstance(returned, Sequence) or not all(isinstance(machine, Machine) for machine in returned):
        raise PowerError(f"`machines` of the power provider returned {returned!r:.80}: return a list of Machine")


class _Steps:
    """Awaits a call, and measures for how long each of its steps keeps the event loop asleep.

    A thread looks at that of the loop every 10 ms. Only what it sees counts: on a machine that is busy or stands still
    it sees less, never more. A thread that computes, or waits for a processor or for Python's lock, is not asleep.
    """

    def __init__(self, call: Awaitable[Any]) -> None:
        self.call, self.longest = call, 0.0
        self._thread, self._step, self._over = threading.current_thread(), 0, threading.Event()

    def __await__(self) -> Generator[Any, None, Any]:
        steps = self.call.__await__()
        resume: Callable[[], Any] = partial(steps.send, None)
        threading.Thread(target=self._look, daemon=True).start()
        try:
            while True:
                self._step += 1
                try:
                    waits_for = resume()
                except StopIteration as end:
                    return end.value
                finally:
                    self._step += 1  # even: no step of this call runs
                try:
                    yield waits_for
                    resume = partial(steps.send, None)
                except BaseException as error:  # a cancellation goes into the call
                    resume = partial(steps.throw, error)
        finally:
            self._over.set()

    def _look(self) -> None:
        before: tuple[int, object] = (0, None)
        asleep = 0.0
        while not self._over.wait(_LOOK_AT_THREAD):
            now = step, _ = self._step, _sleep(self._thread)
            if step % 2 and now == before:
                asleep += _LOOK_AT_THREAD
            elif step != before[0]:
                asleep = 0.0
            before, self.longest = now, max(self.longest, asleep)


def _sleep(thread: threading.Thread) -> object:
    """What is equal at two looks if the thread has slept in between."""
    task = Path(f"/proc/self/task/{thread.native_id}")
    try:
        if task.joinpath("stat").read_text("ascii", "replace").rpartition(") ")[2].startswith("S"):
            return task.joinpath("schedstat").read_text("ascii")  # its time on processors, and in the queue for one
    except OSError:
        return None  # only Linux tells: elsewhere a step that computes counts, too
    return object()


@asynccontextmanager
async def calling(world: PowerWorld, machine: str | None = None) -> AsyncIterator[Provider]:
    """A provider for direct calls, which are checked."""
    power = CheckedPower(world.provider(machine=machine, timeout=world.call_timeout))
    try:
        async with asyncio.timeout(world.within):
            yield power
    except Exception as error:
        raise _reason(power, error) from error
    finally:
        await power.close()
    power.check()


def _reason(power: CheckedPower, error: Exception) -> Exception:
    """What was found in the calls explains more than what came of it."""
    return AssertionError("; ".join(power.wrong)) if power.wrong else error


class Watched:
    """A running monitor: `link` plays its hub. It is `ahead` of the loop's time by so many seconds."""

    program: MonitorProgram

    def __init__(self, power: CheckedPower, world: PowerWorld) -> None:
        self.power, self.world, self.link, self.ahead = power, world, FakeLink(), 0.0
        self.stop = asyncio.Event()

    def now(self) -> float:
        """The seconds of the monitor, which a case moves to the end of a wait."""
        return asyncio.get_running_loop().time() + self.ahead

    @property
    def state(self) -> str:
        """The state of the machine, as the monitor has it."""
        return self.program.machine.state

    def wake(self, job: str = "job-1") -> None:
        """A job asks for the GPU."""
        self.link.receive(m.Boot(request_id=job))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until this holds. What is wrong with a call ends the case: it explains why this does not hold."""
        while not holds():  # polled, since providers of other people announce nothing
            self.power.check()
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

    async def serves(self) -> None:
        """The machine that runs is online."""
        await self.comes("booted")
        self.link.receive(m.Online())
        await self.comes("online")

    async def looks(self, times: int = 5) -> None:
        """Wait until the machine was looked at so often, successfully or not."""
        before = self.program.machine.calls
        await self.until(lambda: self.program.machine.calls >= before + times)

    def failures(self) -> list[m.BootResult]:
        """What waiting jobs heard."""
        return self.link.said(m.BootResult)

    def __str__(self) -> str:
        """What the monitor knows, for the message of a case that fails."""
        messages = "; ".join(result.msg or "" for result in self.failures()) or "nothing"
        world = self.world
        return (
            f"the machine is {self.state} ({self.program.machine.reason}); the API had {world.calls} calls to start "
            f"it, accepted {world.starts} of them and {world.stops} stops; the jobs heard: {messages}"
        )


@asynccontextmanager
async def watched(
    world: PowerWorld,
    journal: FakeJournal[persistence.MachineKept] | None = None,
    machine: str | None = None,
    **more: Any,
) -> AsyncIterator[Watched]:
    """Run the monitor on a machine of this world, quickly; `more` of its policy."""
    policy: dict[str, Any] = {
        "look_soon": LOOK, "look_online": LOOK, "look_rarely": 2 * LOOK, "boot_timeout": 2 * world.within,
        "call_timeout": world.call_timeout, "checks_health": False, "follows_address": True,
        "stop_again": 0.5, "shows_within": 0.1, "gone_after": 0.1,
        "capacity": Backoff(initial=0.05, max_delay=0.1), "trouble": Backoff(initial=0.05, max_delay=0.1), **more,
    }  # fmt: skip
    power = CheckedPower(world.provider(machine=machine, timeout=policy["call_timeout"]))
    seen = Watched(power, world)
    kept: FakeJournal[persistence.MachineKept] = FakeJournal() if journal is None else journal
    monitor = Monitor(PowerPolicy(gpu="gpu-1", **policy), Random(1))
    known = persistence.ages(kept.read(), time.time(), kept.restore())
    seen.program = MonitorProgram(
        monitor, seen.link, power, no_health, tick=LOOK, journal=kept, known=known, monotonic=seen.now
    )
    async with tasks_of_block() as start:
        running = start(seen.program.run(seen.stop))
        await asyncio.sleep(0)
        seen.link.connect("power_state")
        try:
            async with asyncio.timeout(world.within):
                yield seen
        except TimeoutError:
            raise _reason(power, AssertionError(f"the case is not over after {world.within:g} s: {seen}")) from None
        except Exception as error:
            raise _reason(power, error) from error
        finally:
            seen.stop.set()
            await running
            await power.close()
    power.check()


async def no_health(_url: str | None) -> Health:
    """A worker that is never ready."""
    return Health(initialized=False)
