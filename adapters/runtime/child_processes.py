"""What both providers do with the programs that they start: groups and signals on every system, and last words."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from asyncio.subprocess import Process
from typing import Any

from wakestream.adapters.config.setting_files import VARIABLES
from wakestream.adapters.runtime.last_words import LastWords


def environment(*removed: str) -> dict[str, str]:
    """Our environment for a program that we start, without our secrets (or those `removed`): it may print all it has.

    A Python program prints without a buffer, so that its lines come in time.
    """
    hidden = removed or tuple(VARIABLES)
    return {"PYTHONUNBUFFERED": "1"} | {name: value for name, value in os.environ.items() if name not in hidden}


LAST_LINES = 8
"""Lines that a failure quotes."""


def own_group() -> dict[str, Any]:
    """Arguments that start a program in a group of its own, which Ctrl-C in our terminal does not reach."""
    if sys.platform == "win32":
        return {"creationflags": 0x00000200}  # CREATE_NEW_PROCESS_GROUP
    return {"start_new_session": True}


def terminate(process: Process) -> None:
    """Ask the program, and on POSIX its children too, to end."""
    if sys.platform == "win32":
        with contextlib.suppress(OSError):  # without a console (a service) it cannot be: the end of its input then asks
            process.send_signal(signal.CTRL_BREAK_EVENT)
    else:
        _signal_group(process, signal.SIGTERM)


def kill(process: Process) -> None:
    """End the program, and on POSIX what is left of its group; nothing happens when there is nothing left."""
    if sys.platform == "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            process.kill()
    else:
        _signal_group(process, signal.SIGKILL)


if sys.platform != "win32":

    def _signal_group(process: Process, number: signal.Signals) -> None:
        # A group that is gone says so; macOS answers EPERM for one that holds nothing but zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def last_lines(output: bytes) -> str:
    """The last lines that say something, as one line."""
    said = LastWords(LAST_LINES)
    for line in output.decode(errors="replace").splitlines():
        said.add(line)
    return " | ".join(said.lines())
