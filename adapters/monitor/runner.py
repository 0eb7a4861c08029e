"""The monitor at work: the hub's messages and the provider's answers go to the decider, its commands are carried out.

One task takes the events in order. Every call into the world is a task of its own, bounded in time, whose outcome comes
back as an event; so nothing is ever waited for here.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

from loguru import logger
from reactivex import Observable

from wakestream.operators.model.errors import JournalError, NoCapacity, NoSpace, WakestreamError
from wakestream.operators.model.ports import Health, Journal, LinkDown, LinkUp, Power
from wakestream.operators.rx.cancel_as_error import cancel_as_error
from wakestream.streams.monitor import persistence as memory
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import Monitor, hear
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Tap, untapped

MAX_INBOX = 10_000
"""Events that may wait; the decider takes each in microseconds."""

COMPLAIN_EVERY = 60.0
"""Seconds between two complaints about one thing that stays as it is."""

HEALTH_WITHIN = 10.0
"""Seconds that the worker has to answer for its health."""

CheckHealth = Callable[[], Awaitable[Health]]


class HubLink(Protocol):
    """The connection to the hub, as this file uses it."""

    @property
    def events(self) -> Observable[m.Message | LinkUp | LinkDown]:
        """Hot: what the hub says, and when there is a connection."""
        ...

    def send(self, message: m.Message) -> bool:
        """False, and nothing is sent, while there is none."""
        ...


class MonitorProgram:
    """Runs `monitor` for one machine: `power` switches it, `health` (None: not known) asks the worker on it.

    `tick` is the longest time in seconds between two looks at the clock; outcomes of calls are recorded through `tap`.
    With a `journal`, what a restart must not forget is kept there before anything is done about it; `known` is what it
    held, as `power_memory.ages` gives it. `clock` gives UNIX seconds. `entered` counts how often it came into each
    state.
    """

    def __init__(
        self,
        monitor: Monitor,
        link: HubLink,
        power: Power,
        health: CheckHealth | None,
        *,
        tick: float = 1.0,
        tap: Tap = untapped,
        journal: Journal[memory.MachineKept] | None = None,
        known: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        now = asyncio.get_running_loop().time()
        self.machine = memory.recalled(known, now)
        self._journal, self._clock = journal, clock
        self._kept = memory.kept(self.machine, now, clock())
        self._complained = now - COMPLAIN_EVERY
        self._monitor, self._link, self._power, self._health = monitor, link, power, health
        self._tick, self._tap = tick, tap
        self._inbox: asyncio.Queue[p.PowerEvent] = asyncio.Queue(MAX_INBOX)
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._refused = False
        self.entered: Counter[str] = Counter()
        self._log = logger.bind(stage="power", gpu=monitor.policy.gpu)

    @property
    def remembered(self) -> memory.MachineKept:
        """What the journal holds of the machine."""
        return self._kept

    async def run(self, stop: asyncio.Event) -> None:
        """Watch over the machine until `stop`; then all calls are cancelled. The machine is left as it is."""
        subscription = self._link.events.subscribe(self._hear)
        working = asyncio.create_task(self._work(), name="monitor")
        stopping = asyncio.create_task(stop.wait(), name="monitor-stop")
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            subscription.dispose()
            await _cancel(working, stopping, *self._calls.values())

    def _hear(self, message: m.Message | LinkUp | LinkDown) -> None:
        if isinstance(message, LinkUp | LinkDown):
            self._explain(message)
        event = hear(message, self._monitor.policy.gpu)
        if event is not None:
            self._put(event)

    def _explain(self, link: LinkUp | LinkDown) -> None:
        refused = isinstance(link, LinkDown) and link.code is not None
        if refused and not self._refused:  # the link says why at every try; what to do about it is said once
            self._log.error(
                "the hub does not take this monitor: give it a key of role monitor (`wakestream license issue --role "
                "monitor` at the hub). Until then no job wakes {}",
                self._monitor.policy.gpu,
            )
        self._refused = refused or (self._refused and isinstance(link, LinkDown))

    def _put(self, event: p.PowerEvent) -> None:
        try:
            self._inbox.put_nowait(event)
        except asyncio.QueueFull:
            self._log.error("too much at once: {} was not heard", type(event).__name__)

    async def _work(self) -> None:
        while True:
            event = await self._next()
            now = asyncio.get_running_loop().time()
            before = self.machine.state
            self.machine, commands = self._monitor.decide(self.machine, event, now)
            self.entered[self.machine.state] += self.machine.state != before
            await self._keep(now)
            if commands and isinstance(event, p.Tick):
                self._tap.row("conn", "tick", {})
            for command in commands:
                self._carry_out(command)

    async def _keep(self, now: float) -> None:
        kept = memory.kept(self.machine, now, self._clock())
        if self._journal is None or not memory.worth_keeping(self._kept, kept):
            return
        try:
            await self._journal.append([kept])
            self._kept = kept
        except (NoSpace, JournalError) as error:  # a machine that is wanted is started all the same
            if now - self._complained >= COMPLAIN_EVERY:
                self._complained = now
                self._log.error("the monitor's memory cannot be written, a restart would not know: {}", error)

    async def _next(self) -> p.PowerEvent:
        try:
            async with asyncio.timeout(self._tick):
                return await self._inbox.get()
        except TimeoutError:
            return p.Tick()

    def _carry_out(self, command: p.PowerCommand) -> None:
        match command:
            case p.Say(message):
                self._link.send(message)
            case p.Note(text, warning):
                self._log.log("WARNING" if warning else "INFO", "{}", text)
            case p.CheckHealth():
                self._begin("health", self._ask_worker)
            case p.Start(number):
                self._begin("provider", partial(self._ask_provider, "start", number, self._power.start))
            case p.Stop(number):
                self._begin("provider", partial(self._ask_provider, "stop", number, self._power.stop))
            case p.Inspect(number):
                self._begin("provider", partial(self._look, number))

    def _begin(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self._calls[name] = asyncio.create_task(_after(self._calls.get(name), work), name=f"monitor-{name}")

    async def _ask_provider(self, kind: str, number: int, call: Callable[[], Awaitable[None]]) -> None:
        event: p.Taken | p.CallFailed = p.Taken(number)
        try:
            async with asyncio.timeout(self._monitor.policy.call_timeout):
                with cancel_as_error(kind):
                    await call()
        except Exception as error:
            event = self._failed(kind, number, error)
        self._tell(kind, event)

    async def _look(self, number: int) -> None:
        event: p.Reading | p.CallFailed
        try:
            async with asyncio.timeout(self._monitor.policy.call_timeout):
                with cancel_as_error("inspect"):
                    event = p.Reading(number, await self._power.inspect(), self._power.detail)
        except Exception as error:
            event = self._failed("inspect", number, error)
        self._tell("inspect", event)

    def _failed(self, kind: str, number: int, error: Exception) -> p.CallFailed:
        if isinstance(error, WakestreamError):
            return p.CallFailed(number, str(error), isinstance(error, NoCapacity))
        if isinstance(error, TimeoutError):
            limit = self._monitor.policy.call_timeout
            return p.CallFailed(number, f"the provider did not answer to {kind} within {limit:g} s")
        self._log.opt(exception=error).error("the power provider broke in {}", kind)
        return p.CallFailed(number, f"the power provider broke in {kind} ({type(error).__name__}); see the log")

    async def _ask_worker(self) -> None:
        assert self._health is not None  # noqa: S101 - the decider asks only where there is one
        try:
            async with asyncio.timeout(HEALTH_WITHIN):
                with cancel_as_error("health"):
                    answer = await self._health()
            why = "" if answer.initialized else "it is not initialized"
            event = p.HealthAnswer(answer.initialized, why, answer.busy)
        except WakestreamError as error:
            event = p.HealthAnswer(False, str(error))
        except TimeoutError:
            event = p.HealthAnswer(False, f"it did not answer within {HEALTH_WITHIN:g} s")
        except Exception as error:  # unanswered, it would never be asked again
            self._log.opt(exception=error).error("asking the worker for its health broke")
            event = p.HealthAnswer(False, f"asking it broke ({type(error).__name__}); see the log")
        self._tell("health", event)

    def _tell(self, label: str, event: p.Taken | p.Reading | p.CallFailed | p.HealthAnswer) -> None:
        self._tap.row("effect", f"power.{label}", asdict(event))
        self._put(event)


async def _after(before: asyncio.Task[None] | None, work: Callable[[], Awaitable[None]]) -> None:
    # Only a look at the machine is ever under way when the next call begins, and its answer is out of date then.
    if before is not None:
        await _cancel(before)
    await work()


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
