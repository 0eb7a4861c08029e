"""The configuration of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext

from loguru import logger

from wakestream.adapters.engines.models import Models
from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.adapters.net.connection_limits import Network, Room
from wakestream.adapters.net.tls import ServerTls
from wakestream.adapters.runtime.child_processes import kill_and_wait, last_lines, start
from wakestream.operators.model.engine import Engine
from wakestream.streams.worker.dead_man import WARNING, DeadManSwitch

# The dead-man switch of a worker's machine: it runs the user's command when hub and work have been away for long.

EVERY = 1.0
"""Seconds between two looks."""

ENDS_WITHIN = 60.0
"""Seconds after which the command is killed."""


@dataclass(frozen=True, slots=True)
class DeadMan:
    """After how many seconds without hub and work the machine is switched off, and the command that does it."""

    after: float
    command: tuple[str, ...]


async def watch(config: DeadMan, alive: Callable[[], bool]) -> None:
    """Run the command when `alive` has returned False for long enough. Runs until it is cancelled."""
    loop = asyncio.get_running_loop()
    switch = DeadManSwitch(config.after, loop.time())
    while True:
        await asyncio.sleep(EVERY)
        match switch.look(loop.time(), alive=alive()):
            case "warn":
                left = (1 - WARNING) * config.after
                text = "no hub or monitor, task and transfer for long: this machine is switched off in {:.0f} s"
                logger.warning(text, left)
            case "off":
                logger.warning("no hub or monitor, task and transfer for {:.0f} s: running --poweroff", config.after)
                await _run(config.command)


async def _run(command: Sequence[str]) -> None:
    """Run the command; log why it failed. While this machine is on, it is run again later."""
    try:
        process = await start(command)
    except (OSError, ValueError) as error:
        logger.error("--poweroff: {} cannot be started: {}; this machine stays on", command[0], error)
        return
    try:
        async with asyncio.timeout(ENDS_WITHIN):
            output, errors = await process.communicate()
    except TimeoutError:
        logger.error("--poweroff did not end within {:g} s and was killed; this machine stays on", ENDS_WITHIN)
    else:
        if process.returncode != 0:
            said = last_lines(errors) or last_lines(output)
            logger.error("--poweroff failed with exit code {}: {}; this machine stays on", process.returncode, said)
    finally:
        if process.returncode is None:
            await kill_and_wait(process)


@dataclass(frozen=True, slots=True)
class Retention:
    """When files are removed: `age` seconds after their last use, or with less than `spare` free bytes on the disk."""

    age: float = 7 * 24 * 3600.0
    spare: int = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The configuration of a worker."""

    state: Path
    """The state folder."""
    engine: Engine
    """Does the work of the tasks."""
    secret: str | None
    """The secret of HTTP calls; None to accept all calls."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 8383
    """The port to listen on; 0 for any free one."""
    gpu: str | None = None
    """The name of the GPU at the hub."""
    public_url: str | None = None
    """The worker's address for clients; without it, they use their own setting."""
    key: str | None = None
    """The worker's key at the hub."""
    warm_up: float = 0.0
    """Seconds before the first check of the engine."""
    retention: Retention = field(default_factory=Retention)
    """How long files are kept."""
    tls: ServerTls | None = None
    """The certificate for https."""
    ca: SSLContext | None = None
    """Verifies the depot, if the system does not trust its certificate."""
    proxies: tuple[Network, ...] = ()
    """Networks of proxies whose `X-Forwarded-For` is used."""
    room: Room | None = None
    """The limits for open connections."""
    watchdog: Watchdog = field(default_factory=Watchdog)
    """How an engine that hangs is noticed."""
    dead_man: DeadMan | None = None
    """When the machine switches itself off; None: never."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The labels of the GPU, which jobs may require."""
    slots: int = 1
    """How many tasks it does at one time; above 1 for engines that can."""
    models: Models | None = None
    """Fetches the models that the kinds need; None: the kinds need no models."""
    depot: int | None = None
    """The most bytes of a depot, which has files only and does no tasks; None for a worker."""
