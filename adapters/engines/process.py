"""One program run to its end: its lines as they come, its last words when it fails, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import TypeVar

from loguru import logger

from wakestream.operators.errors import TaskFailed

T = TypeVar("T")

LAST_WORDS = 8
"""Lines of the program's own output that a failure quotes."""

MAX_LINE = 2000
"""Characters of a line that are kept; a longer one is cut."""

_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")  # where a part of ffmpeg lies in memory helps nobody
_READ = 64 * 1024
_LAST_BREATH = 5.0


async def run_program(argv: Sequence[str], *, limit: float, merge: bool = False) -> AsyncGenerator[str, None]:
    """Start `argv` without a shell and yield the lines of its standard output (`merge`: and error), as they come.

    Ends when the program ended well. `TaskFailed` when it cannot be started, ends with another code than 0 (with its
    last words), or takes longer than `limit` seconds. Closing the generator kills the program and waits for its end.
    """
    deadline = asyncio.get_running_loop().time() + limit
    process = await _start(argv, STDOUT if merge else PIPE)
    said: deque[str] = deque(maxlen=LAST_WORDS)
    complaints = asyncio.create_task(_collect(process.stderr, said))
    lines = _lines(process.stdout)
    try:
        while (line := await _before(deadline, limit, anext(lines, None))) is not None:
            if merge and line.strip():
                said.append(line.strip())
            yield line
        await _before(deadline, limit, complaints)
        code = await _before(deadline, limit, process.wait())
        if code:
            raise TaskFailed(_reason(argv[0], code, said))
    finally:
        complaints.cancel()
        await _end(process)
        await lines.aclose()


async def _start(argv: Sequence[str], stderr: int) -> Process:
    try:
        # A session of its own, so that the program's children are killed with it; Windows has no such thing to kill.
        return await asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL, stdout=PIPE, stderr=stderr, start_new_session=sys.platform != "win32"
        )
    except (OSError, ValueError) as error:
        raise TaskFailed(f"cannot start {argv[0]!r} ({error}): install it, or give its full path") from error


async def _before(deadline: float, limit: float, what: Awaitable[T]) -> T:
    # The time limit stands around each wait, not around the generator: a timeout must not span a yield.
    try:
        async with asyncio.timeout_at(deadline):
            return await what
    except TimeoutError:
        raise TaskFailed(f"stopped: it ran longer than the limit of {limit:g} s") from None


async def _lines(stream: asyncio.StreamReader | None) -> AsyncGenerator[str, None]:
    """Lines ended by any of CR and LF (progress bars use CR alone), however long: unlike readline, never an error."""
    rest = ""
    while stream and (data := await stream.read(_READ)):
        *whole, rest = re.split(r"[\r\n]+", rest + data.decode(errors="replace"))
        for line in whole:
            yield line[:MAX_LINE]
        rest = rest[:MAX_LINE]
    if rest:
        yield rest


async def _collect(stream: asyncio.StreamReader | None, said: deque[str]) -> None:
    async for line in _lines(stream):
        if line.strip():
            said.append(line.strip())


def _reason(program: str, code: int, said: deque[str]) -> str:
    name = os.path.basename(program)  # noqa: PTH119 - a name in argv, not a path of ours
    words = " | ".join(_ADDRESS.sub("", line) for line in said)
    return f"{name} ended with code {code}: {words or 'it said nothing'}"


async def _end(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            _kill(process)
    try:
        async with asyncio.timeout(_LAST_BREATH):
            await process.wait()
    except TimeoutError:
        logger.warning("process {} does not end although it was killed", process.pid)


def _kill(process: Process) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
