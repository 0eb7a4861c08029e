"""Child processes on every system: their environment, process groups and signals, and their last output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from loguru import logger

from wakestream.adapters.config.setting_files import VARIABLES
from wakestream.adapters.runtime.last_words import LastWords


def environment(*removed: str) -> dict[str, str]:
    """Our environment for a child process, without our secrets (or those `removed`), since it may print all of it.

    A Python program prints without a buffer, so that its lines arrive at once.
    """
    hidden = removed or tuple(VARIABLES)
    return {"PYTHONUNBUFFERED": "1"} | {name: value for name, value in os.environ.items() if name not in hidden}


KILL_WITHIN = 5.0
"""Seconds that a killed process may take to end."""


async def start(
    argv: Sequence[str],
    *,
    stdin: int = DEVNULL,
    stdout: int | IO[bytes] = PIPE,
    stderr: int | IO[bytes] = PIPE,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Process:
    """Start a program without a shell, in its own process group (see `own_group`).

    Args:
        argv: The program and its arguments.
        stdin: Where its input comes from; by default it has none.
        stdout: Where its output goes.
        stderr: Where its errors go.
        env: Its environment; by default `environment()`.
        cwd: Its folder; by default ours.

    Raises:
        OSError, ValueError: it cannot be started.
    """
    env = environment() if env is None else env
    return await asyncio.create_subprocess_exec(
        *_startable(argv), stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, **own_group()
    )


def _startable(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv`, on Windows with the full path of the program, since the system searches for `.exe` only.

    This also starts tools that are batch files, such as `az` and `gcloud`, by their names.
    """
    found = shutil.which(argv[0]) if sys.platform == "win32" else None
    return (found or argv[0], *argv[1:])


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
    said = LastWords()
    for line in output.decode(errors="replace").splitlines():
        said.add(line)
    return said.text()
