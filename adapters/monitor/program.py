"""The monitor as a whole: journal, hub link and runner, opened in this order and closed in the other."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, get_args

from loguru import logger
from prometheus_client.metrics_core import Metric
from reactivex import Observable

from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.disk.journal import StoredJournal, open_journal
from wakestream.adapters.disk.state_folder import prepare_state
from wakestream.adapters.monitor.runner import MonitorProgram
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.net.tls import client_context
from wakestream.adapters.power.config import CannotList, Machine, Provider, id_of
from wakestream.adapters.telemetry import metric_families as ff
from wakestream.adapters.telemetry.link_metrics import LinkWatch
from wakestream.adapters.telemetry.recorder import recording
from wakestream.operators.model.errors import JournalError, WakestreamError
from wakestream.operators.model.ports import PowerWord
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.monitor.persistence import MachineKept, ages
from wakestream.streams.monitor.power_machine import PowerPolicy
from wakestream.streams.monitor.transitions import AGE, FEATURE, MACHINES, RELEASE
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.config_json import plain_config
from wakestream.streams.recording.recording import Direction, Tap, TapPair, untapped

LISTS_WITHIN = 10.0
"""Seconds that the provider has to list its machines before the monitor connects."""

JOURNAL_LIMIT = 1000
"""Facts after which the journal is compacted to the newest."""


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """The settings of a monitor.

    Attributes:
        settings: The general settings: hub, key, worker and recording.
        policy: The GPU's name and the times after which it is stopped.
        power: How the machine is started, stopped and inspected; closed when the monitor ends.
        journal: The journal's file; None without one.
        watch: Also receives every row of the recording.
        on_link: Called with the events of the hub link before it connects.
    """

    settings: Settings
    policy: PowerPolicy
    power: Provider
    journal: Path | None = None
    watch: Tap = untapped
    on_link: Callable[[Observable[Any]], None] = lambda _events: None


async def described(power: Provider, machine: str | None) -> Machine | None:
    """How the provider lists the machine of this id or name; None if it does not say it now."""
    if machine is None:
        return None
    try:
        async with asyncio.timeout(LISTS_WITHIN):
            machines = await power.machines()
            id_ = id_of(machine, machines)
    except CannotList:
        return Machine(machine, "", "unknown")
    except (WakestreamError, TimeoutError) as error:
        logger.debug("the provider does not say what the machine costs: {!r}", error)
        return None
    except Exception as error:  # a provider may be the user's code, and the monitor must go on
        logger.opt(exception=error).error("the provider's list of machines raised an error")
        return None
    return next(listed for listed in machines if listed.id == id_)


@asynccontextmanager
async def open_monitor(config: MonitorConfig) -> AsyncIterator[MonitorProgram]:
    """Connect to the hub; `run` of the program then manages the GPU. The block's end leaves the machine as it is,
    unless that ends with the monitor.

    Args:
        config: The settings of this monitor.

    Raises:
        SettingsError: No hub is set.
        JournalError: The journal cannot be opened. A machine that ends with the monitor needs none.
    """
    settings, policy, power = config.settings, config.policy, config.power
    ends = bool(getattr(power, "ends_with_monitor", False))
    url, ca = settings.needs_hub(), client_context(settings.ca)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(power.close)
        workers = HttpWorkers(settings.worker_url, ca=ca)
        stack.push_async_callback(workers.close)
        journal: StoredJournal[MachineKept] | None = None
        known = None
        if config.journal is not None:
            try:
                prepare_state(config.journal.parent)
                opening = open_journal(config.journal, MachineKept, program="monitor", limit=JOURNAL_LIMIT)
                journal = await stack.enter_async_context(opening)
                known = ages(journal.read(), time.time(), journal.restore())
            except (JournalError, SettingsError) as error:
                if not ends:
                    raise
                logger.warning("{}. Without it, a GPU whose monitor is killed is paid for until its next start", error)
        seed = Random().getrandbits(32)
        header = {"policy": plain_config(policy), "recalled": known}
        tap = TapPair(stack.enter_context(recording(settings.record, "monitor", seed, header)), config.watch)
        random = Random(seed)
        machine = await described(power, settings.power_machine)
        register = m.Register(
            role="gpu_monitor",
            token=settings.key,
            gpus=policy.gpus,
            features=(FEATURE, RELEASE, AGE, MACHINES),
            machine=machine.id if machine else settings.power_machine,
            price=machine.price if machine else None,
            currency=(machine.currency or None) if machine else None,
            idle_after=policy.idle_after,
            machines=_machines(config, machine),
            instance=secrets.token_hex(8),
            labels=settings.label or None,
        )
        link = Link(url, lambda: register, tap=tap, random=random, ca=ca)
        stack.push_async_callback(link.close)
        config.on_link(link.events)
        yield MonitorProgram(
            Monitor(policy, random),
            link,
            power,
            lambda url: workers.at(url).health(),
            tap=tap,
            journal=journal,
            known=known,
            end_machine=power.close if ends else None,
        )


def _machines(config: MonitorConfig, listed: Machine | None) -> Mapping[str, str] | None:
    """What tells the machine of the GPUs from all others; None if that is not known at present."""
    settings, gpus = config.settings, config.policy.gpus
    if settings.power_machine is None:
        return dict.fromkeys(gpus, gpus[0]) if len(gpus) > 1 else None
    at = settings.power_option.get("base_url")  # ids of other controllers may be equal
    return dict.fromkeys(gpus, f"{listed.id} at {at}" if at else listed.id) if listed is not None else None


# The metrics of a monitor: the state of its machine, and the provider's answers.

STATES = get_args(PowerWord)
CALLS = ("start", "stop", "inspect")
RESULTS = ("ok", "failed", "no_capacity")
_EFFECT = "power."


class PowerWatch(LinkWatch):
    """A tap that also counts the provider's answers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[tuple[str, str]] = Counter()

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """See `Tap.row`."""
        super().row(direction, label, data, job)
        if direction == "effect" and label.startswith(_EFFECT):
            result = "no_capacity" if data.get("no_capacity") else "failed" if "why" in data else "ok"
            self.calls[label.removeprefix(_EFFECT), result] += 1


