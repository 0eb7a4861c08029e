"""The monitor as a whole: journal, hub link and runner, opened in this order and closed in the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from loguru import logger
from reactivex import Observable

from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.disk.journal import SqliteJournal, open_journal
from wakestream.adapters.disk.state_folder import make_private
from wakestream.adapters.monitor.runner import MonitorProgram
from wakestream.adapters.net.hub_link import open_link
from wakestream.adapters.net.tls import client_context
from wakestream.adapters.power.config import Machine, Provider, id_of
from wakestream.adapters.telemetry.recorder import recording
from wakestream.operators.model.errors import WakestreamError
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.monitor.persistence import MachineKept, ages
from wakestream.streams.monitor.power_machine import PowerPolicy
from wakestream.streams.monitor.transitions import AGE, FEATURE, RELEASE
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.config_json import plain_config
from wakestream.streams.recording.recording import Tap, TapPair, untapped

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
        journal: The journal's file; None for a machine that ends with the monitor.
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
    """How the provider lists the machine of this id or name; None if it does not, or not in time."""
    if machine is None:
        return None
    try:
        async with asyncio.timeout(LISTS_WITHIN):
            machines = await power.machines()
            id_ = id_of(machine, machines)
    except (WakestreamError, TimeoutError) as error:
        logger.debug("the provider does not say what the machine costs: {!r}", error)
        return None
    except Exception as error:  # a provider may be the user's code, and the monitor must go on
        logger.opt(exception=error).error("the provider's list of machines raised an error")
        return None
    return next(listed for listed in machines if listed.id == id_)


@asynccontextmanager
async def open_monitor(config: MonitorConfig) -> AsyncIterator[MonitorProgram]:
    """Connect to the hub; `run` of the program then manages the GPU. The block's end leaves the machine as it is.

    Args:
        config: The settings of this monitor.

    Raises:
        SettingsError: No hub is set.
        JournalError: The journal cannot be opened.
    """
    settings, policy, power = config.settings, config.policy, config.power
    url, ca = settings.needs_hub(), client_context(settings.ca)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(power.close)
        workers = HttpWorkers(settings.worker_url, ca=ca)
        stack.push_async_callback(workers.close)
        journal: SqliteJournal[MachineKept] | None = None
        known = None
        if config.journal is not None:
            make_private(config.journal.parent)
            opening = open_journal(config.journal, MachineKept, program="monitor", limit=JOURNAL_LIMIT)
            journal = await stack.enter_async_context(opening)
            known = ages(journal.read(), time.time(), journal.restore())
        seed = Random().getrandbits(32)
        header = {"policy": plain_config(policy), "recalled": known}
        tap = TapPair(stack.enter_context(recording(settings.record, "monitor", seed, header)), config.watch)
        random = Random(seed)
        machine = await described(power, settings.power_machine)
        register = m.Register(
            role="gpu_monitor",
            token=settings.key,
            gpus=(policy.gpu,),
            features=(FEATURE, RELEASE, AGE),
            machine=machine.id if machine else settings.power_machine,
            price=machine.price if machine else None,
            currency=(machine.currency or None) if machine else None,
            idle_after=policy.idle_after,
        )
        link = open_link(url, lambda: register, tap=tap, random=random, ca=ca)
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
        )
