"""All four programs on this machine: each a real process, each with a key of its own, on free loopback ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shlex
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wakestream.adapters.config.settings import USER_FOLDER, Secret, Settings, variables
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.runtime.child_processes import kill_and_wait, own_group
from wakestream.adapters.runtime.tasks import background
from wakestream.operators.model.errors import WakestreamError

GPU = "demo-gpu"
START_WITHIN = 20.0
"""Seconds that a program has to say where it listens."""

STOP_WITHIN = 10.0
"""Seconds that a program has to end once its standard input closes; then it is killed."""

LAST_LINES = 5
"""Lines of a program that are shown when it has ended unasked."""

Say = Callable[[str, str], None]
"""Shows one line of a program: its name, the line."""


class DemoBroken(WakestreamError):
    """One of the demo's programs did not start, or has ended unasked."""

    code = "demo"


@dataclass(frozen=True, slots=True)
class House:
    """The running programs, as a client needs them."""

    settings: Settings
    idle_after: float
    programs: Programs

    async def start_daemon(self, arguments: Sequence[str] = ()) -> None:
        """Start a daemon of these programs, too."""
        key = str(self.programs.folder / "client.key")
        given = ("--hub", self.settings.hub_url or "", "--key-file", key, *arguments)
        await self.programs.start("daemon", given, listens=True)


@asynccontextmanager
async def house(
    folder: Path,
    say: Say,
    *,
    boot_seconds: float,
    idle_after: float,
    record: Path | None = None,
    gpu: str = GPU,
    hub_flags: Sequence[str] = (),
    slots: int = 1,
    depot: bool = False,
) -> AsyncIterator[House]:
    """Hub and monitor run for as long as the block does, with `depot` a depot too. A job wakes the worker.

    They see no settings but these: neither the user's variables nor the files of the current folder. A folder that was
    used before keeps its keys, jobs and ports.
    """
    book = LicenseBook(folder / "hub")
    of_depot = ("depot",) if depot else ()
    keys = {role: folder / f"{role}.key" for role in ("client", "worker", "monitor", *of_depot)}
    for role, path in keys.items():
        _kept(path, lambda: book.issue(role, "demo", time.time())[1])  # noqa: B023 - called at once
    secret = _kept(folder / "worker.secret", lambda: secrets.token_urlsafe(24))
    ports = {name: _port(folder / f"{name}.port") for name in ("hub", "worker", *of_depot)}
    worker_url = f"http://127.0.0.1:{ports['worker']}"
    ours = {"HEYGEM_API_SECRET": secret, "WAKESTREAM_KEY": "", USER_FOLDER: str(folder), "PYTHONUNBUFFERED": "1"}
    inherited = {name: value for name, value in os.environ.items() if name not in variables()}
    program = Programs(say, inherited | ours, folder)
    try:
        keep = () if record is None else ("--record", str(record.resolve()))
        listen = ("--listen", f"127.0.0.1:{ports['hub']}", "--state", str(folder / "hub"), *keep)
        hub = await program.start("hub", (*listen, *hub_flags), listens=True)
        if depot:
            at = ("--listen", f"127.0.0.1:{ports['depot']}", "--state", str(folder / "depot"))
            await program.start("depot", ("run", "--hub", hub, "--key-file", str(keys["depot"]), *at, *keep))
        worker = (
            *_wakestream("worker"), "--listen", worker_url.removeprefix("http://"), "--state", str(folder / "worker"),
            "--hub", hub, "--key-file", str(keys["worker"]), "--gpu", gpu, "--public-url", worker_url,
            "--engine", "ffmpeg", "--warm-up", f"{boot_seconds:g}", "--slots", str(slots), "--exit-with-stdin",
        )  # fmt: skip
        monitor = (
            "--hub", hub, "--key-file", str(keys["monitor"]), "--gpu", gpu, "--power", "process",
            "--program", command_line(worker), "--worker-url", worker_url, "--idle-after", f"{idle_after:g}",
            "--state", str(folder / "monitor"),
        )  # fmt: skip
        await program.start("monitor", (*monitor, *keep))
        for name, port in ports.items():
            write_atomic(folder / f"{name}.port", str(port).encode("ascii"))
        key = Secret(keys["client"].read_text("ascii").strip())
        settings = Settings(hub_url=hub, worker_url=worker_url, api_secret=Secret(secret), key=key, record=record)
        yield House(settings, idle_after, program)
    finally:
        await program.stop()


