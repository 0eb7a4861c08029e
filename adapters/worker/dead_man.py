"""The dead-man switch of a worker's machine: it runs the user's command when hub and work have been away for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loguru import logger

from wakestream.adapters.runtime.child_processes import kill_and_wait, last_lines, start
from wakestream.streams.worker.dead_man import WARNING, DeadManSwitch

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
                logger.warning("no hub, task or transfer for long: this machine is switched off in {:.0f} s", left)
            case "off":
                logger.warning("no hub, task or transfer for {:.0f} s: running --poweroff", config.after)
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
