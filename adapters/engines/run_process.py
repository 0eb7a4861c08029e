"""Run one program to its end: yield its lines, quote its last output if it fails, and leave nothing running."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from loguru import logger

from wakestream.adapters.runtime.child_processes import KILL_WITHIN, LastWords, LineSplitter, kill, start
from wakestream.adapters.runtime.tasks import background, finish_despite_cancel, tasks_of_block
from wakestream.operators.model.errors import TaskFailed

# Restrict an engine's process: no network, no new privileges, limited memory and processor time.
#
# This uses programs of the system: bubblewrap, or `unshare` and `setpriv` of util-linux, and `prlimit`. If one of
# them is missing or not permitted (as in many containers), its restriction does not apply, and `missing` says so.

OPEN_FILES = 4096
"""Files that an engine may have open."""

_TRY_WITHIN = 10.0
_BUBBLEWRAP = ("bwrap", "--dev-bind", "/", "/", "--unshare-net", "--die-with-parent", "--")
_UNSHARE = ("unshare", "--net", "--")
_UNSHARE_AS_USER = ("unshare", "--net", "--map-current-user", "--")
_NO_PRIVILEGES = ("setpriv", "--no-new-privs", "--")


@dataclass(frozen=True, slots=True)
class Box:
    """The limits of each run of an engine.

    Args:
        network: Whether it may use the network.
        memory: Bytes of address space (`RLIMIT_AS`); None for no limit, since CUDA reserves more than there is.
        seconds: Seconds of processor time for each core (`RLIMIT_CPU`); None for no limit.
    """

    network: bool = True
    memory: int | None = None
    seconds: float | None = None

    def around(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` with these restrictions."""
        restrictions = () if self.network else _no_network()
        privileges = _NO_PRIVILEGES if _runs((*_NO_PRIVILEGES, "true")) else ()
        return [*restrictions, *self._limits(), *privileges, *argv]

    def missing(self) -> str | None:
        """The restriction that does not apply on this system, and what would help; None if all apply."""
        if sys.platform != "linux":
            return "this system cannot block the network for engines; run only engines that you trust"
        if not self.network and not _no_network():
            return "engines can reach the network; install bubblewrap, or allow user namespaces, to prevent that"
        return None

    def _limits(self) -> list[str]:
        if not _runs(("prlimit", "--nofile=64", "--", "true")):
            return []
        limits = ["prlimit", "--core=0", f"--nofile={OPEN_FILES}"]
        if self.memory is not None:
            limits.append(f"--as={self.memory}")
        if self.seconds is not None:
            limits.append(f"--cpu={int(self.seconds * (os.cpu_count() or 1)) + 1}")
        return [*limits, "--"]


def _no_network() -> tuple[str, ...]:
    return next((command for command in (_BUBBLEWRAP, _UNSHARE, _UNSHARE_AS_USER) if _runs((*command, "true"))), ())


@cache
def _runs(argv: tuple[str, ...]) -> bool:
    if os.name != "posix" or shutil.which(argv[0]) is None:
        return False
    try:
        ended = subprocess.run(argv, capture_output=True, timeout=_TRY_WITHIN, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return ended.returncode == 0


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container that we run in; 4 GiB where the system does not say."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 4 * 1024**3
    try:
        return min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):
        return physical


T = TypeVar("T")

MAX_LINE = 2000
"""The most characters of a line; the rest is dropped."""

_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")  # memory addresses in the output of ffmpeg are no use to a reader
_KILLED = (-9, 137)
"""Codes of a program that got SIGKILL, itself or below the program that restricts it."""

_READ = 16 * 1024
_OUTPUT_WITHIN = 2.0
_LOOK_EVERY = 0.02
_TREE = ("taskkill", "/F", "/T", "/PID")
"""The Windows command that ends a program and its children."""

_GATE = () if sys.platform == "win32" else ("/bin/sh", "-c", 'read -r _ && exec "$@" </dev/null', "sh")
"""Starts a program when it has read a line."""