class MonitorMetrics:
    """A callable that returns the families. `folder` has the program's journal, if there is one."""

    def __init__(self, program: MonitorProgram, watch: PowerWatch, folder: Path | None = None) -> None:
        self._program, self._watch, self._folder = program, watch, folder

    def __call__(self) -> Iterator[Metric]:
        """All families of a monitor."""
        machine, watch = self._program.machine, self._watch
        yield ff.build("monitor")
        text = "1 for the state that the machine is in, 0 for the others."
        yield ff.gauges("wakestream_monitor_power_state", text, ("state",), ff.one_of(STATES, machine.state))
        entered = {state: self._program.entered[state] for state in STATES}
        text = "How often the machine came into this state: starting, stopping, failed and so on."
        yield ff.counters("wakestream_monitor_power_changes_total", text, ("state",), entered)
        calls = {(call, result): watch.calls[call, result] for call in CALLS for result in RESULTS}
        text = "The provider's answers to what it was asked for."
        yield ff.counters("wakestream_monitor_provider_calls_total", text, ("call", "result"), calls)
        since = machine.use.up_since
        up = asyncio.get_running_loop().time() - since if since is not None else 0.0
        yield ff.gauge("wakestream_monitor_uptime_seconds", "Since the machine was first seen running; 0 if off.", up)
        text = "Looks at the machine in a row that failed."
        yield ff.gauge("wakestream_monitor_looks_failed", text, machine.looks.failed)
        yield from watch.families("monitor")
        if isinstance(self._program.journal, StoredJournal) and self._folder is not None:
            yield from ff.journal("monitor", self._program.journal)
            yield from ff.disk("monitor", self._folder)
