"""The power provider `command`: three command lines of the user's, run without a shell, each with a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from tempfile import TemporaryFile, gettempdir
from typing import IO

from loguru import logger

from wakestream.adapters.runtime.child_processes import environment, kill, last_lines, own_group
from wakestream.adapters.runtime.executables import startable
from wakestream.operators.model.errors import NoCapacity, PowerError
from wakestream.operators.model.ports import PowerReading

NO_CAPACITY = 75
"""Exit code (EX_TEMPFAIL) by which a start command says that there is no machine to be had at present."""

KEPT = 4096
"""Bytes of a command's output that are read."""

MAX_OUTPUT = 16 * 1024**2
"""Bytes that a command may print; one that floods would fill the disk until its time is up."""

_LAST_BREATH = 5.0
_LOOK_EVERY = 0.1

_WORDS: Mapping[str, PowerReading] = {
    "running": "running",
    "stopped": "stopped",
    "starting": "starting",
    "stopping": "stopping",
    "no_capacity": "no_capacity",
    "failed": "failed",
    "unknown": "unknown",
    # the `State` words of CompShare / UCloud that differ
    "initializing": "starting",
    "rebooting": "starting",
    "resizing": "starting",
    "install": "failed",  # Install Fail
}


@dataclass(frozen=True, slots=True)
class _Ended:
    code: int
    output: bytes
    errors: bytes


class CommandPower:
    """A machine that other programs switch. `inspect` prints a word first, such as running or stopped.

    `timeout` is in seconds, for each command; one that takes longer is killed. Whatever a start command says, the
    machine runs when `inspect` says so.
    """

    def __init__(
        self, start: Sequence[str], stop: Sequence[str], inspect: Sequence[str], *, timeout: float = 60.0
    ) -> None:
        self._start, self._stop, self._inspect = tuple(start), tuple(stop), tuple(inspect)
        self._timeout = timeout
        self._detail = ""

    @property
    def detail(self) -> str:
        """What `inspect` printed."""
        return self._detail

    async def start(self) -> None:
        """Run the start command. Exit code 75 is `NoCapacity`, any other but 0 a `PowerError` with its last words."""
        ended = await self._run(self._start)
        if ended.code == NO_CAPACITY:
            raise NoCapacity(f"no capacity: {last_lines(ended.errors or ended.output) or 'the start command said so'}")
        _check(self._start, ended)

    async def stop(self) -> None:
        """Run the stop command; `PowerError` unless it exits with 0."""
        _check(self._stop, await self._run(self._stop))

    async def inspect(self) -> PowerReading:
        """Run the inspect command and read the first word that it prints."""
        ended = await self._run(self._inspect)
        _check(self._inspect, ended)
        self._detail = f"{_name(self._inspect)} says: {last_lines(ended.output)}"
        words = ended.output.decode(errors="replace").split()
        reading = _WORDS.get(words[0].lower()) if words else None
        if reading is None:
            said = f"it printed {words[0][:40]!r}" if words else "it printed nothing"
            raise PowerError(
                f"{_name(self._inspect)}: {said}; the first word must be running, stopped, starting, stopping, "
                "no_capacity or failed"
            )
        return reading

    async def close(self) -> None:
        """Nothing is open: the machine is not ours, and stays as it is."""

    async def _run(self, argv: Sequence[str]) -> _Ended:
        # Files rather than pipes: what a start command leaves running would hold a pipe open, and must not be killed.
        with _scratch() as output, _scratch() as errors:
            code = await self._code(argv, output, errors)
            return _Ended(code, _head(output), _tail(errors))

    async def _code(self, argv: Sequence[str], output: IO[bytes], errors: IO[bytes]) -> int:
        process = await _begin(argv, output, errors)
        waiting = asyncio.create_task(process.wait())
        try:
            async with asyncio.timeout(self._timeout):
                while not waiting.done():
                    await asyncio.wait((waiting,), timeout=_LOOK_EVERY)
                    _check_size(argv, output, errors)
                return waiting.result()
        except TimeoutError:
            raise PowerError(f"{_name(argv)}: did not end within {self._timeout:g} s") from None
        finally:
            waiting.cancel()
            if process.returncode is None:
                await _kill(process)


def _scratch() -> IO[bytes]:
    """For what a command prints. On a full disk it is in memory: a machine must be switched off then as well."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        file = stack.enter_context(TemporaryFile(buffering=0))
        if file.write(bytes(KEPT)) == KEPT:
            file.seek(0)
            file.truncate()
            stack.pop_all()
            return file
    if not hasattr(os, "memfd_create"):
        raise PowerError(f"no space left in {gettempdir()} for what the command prints; make room")
    return os.fdopen(os.memfd_create("wakestream"), "w+b", buffering=0)


async def _begin(argv: Sequence[str], output: IO[bytes], errors: IO[bytes]) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            *startable(argv), stdin=DEVNULL, stdout=output, stderr=errors, env=environment(), **own_group()
        )
    except (OSError, ValueError) as error:
        raise PowerError(f"cannot start {argv[0]!r}: {error}; give the full path of the program") from None


async def _kill(process: Process) -> None:
    kill(process)
    try:
        async with asyncio.timeout(_LAST_BREATH):
            await process.wait()
    except TimeoutError:
        logger.error("process {} does not end although it was killed", process.pid)


def _check_size(argv: Sequence[str], *files: IO[bytes]) -> None:
    if sum(os.fstat(file.fileno()).st_size for file in files) > MAX_OUTPUT:
        raise PowerError(f"{_name(argv)}: stopped, it printed more than {MAX_OUTPUT // 1024**2} MiB")


def _head(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(KEPT)


def _tail(file: IO[bytes]) -> bytes:
    file.seek(max(0, file.seek(0, os.SEEK_END) - KEPT))
    return file.read(KEPT)


def _check(argv: Sequence[str], ended: _Ended) -> None:
    if ended.code:
        words = last_lines(ended.errors or ended.output)
        raise PowerError(f"{_name(argv)}: exit code {ended.code}: {words or 'it said nothing'}")


def _name(argv: Sequence[str]) -> str:
    return PurePath(argv[0]).name