class Deadline:
    """The time limit of all programs of one task: `limit` seconds from now."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.at = asyncio.get_running_loop().time() + limit


async def run_program(
    argv: Sequence[str],
    *,
    limit: float | Deadline,
    merge: bool = False,
    box: Box | None = None,
    cwd: Path | None = None,
) -> AsyncGenerator[str, None]:
    """Run a program without a shell and yield the lines of its output.

    Closing the generator kills the program and waits for its end. Child processes that the program leaves running are
    killed.

    Args:
        argv: The program and its arguments.
        limit: The most seconds, or a `Deadline` that several programs share.
        merge: Whether to yield the lines of standard error too.
        box: Restrictions of the program.
        cwd: The folder that it runs in; by default that of the worker.

    Raises:
        TaskFailed: It cannot be started, has an exit code other than 0, or takes longer than `limit`.
    """
    deadline = limit if isinstance(limit, Deadline) else Deadline(limit)
    process = await _start(argv, STDOUT if merge else PIPE, box, cwd)
    killing = background("the start of a process that kills the program", _start_killer(process))
    said = LastWords()
    over = background("the wait for the program", _over(process))
    complaints = background("the program's errors", _collect(process.stderr, said))
    output = _Lines(process.stdout)
    try:
        while (lines := await _before(deadline, _result_before(over, output.more()))) is not None:
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
        await finish_despite_cancel(_end_both(process, killing))


async def _start(argv: Sequence[str], stderr: int, box: Box | None, cwd: Path | None) -> Process:
    if shutil.which(argv[0]) is None:  # the programs around it would report this less clearly
        raise TaskFailed(f"cannot start {argv[0]!r}: install it, make it executable, or give its full path")
    try:
        # A process group of its own: on POSIX, killing it also kills the children, and a Ctrl-C for this worker does
        # not reach it, which would make the task fail.
        command = (*_GATE, *(box.around(argv) if box else argv))
        return await start(command, stdin=PIPE if _GATE else DEVNULL, stderr=stderr, cwd=cwd)
    except (OSError, ValueError) as error:
        raise TaskFailed(f"cannot start {argv[0]!r} ({error}): install it, or give its full path") from error


async def _before(deadline: Deadline, what: Awaitable[T]) -> T:
    # The timeout is around each wait and not around the generator, since a timeout must not span a yield.
    try:
        async with asyncio.timeout_at(deadline.at):
            return await what
    except TimeoutError:
        raise TaskFailed(f"stopped: it ran longer than the limit of {deadline.limit:g} s") from None


class _Lines:
    """The lines of a stream. Unlike readline, a long line is not an error."""

    def __init__(self, stream: asyncio.StreamReader | None) -> None:
        self._stream = stream
        self._splitter = LineSplitter(MAX_LINE)

    async def more(self) -> list[str] | None:
        """The next lines; None at the end."""
        # Reading a stream that always has more never waits: without this pause, it would block the event loop.
        await asyncio.sleep(0)
        data = await self._stream.read(_READ) if self._stream else b""
        lines = self._splitter.take(data)
        return lines if data or lines != [""] else None


async def _collect(stream: asyncio.StreamReader | None, said: LastWords) -> None:
    lines = _Lines(stream)
    while (more := await lines.more()) is not None:
        for line in more:
            said.add(line)


async def _over(process: Process) -> None:
    """Return some time after the program has ended, since a process that it left running may keep its output open."""
    await _code(process)
    await asyncio.sleep(_OUTPUT_WITHIN)


async def _code(process: Process) -> int:
    # Not process.wait(), which also waits for the end of the output.
    while process.returncode is None:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(_LOOK_EVERY)
    return process.returncode


async def _result_before(over: asyncio.Task[None], what: Coroutine[None, None, T]) -> T | None:
    """The result of `what`, or None if `over` ends first."""
    async with tasks_of_block() as start:
        task = start(what)
        await asyncio.wait((task, over), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None


async def _start_killer(process: Process) -> Process | None:
    """Start a process that kills the program and its children when this worker ends, even by kill -9.

    The program waits for it at the gate, and ends there if this worker is killed before.
    """
    killer = None
    try:
        killer = await start(_watching(process.pid), stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL)
    except OSError as error:
        logger.warning("if this worker is killed, its program may keep running: {}", error)
    if process.stdin is not None:
        process.stdin.write(b"\n")
        process.stdin.close()
    return killer


def _watching(pid: int) -> tuple[str, ...]:
    if sys.platform == "win32":
        kill = f"subprocess.call({[*_TREE, str(pid)]}) and os.kill({pid}, 9)"
        return (sys.executable, "-I", "-S", "-c", f"import os, subprocess, sys; sys.stdin.read(); {kill}")
    return ("/bin/sh", "-c", f"read -r _; kill -KILL -{pid}")


def _reason(program: str, code: int, said: LastWords) -> str:
    name = os.path.basename(program)  # noqa: PTH119 - a name in argv, not a path
    quoted = _ADDRESS.sub("", said.text()) or "no output"
    if code in _KILLED:
        return f"{name} was killed (code {code}), for example because this machine ran out of memory: {quoted}"
    return f"{name} ended with code {code}: {quoted}"


async def _end_both(process: Process, killing: asyncio.Task[Process | None]) -> None:
    if process.returncode is None:
        await _end_children(process.pid)
    await _end(process)
    killer = await killing
    if killer is not None:
        await _end(killer)


async def _end(process: Process) -> None:
    kill(process)
    try:
        async with asyncio.timeout(KILL_WITHIN):
            await _code(process)
    except TimeoutError:
        logger.warning("process {} does not end although it was killed", process.pid)
    # This closes pipes that an escaped child process keeps open.
    process._transport.close()  # type: ignore[attr-defined]
    await asyncio.sleep(0)


if sys.platform == "win32":

    async def _end_children(pid: int) -> None:
        """Windows cannot kill a group, and a program's children are known only while it runs."""
        try:
            ending = await start((*_TREE, str(pid)), stdout=DEVNULL, stderr=DEVNULL)
            async with asyncio.timeout(KILL_WITHIN):
                await ending.wait()
        except (OSError, TimeoutError) as error:
            logger.warning("children of process {} may keep running: {}", pid, error)
else:

    async def _end_children(_: int) -> None:
        """They are killed with the program's group."""