def _kept(path: Path, make: Callable[[], str]) -> str:
    """The text of a file that only this account can read; made and written if it is not there."""
    if not path.exists():
        write_atomic(path, make().encode("ascii"))
    return path.read_text("ascii")


def command_line(arguments: Sequence[str]) -> str:
    """Arguments as one setting; JSON on Windows, where a backslash is part of a path."""
    return json.dumps(list(arguments)) if os.name == "nt" else shlex.join(arguments)


def _wakestream(command: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "wakestream.adapters.cli", command)


def _port(kept: Path) -> int:
    """The port of the last run, if it is free, else another one: bookmarks and other terminals know it."""
    with contextlib.suppress(OSError, ValueError):
        return _free_port(int(kept.read_text("ascii")))
    return _free_port(0)


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: closed connections linger
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class _Child:
    """One program, its last lines, and who reads and watches it."""

    name: str
    process: asyncio.subprocess.Process
    said: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def broken(self) -> DemoBroken:
        code = self.process.returncode
        ended = f"has ended ({'signal' if code and code < 0 else 'code'} {abs(code or 0)})"
        how = "did not start" if code is None else ended
        said = "\n  ".join(self.said) or "(none)"
        return DemoBroken(f"the {self.name} {how}; its last lines:\n  {said}")


class Programs:
    """Child processes that end when their standard input closes, so that none outlives this one, however it ends."""

    def __init__(self, say: Say, environment: Mapping[str, str], folder: Path) -> None:
        self._say, self._environment, self.folder = say, environment, folder
        self._running: list[_Child] = []
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, name: str, arguments: Sequence[str], *, listens: bool = False) -> str:
        """Start one program; returns the address that it says it listens on, if it does."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *_wakestream(name), *arguments, "--exit-with-stdin",
            stdin=pipe, stdout=pipe, stderr=pipe, env=dict(self._environment), cwd=self.folder, **own_group(),
        )  # fmt: skip
        child = _Child(name, process)
        child.tasks.append(background(f"the output of the {name}", self._show(child, process.stderr)))
        self._running.append(child)
        address = await self._address(child) if listens else ""
        child.tasks.append(background(f"the output of the {name}", self._show(child, process.stdout)))
        child.tasks.append(background(f"the watch of the {name}", self._watch(child, child.tasks[:])))
        return address

    async def _address(self, child: _Child) -> str:
        assert child.process.stdout is not None  # noqa: S101 - it is a pipe, for the type checker
        line = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_WITHIN):
                line = (await child.process.stdout.readline()).decode(errors="replace").strip()
                if not line:  # it has ended
                    await asyncio.gather(child.process.wait(), *child.tasks)
        _, separator, address = line.partition(" listening on ")
        if not separator:
            raise child.broken()
        return address

    async def _show(self, child: _Child, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (raw := await stream.readline()):
            line = raw.decode(errors="replace").rstrip()
            child.said.append(line)
            self._say(child.name, line)

    async def _watch(self, child: _Child, reading: Sequence[asyncio.Task[None]]) -> None:
        await asyncio.gather(child.process.wait(), *reading)
        if not self.broken.done():
            self.broken.set_exception(child.broken())
            self.broken.exception()  # retrieved: not everybody waits for it

    async def stop(self) -> None:
        """End all, the last started first, and wait until each is gone."""
        self.broken.cancel()
        for child in reversed(self._running):
            await _end(child.process)
            await asyncio.gather(*child.tasks)
        self._running.clear()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_WITHIN):
            await process.wait()
    except TimeoutError:
        await kill_and_wait(process)
