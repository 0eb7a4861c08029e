"""The power provider `command`: three command lines of the user, run without a shell, each with a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from subprocess import Popen
from tempfile import TemporaryFile, gettempdir
from typing import IO, get_args

import msgspec

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power.config import CannotList, Machine, PowerConfig
from wakestream.adapters.runtime.child_processes import exit_code, kill_and_wait, last_lines, start_in_thread
from wakestream.adapters.runtime.tasks import finish_despite_cancel
from wakestream.operators.model.errors import NoCapacity, PowerError
from wakestream.operators.model.ports import PowerState, Reading

NO_CAPACITY = 75
"""Exit code (EX_TEMPFAIL) of a start command if no machine is available at present."""

KEPT = 4096
"""Bytes of a command's output that are read."""

MAX_OUTPUT = 16 * 1024**2
"""The most bytes that a command may print, since its output is stored on the disk."""

_WORDS: Mapping[str, PowerState] = {
    **{word: word for word in get_args(PowerState)},
    # the `State` words of CompShare / UCloud that differ
    **dict.fromkeys(("initializing", "rebooting", "resizing"), "starting"),
    "install": "failed",  # Install Fail
}


class _Printed(msgspec.Struct, frozen=True):
    """The JSON that an inspect command may print."""

    state: str
    address: str | None = None
    since: float | None = None
    detail: str = ""
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class _Ended:
    code: int
    output: bytes
    errors: bytes


def create(config: PowerConfig) -> CommandPower:
    """Make the provider of `--power command`."""
    config.known("command")
    start, stop, inspect = (config.commands.get(name) for name in ("start", "stop", "inspect"))
    if start is None or stop is None or inspect is None:
        raise SettingsError("--power command needs --start CMD, --stop CMD and --inspect CMD")
    # A little less than the call's limit, so that CommandPower, which knows the command's name, ends it.
    return CommandPower(start, stop, inspect, timeout=0.95 * config.timeout)


class CommandPower:
    """Switches a machine by running commands.

    Args:
        start: Starts the machine. The machine is running only when `inspect` says so.
        stop: Stops the machine.
        inspect: Prints the state as its first word, such as running or stopped, or as JSON.
        timeout: Seconds after which a command is killed.

    Example:
        >>> power = CommandPower(["./start"], ["./stop"], ["./state"])
    """

    def __init__(
        self, start: Sequence[str], stop: Sequence[str], inspect: Sequence[str], *, timeout: float = 60.0
    ) -> None:
        self._start, self._stop, self._inspect = tuple(start), tuple(stop), tuple(inspect)
        self._timeout = timeout

    async def start(self) -> None:
        """Run the start command.

        Raises:
            NoCapacity: Its exit code is 75.
            PowerError: Its exit code is another one than 0; the text has its last output.
        """
        ended = await self._run(self._start)
        if ended.code == NO_CAPACITY:
            words = last_lines(ended.errors or ended.output)
            raise NoCapacity(f"no capacity: {words or 'the start command exited with code 75'}")
        _check(self._start, ended)

    async def stop(self) -> None:
        """Run the stop command. `PowerError`: its exit code is not 0."""
        _check(self._stop, await self._run(self._stop))

    async def inspect(self) -> Reading:
        """Run the inspect command and read the state.

        It prints the state as its first word, or a JSON object with `state`, and perhaps `address`, `since` (UNIX
        seconds), `gpus` and `detail`.

        Raises:
            PowerError: It failed, or the state is unknown.
        """
        ended = await self._run(self._inspect)
        _check(self._inspect, ended)
        said = f"{_name(self._inspect)} printed: {last_lines(ended.output)}"
        text = ended.output.decode(errors="replace").strip()
        try:
            return _from_json(text, said) if text.startswith("{") else Reading(_state(text), detail=said)
        except ValueError as error:
            raise PowerError(f"{_name(self._inspect)}: {error}") from None

    async def machines(self) -> Sequence[Machine]:
        """Raises `CannotList`: there is no command for it."""
        raise CannotList("--power command has no command that lists machines; use the tool of your provider")

    async def close(self) -> None:
        """Do nothing: the machine stays as it is."""

    async def _run(self, argv: Sequence[str]) -> _Ended:
        # Files, not pipes: a program that a start command leaves running keeps a pipe open, and must not be killed.
        with _scratch() as output, _scratch() as errors:
            code = await self._code(argv, output, errors)
            output.seek(0)
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - KEPT))
            return _Ended(code, output.read(KEPT), errors.read(KEPT))

    async def _code(self, argv: Sequence[str], output: IO[bytes], errors: IO[bytes]) -> int:
        began: list[Popen[bytes]] = []
        try:
            await finish_despite_cancel(
                asyncio.to_thread(lambda: began.append(start_in_thread(argv, stdout=output, stderr=errors)))
            )
            async with asyncio.timeout(self._timeout):
                return await exit_code(began[0], lambda: _check_size(argv, output, errors))
        except TimeoutError:
            raise PowerError(f"{_name(argv)}: did not end within {self._timeout:g} s") from None
        except (OSError, ValueError) as error:
            raise PowerError(f"cannot start {argv[0]!r}: {error}; give the full path of the program") from None
        finally:
            for process in began:
                if process.returncode is None:
                    await kill_and_wait(process)


def _scratch() -> IO[bytes]:
    """A file for the output of a command; in memory if the disk is full, since a machine must be stopped then too."""
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        file = stack.enter_context(TemporaryFile(buffering=0))
        if file.write(bytes(KEPT)) == KEPT:
            file.seek(0)
            file.truncate()
            stack.pop_all()
            return file
    if not hasattr(os, "memfd_create"):
        raise PowerError(f"no space left in {gettempdir()} for the output of a command; free some space")
    return os.fdopen(os.memfd_create("wakestream"), "w+b", buffering=0)


def _check_size(argv: Sequence[str], *files: IO[bytes]) -> None:
    if sum(os.fstat(file.fileno()).st_size for file in files) > MAX_OUTPUT:
        raise PowerError(f"{_name(argv)}: stopped, it printed more than {MAX_OUTPUT // 1024**2} MiB")


def _check(argv: Sequence[str], ended: _Ended) -> None:
    if ended.code:
        words = last_lines(ended.errors or ended.output)
        raise PowerError(f"{_name(argv)}: exit code {ended.code}: {words or 'no output'}")


def _state(text: str) -> PowerState:
    words = text.split()
    state = _WORDS.get(words[0].lower()) if words else None
    if state is None:
        said = f"it printed {words[0][:40]!r}" if words else "it printed nothing"
        raise ValueError(
            f"{said}; the first word must be running, stopped, starting, stopping, terminated, no_capacity or failed"
        )
    return state


def _from_json(text: str, said: str) -> Reading:
    try:
        printed = msgspec.json.decode(text, type=_Printed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f'this JSON cannot be read: {error}; write for example {{"state": "running"}}') from None
    return Reading(_state(printed.state), printed.address, printed.since, printed.detail or said, printed.gpus)


def _name(argv: Sequence[str]) -> str:
    return PurePath(argv[0]).name
