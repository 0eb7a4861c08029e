"""Run the monitor: pass the hub's messages and the provider's answers to the decider, and carry out its commands.

Each call to the provider or the worker is a task with a time limit whose result becomes an event, so the monitor never
waits for a call.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from loguru import logger
from msgspec.structs import asdict

from wakestream.adapters.config.addresses import worker_url
from wakestream.adapters.net.hub_link import HubLink
from wakestream.adapters.power.config import returned_nothing, returned_reading
from wakestream.adapters.runtime.decider_runner import DeciderRunner
from wakestream.adapters.runtime.tasks import background, end, supervised
from wakestream.operators.model.errors import (
    Denied,
    Gone,
    NoCapacity,
    QuotaExceeded,
    Transient,
    WakestreamError,
)
from wakestream.operators.model.ports import Health, Journal, LinkDown, LinkUp, Power, Reading
from wakestream.operators.rx.from_async import cancel_as_error
from wakestream.streams.decider import Decision
from wakestream.streams.monitor import persistence
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import Monitor, to_event
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Tap, untapped

HEALTH_WITHIN = 10.0
"""Seconds that the worker has to answer a health check."""

_FAULTS: Sequence[tuple[type[Exception], p.Fault]] = (
    (QuotaExceeded, "quota"),
    (Denied, "denied"),
    (Gone, "gone"),
    (Transient, "transient"),
    (TimeoutError, "transient"),  # the call may have had an effect
)


def _fault(error: Exception) -> p.Fault:
    return next((fault for cause, fault in _FAULTS if isinstance(error, cause)), "")


CheckHealth = Callable[[str | None], Awaitable[Health]]
"""Asks the worker at a URL, or at the address of the settings."""


class MonitorProgram:
    """Runs the decider for one machine.

    Args:
        monitor: The decider.
        link: The connection to the hub.
        power: The provider that switches the machine.
        health: Checks the worker on it.
        tick: Seconds between two `Tick` events.
        tap: Records the results of calls.
        journal: Stores what must outlast a restart, before the commands that depend on it are carried out.
        known: What the journal had at the start, as `persistence.ages` returns it.
        clock: Returns UNIX seconds.
        monotonic: Returns the seconds by which the monitor waits; by default those of the running loop.
        end_machine: Ends a machine that ends with the monitor, and returns when that is done; None for any other one.

    Attributes:
        entered: How often the machine came into each state.
        journal: As given.
    """

    def __init__(
        self,
        monitor: Monitor,
        link: HubLink,
        power: Power,
        health: CheckHealth,
        *,
        tick: float = 1.0,
        tap: Tap = untapped,
        journal: Journal[persistence.MachineKept] | None = None,
        known: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] | None = None,
        end_machine: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._now = monotonic or asyncio.get_running_loop().time
        machine = persistence.restore(known, self._now())
        self._clock, self._end_machine = clock, end_machine
        self.remembered = self._snapshot(machine)
        self.runner: DeciderRunner[p.Machine, p.PowerEvent, p.Machine, p.PowerCommand] = DeciderRunner(
            "the monitor",
            monitor,
            machine,
            journal,
            self._execute,
            clock=self._now,
            durable=self._kept if journal is not None else lambda _: [],
            on_decision=self._record,
            on_fact=self._count,
            when_full=self._start_unsaved,
            needs_journal=False,
            snapshot=lambda: persistence.rows(self.remembered),
        )
        self._unsaved = False
        self.journal = journal
        self._monitor, self._link, self._power, self._health = monitor, link, power, health
        self._tick, self._tap = tick, tap
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._events: deque[tuple[p.PowerEvent, float]] = deque()
        self._refused, self._state = False, machine.state
        self.entered: Counter[str] = Counter()
        self._log = logger.bind(stage="power", gpu=monitor.policy.gpu)

    @property
    def machine(self) -> p.Machine:
        """What the monitor knows about the machine."""
        return self.runner.state

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop`, then cancel all calls. The machine stays as it is, unless it ends with the monitor."""
        subscription = self._link.events.subscribe(self._receive)
        try:
            async with supervised("the monitor") as tasks:
                tasks.needs("the journal", self.runner.ended)
                tasks.needs("the clock", self._tick_regularly)  # without it, the GPU would stay on
                await stop.wait()
            subscription.dispose()
            if self._end_machine is not None:
                await self._end(self._end_machine)
        finally:
            subscription.dispose()
            await self.runner.close()
            await end(*self._calls.values())

    async def _end(self, end_machine: Callable[[], Awaitable[None]]) -> None:
        """End the machine, and say so while there is a connection: the hub counts it as on until it hears this."""
        self._decide()
        await self.runner.settled()
        await end(*self._calls.values())
        await end_machine()
        self._report("ended", p.Ended())
        self._decide()
        await self.runner.settled()

    async def _tick_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._tick)
            self._decide()  # first on what came before, in the order of the log
            self.runner.report(p.Tick())

    def _receive(self, message: m.Message | LinkUp | LinkDown) -> None:
        if isinstance(message, LinkUp | LinkDown):
            refused = isinstance(message, LinkDown) and message.code is not None
            if refused and not self._refused:  # the link logs the reason at each attempt; log what to do only once
                self._log.error(
                    "the hub refuses this monitor: give it a key of role monitor (`wakestream license issue --role "
                    "monitor` at the hub). Until then no job starts {}",
                    " and ".join(self._monitor.policy.gpus),
                )
            self._refused = refused or (self._refused and isinstance(message, LinkDown))
        elif isinstance(message, m.Error):
            self._log.warning("the hub says: {}", message.text)
        event = to_event(message, *self._monitor.policy.gpus)
        if event is not None:
            self._queue(event)

    def _queue(self, event: p.PowerEvent) -> None:
        if self.runner.crowded:
            self._log.error("too many events are waiting: {} was dropped", type(event).__name__)
        else:  # in a turn of its own: the link and a call have to end theirs first
            recorded = self._tap.newest()
            self._events.append((event, self._now() if recorded is None else recorded))
            asyncio.get_running_loop().call_soon(self._decide)

    def _decide(self) -> None:
        while self._events:
            self.runner.report(*self._events.popleft())

    def _record(self, event: p.PowerEvent, decision: p.PowerDecision, now: float) -> None:
        if (decision.commands or decision.facts) and isinstance(event, p.Tick):
            self._tap.row_at(now, "conn", "tick", {})

    def _count(self, machine: p.Machine) -> None:
        if machine.state != self._state:
            self._state = machine.state
            self.entered[machine.state] += 1

    def _snapshot(self, machine: p.Machine | None = None) -> persistence.MachineKept:
        ends = self._end_machine is not None
        return persistence.snapshot(machine or self.machine, self._now(), self._clock(), ends=ends)

    def _kept(self, _: Sequence[p.Machine]) -> list[persistence.MachineKept]:
        """The machine's state, if it changed in a way that must outlast a restart."""
        kept = self._snapshot()
        if not (self._unsaved or persistence.worth_keeping(self.remembered, kept)):
            return []
        self.remembered, self._unsaved = kept, False
        return [kept]

    def _start_unsaved(
        self, _event: p.PowerEvent, rest: Decision[persistence.MachineKept, p.PowerCommand], _error: WakestreamError
    ) -> Decision[persistence.MachineKept, p.PowerCommand]:
        """A machine that is needed is started nevertheless. The next event writes the newest state."""
        self._unsaved = True
        return Decision([], rest.commands)

    def _execute(self, command: p.PowerCommand) -> None:
        match command:
            case p.Say(message):
                self._link.send(message)
            case p.LogNote(text, warning):
                self._log.log("WARNING" if warning else "INFO", "{}", text)
            case p.CheckHealth(url):
                self._begin("health", partial(self._check_health, url))
            case p.Start(number):
                self._begin("provider", partial(self._call_provider, "start", number, self._power.start))
            case p.Stop(number):
                self._begin("provider", partial(self._call_provider, "stop", number, self._power.stop))
            case p.Inspect(number):
                self._begin("provider", partial(self._call_provider, "inspect", number, self._power.inspect))

    def _begin(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        self._calls[name] = background(f"monitor-{name}", _after(self._calls.get(name), work), self.runner.fail)

    async def _call_provider(self, kind: str, number: int, call: Callable[[], Awaitable[object]]) -> None:
        limit = self._monitor.policy.call_timeout
        event: p.CallAnswer
        try:
            async with asyncio.timeout(limit):
                with cancel_as_error(kind):
                    returned = await call()
            if kind == "inspect":
                event = self._reading(number, returned_reading(returned))
            else:
                returned_nothing(kind, returned)
                event = p.Taken(number)
        except Exception as error:
            why = self._why("the power provider", kind, limit, error)
            wait = error.retry_after if isinstance(error, Transient) else None
            event = p.CallFailed(number, why, isinstance(error, NoCapacity), _fault(error), wait)
        self._report(kind, event)

    def _reading(self, number: int, reading: Reading) -> p.Reading:
        age = None if reading.since is None else max(0.0, self._clock() - reading.since)
        return p.Reading(number, reading.state, reading.detail, self._worker_url(reading.address), age, reading.gpus)

    def _worker_url(self, address: str | None) -> str | None:
        if not address or not self._monitor.policy.follows_address:
            return None
        try:
            return worker_url(address)
        except ValueError as error:
            self._log.warning("the power provider reports the address {!r}, which {}", address[:80], error)
            return None

    async def _check_health(self, url: str | None) -> None:
        try:
            async with asyncio.timeout(HEALTH_WITHIN):
                with cancel_as_error("health"):
                    answer = await self._health(url)
            why = "" if answer.initialized else "it is not initialized"
            event = p.HealthAnswer(answer.initialized, why, answer.busy, url)
        except Exception as error:  # without an answer, there would be no further check
            event = p.HealthAnswer(False, self._why("the worker", "health", HEALTH_WITHIN, error), url=url)
        self._report("health", event)

    def _why(self, who: str, call: str, limit: float, error: Exception) -> str:
        """Why a call failed."""
        if isinstance(error, WakestreamError):
            return str(error)
        if isinstance(error, TimeoutError):
            return f"{who} did not answer `{call}` within {limit:g} s"
        self._log.opt(exception=error).error("{} raised an error in `{}`", who, call)
        return f"{who} raised {type(error).__name__} in `{call}`; see the log"

    def _report(self, label: str, event: p.CallAnswer | p.Ended) -> None:
        self._tap.row("effect", f"power.{label}", asdict(event))
        self._queue(event)


async def _after(before: asyncio.Task[None] | None, work: Callable[[], Awaitable[None]]) -> None:
    # Only an inspection can be running when the next call begins, and its result is out of date then.
    if before is not None:
        await end(before)
    await work()
