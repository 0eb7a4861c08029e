"""Child processes on every system: their environment, process groups and signals, and their last output."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from typing import IO, Any

from loguru import logger

from wakestream.adapters.config.setting_files import VARIABLES
from wakestream.streams.protocol.printable import printable


def environment(*removed: str) -> dict[str, str]:
    """Our environment for a child process, without our secrets (or those `removed`), since it may print all of it.

    A Python program prints without a buffer, so that its lines arrive at once.
    """
    hidden = removed or tuple(VARIABLES)
    return {"PYTHONUNBUFFERED": "1"} | {name: value for name, value in os.environ.items() if name not in hidden}


KILL_WITHIN = 5.0
"""Seconds that a killed process may take to end."""

LOOK_EVERY = 0.1
"""Seconds between two looks at a program that a thread started."""


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
        _program(argv), *argv[1:], stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, **own_group()
    )


def start_in_thread(argv: Sequence[str], stdout: IO[bytes], stderr: IO[bytes]) -> Popen[bytes]:
    """As `start`, for a thread: on a busy machine a start takes up to a second, in which an event loop would stand."""
    env = environment()
    return Popen((_program(argv), *argv[1:]), stdin=DEVNULL, stdout=stdout, stderr=stderr, env=env, **own_group())


def _program(argv: Sequence[str]) -> str:
    # On Windows the full path of the program, since the system searches for `.exe` only. This also starts tools that
    # are batch files, such as `az` and `gcloud`, by their names.
    return (shutil.which(argv[0]) if sys.platform == "win32" else None) or argv[0]


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


def kill(process: Process | Popen[bytes]) -> None:
    """Kill the program; on POSIX its whole group. Does nothing when it has ended."""
    if sys.platform == "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            process.kill()
    else:
        _signal_group(process, signal.SIGKILL)


if sys.platform != "win32":

    def _signal_group(process: Process | Popen[bytes], number: signal.Signals) -> None:
        # The group may have ended; macOS answers EPERM for a group that has only zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


async def kill_and_wait(process: Process | Popen[bytes]) -> None:
    """Kill the program and wait for its end; log an error if it does not end."""
    kill(process)
    try:
        async with asyncio.timeout(KILL_WITHIN):
            if isinstance(process, Process):
                await process.wait()
            else:
                await exit_code(process)
    except TimeoutError:
        logger.error("process {} does not end although it was killed", process.pid)


async def exit_code(process: Popen[bytes], look: Callable[[], object] = lambda: None) -> int:
    """Wait for the end of a program that a thread started, and `look` at it meanwhile."""
    pause = 0.01
    while (code := process.poll()) is None:
        look()
        await asyncio.sleep(pause)
        pause = min(2 * pause, LOOK_EVERY)
    return code


def last_lines(output: bytes) -> str:
    """The last informative lines, joined into one."""
    said = LastWords()
    for line in output.decode(errors="replace").splitlines():
        said.add(line)
    return said.text()


class LineSplitter:
    """Cuts output into lines. They end with CR or LF (progress bars use CR alone).

    Args:
        longest: The most characters of a line; the rest is dropped.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._decoder = getincrementaldecoder("utf-8")("replace")  # a read may end within a character
        self._rest = ""

    def take(self, data: bytes) -> list[str]:
        """The lines that end in `data`; with none, at the end, what is left of the output."""
        *lines, rest = re.split(r"[\r\n]+", self._rest + self._decoder.decode(data, final=not data))
        self._rest = rest[: self._longest] if data else ""
        return [line[: self._longest] for line in (lines if data else [rest])]


# The last lines of a program's output, without progress lines: what an error shows.

_PERCENT = re.compile(r"\d\s*%")
_COUNTS = re.compile(r"[^a-zA-Z\u0080-\uffff]+")
LAST_LINES = 8
"""Lines of output that an error quotes."""

SHAPES = 100
"""Forms of progress lines that are remembered."""


class LastWords:
    """Keeps the last `LAST_LINES` lines.

    Of consecutive lines that differ in their numbers only, it keeps the last one; lines with a percentage are not kept.
    """

    def __init__(self) -> None:
        self._lines: deque[tuple[str, str]] = deque(maxlen=LAST_LINES)
        self._progress: dict[str, None] = {}

    def add(self, line: str) -> None:
        """Add a line, cleaned for terminals and web pages; an empty one is ignored."""
        line = printable(line.replace("\t", " ")).strip()
        if not line:
            return
        shape = _COUNTS.sub(" ", line).strip()
        if _PERCENT.search(line) and self._is_progress(shape):
            return
        if self._lines and shape and self._lines[-1][0] == shape:
            self._lines.pop()
        self._lines.append((shape, line))

    def _is_progress(self, shape: str) -> bool:
        """Whether a line with a percentage is a progress line; earlier lines of this form are then removed too."""
        if not shape or shape in self._progress:
            return True
        if any(form == shape for form, line in self._lines if _PERCENT.search(line)):
            self._lines = deque((pair for pair in self._lines if pair[0] != shape), self._lines.maxlen)
            self._progress[shape] = None
            if len(self._progress) > SHAPES:
                del self._progress[next(iter(self._progress))]
            return True
        return False

    def text(self) -> str:
        """The kept lines as one, the oldest first."""
        return " | ".join(line for _, line in self._lines)
