"""Child processes on every system: their environment, process groups and signals, and their last output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import Process
from typing import Any

from loguru import logger

from wakestream.adapters.config.setting_files import VARIABLES
from wakestream.adapters.runtime.last_words import LastWords


def environment(*removed: str) -> dict[str, str]:
    """Our environment for a child process, without our secrets (or those `removed`), since it may print all of it.

    A Python program prints without a buffer, so that its lines arrive at once.
    """
    hidden = removed or tuple(VARIABLES)
    return {"PYTHONUNBUFFERED": "1"} | {name: value for name, value in os.environ.items() if name not in hidden}


LAST_LINES = 8
"""Lines of output that an error quotes."""

KILL_WITHIN = 5.0
"""Seconds that a killed process may take to end."""


def own_group() -> dict[str, Any]:
    """Arguments that start a program in its own process group, so that Ctrl-C in our terminal does not reach it."""
    if sys.platform == "win32":
        return {"creationflags": 0x00000200}  # CREATE_NEW_PROCESS_GROUP
    return {"start_new_session": True}


def terminate(process: Process) -> None:
    """Ask the program to end; on POSIX its children too."""
    if sys.platform == "win32":
        with contextlib.suppress(
            OSError
        ):  # impossible without a console (a service); the end of its input asks it then
            process.send_signal(signal.CTRL_BREAK_EVENT)
    else:
        _signal_group(process, signal.SIGTERM)


def kill(process: Process) -> None:
    """Kill the program; on POSIX its whole group. Does nothing when it has ended."""
    if sys.platform == "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            process.kill()
    else:
        _signal_group(process, signal.SIGKILL)


if sys.platform != "win32":

    def _signal_group(process: Process, number: signal.Signals) -> None:
        # The group may have ended; macOS answers EPERM for a group that has only zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


async def kill_and_wait(process: Process) -> None:
    """Kill the program and wait for its end; log an error if it does not end."""
    kill(process)
    try:
        async with asyncio.timeout(KILL_WITHIN):
            await process.wait()
    except TimeoutError:
        logger.error("process {} does not end although it was killed", process.pid)


def last_lines(output: bytes) -> str:
    """The last informative lines, joined into one."""
    said = LastWords(LAST_LINES)
    for line in output.decode(errors="replace").splitlines():
        said.add(line)
    return " | ".join(said.lines())
