"""One program run to its end: its lines as they come, its last words when it fails, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Sequence
from typing import TypeVar

from loguru import logger

from wakestream.adapters.engines.box import Box
from wakestream.adapters.runtime.child_processes import environment, own_group
from wakestream.adapters.runtime.executables import startable
from wakestream.adapters.runtime.last_words import LastWords
from wakestream.adapters.runtime.tasks import finish_despite_cancel
from wakestream.operators.model.errors import TaskFailed

T = TypeVar("T")

LAST_WORDS = 8
"""Lines of the program's own output that a failure quotes."""

MAX_LINE = 2000
"""Characters of a line that are kept; a longer one is cut."""

_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")  # where a part of ffmpeg lies in memory helps nobody
_READ = 16 * 1024
_LAST_BREATH = 5.0
_LAST_WORD = 2.0
_LOOK_EVERY = 0.02
_TREE = ("taskkill", "/F", "/T", "/PID")
"""How Windows ends a program and what that has started."""


class Deadline:
    """Until when all programs of one task have to end: `limit` seconds from now."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.at = asyncio.get_running_loop().time() + limit


async def run_program(
    argv: Sequence[str], *, limit: float | Deadline, merge: bool = False, box: Box | None = None
) -> AsyncGenerator[str, None]:
    """Start `argv` without a shell and yield the lines of its standard output (`merge`: and error), as they come.

    Ends when the program ended well. `TaskFailed` when it cannot be started, ends with another code than 0 (with its
    last words), or takes longer than `limit` (seconds, or what is left of a `Deadline`). `box` says what it may not do.
    Closing the generator kills the program and waits for its end. What the program leaves running is killed with it,
    and never waited for.
    """
    deadline = limit if isinstance(limit, Deadline) else Deadline(limit)
    process = await _start(argv, STDOUT if merge else PIPE, box)
    leashing = asyncio.create_task(_leash(process))
    said = LastWords(LAST_WORDS)
    over = asyncio.create_task(_over(process))
    complaints = asyncio.create_task(_collect(process.stderr, said))
    output = _Lines(process.stdout)
    try:
        while (lines := await _before(deadline, _unless(over, output.more()))) is not None:
            for line in lines:
                if merge:
                    said.add(line)
                yield line
        await _before(deadline, asyncio.wait((complaints, over), return_when=asyncio.FIRST_COMPLETED))
        code = process.returncode if over.done() else await _before(deadline, process.wait())
        if code:
            raise TaskFailed(_reason(argv[0], code, said))
    finally:
        over.cancel()
        complaints.cancel()
        await finish_despite_cancel(_end_both(process, leashing))


async def _start(argv: Sequence[str], stderr: int, box: Box | None) -> Process:
    given = startable(argv)
    if box is not None:
        if shutil.which(given[0]) is None:  # what builds the box would say so in words of its own
            raise TaskFailed(f"cannot start {argv[0]!r}: install it, or give its full path")
        given = tuple(box.around(given))
    try:
        # A group of its own: on POSIX its children are killed by it, and a Ctrl-C for this worker does not reach it,
        # which would make its task fail.
        return await asyncio.create_subprocess_exec(
            *given,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=stderr,
            env=environment(),
            **own_group(),
        )
    except (OSError, ValueError) as error:
        raise TaskFailed(f"cannot start {argv[0]!r} ({error}): install it, or give its full path") from error


async def _before(deadline: Deadline, what: Awaitable[T]) -> T:
    # The time limit stands around each wait, not around the generator: a timeout must not span a yield.
    try:
        async with asyncio.timeout_at(deadline.at):
            return await what
    except TimeoutError:
        raise TaskFailed(f"stopped: it ran longer than the limit of {deadline.limit:g} s") from None


class _Lines:
    """Lines ended by any of CR and LF (progress bars use CR alone), however long: unlike readline, never an error."""

    def __init__(self, stream: asyncio.StreamReader | None) -> None:
        self._stream = stream
        self._rest = ""

    async def more(self) -> list[str] | None:
        """What has come, None at the end."""
        # A stream that always has more never waits: without a pause, a program that floods would stop everything else.
        await asyncio.sleep(0)
        data = await self._stream.read(_READ) if self._stream else b""
        *whole, rest = re.split(r"[\r\n]+", self._rest + data.decode(errors="replace"))
        self._rest = rest[:MAX_LINE] if data else ""
        lines = [line[:MAX_LINE] for line in whole]
        return lines if data else [rest] if rest else None


async def _collect(stream: asyncio.StreamReader | None, said: LastWords) -> None:
    lines = _Lines(stream)
    while (more := await lines.more()) is not None:
        for line in more:
            said.add(line)


async def _over(process: Process) -> None:
    """Returns some time after the program ended: what it left running may hold its output open for ever."""
    await _code(process)
    await asyncio.sleep(_LAST_WORD)


async def _code(process: Process) -> int:
    # Not process.wait(), which also waits for the end of the output.
    while process.returncode is None:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(_LOOK_EVERY)
    return process.returncode


async def _unless(over: asyncio.Task[None], what: Coroutine[None, None, T]) -> T | None:
    """The outcome of `what`, or None if `over` comes first."""
    task = asyncio.ensure_future(what)
    try:
        await asyncio.wait((task, over), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()


async def _leash(process: Process) -> Process | None:
    """What kills the program and its children when this worker is gone, even by kill -9: its input then ends."""
    try:
        return await asyncio.create_subprocess_exec(
            *_watching(process.pid), stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, env=environment(), **own_group()
        )
    except OSError as error:
        logger.warning("a program could outlive this worker: {}", error)
        return None


def _watching(pid: int) -> tuple[str, ...]:
    if sys.platform == "win32":
        kill = f"subprocess.call({[*_TREE, str(pid)]}) and os.kill({pid}, 9)"
        return (sys.executable, "-I", "-S", "-c", f"import os, subprocess, sys; sys.stdin.read(); {kill}")
    return ("/bin/sh", "-c", f"read -r _; kill -KILL -{pid}")


def _reason(program: str, code: int, said: LastWords) -> str:
    name = os.path.basename(program)  # noqa: PTH119 - a name in argv, not a path of ours
    words = " | ".join(_ADDRESS.sub("", line) for line in said.lines())
    return f"{name} ended with code {code}: {words or 'it gave no reason'}"


async def _end_both(process: Process, leashing: asyncio.Task[Process | None]) -> None:
    if process.returncode is None:
        await _end_children(process.pid)
    await _end(process)
    leash = await leashing
    if leash is not None:
        await _end(leash)


async def _end(process: Process) -> None:
    _kill(process)
    try:
        async with asyncio.timeout(_LAST_BREATH):
            await _code(process)
    except TimeoutError:
        logger.warning("process {} does not end although it was killed", process.pid)
    # Only so are pipes let go of that a child which got away holds open.
    process._transport.close()  # type: ignore[attr-defined]
    await asyncio.sleep(0)


if sys.platform == "win32":

    async def _end_children(pid: int) -> None:
        """No group can be killed; and only while the program runs can its children be told from others."""
        try:
            ending = await asyncio.create_subprocess_exec(
                *_TREE, str(pid), stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, env=environment()
            )
            async with asyncio.timeout(_LAST_BREATH):
                await ending.wait()
        except (OSError, TimeoutError) as error:
            logger.warning("what process {} has started may outlive it: {}", pid, error)
else:

    async def _end_children(_: int) -> None:
        """They are killed with the program's group."""


def _kill(process: Process) -> None:
    """End it and, on POSIX, what it left running; nothing happens when there is nothing left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
