"""All four programs on this machine: each a real process, each with a key of its own, on free loopback ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from wakestream.adapters.licenses import LicenseBook
from wakestream.adapters.power.programs import own_group
from wakestream.adapters.settings import USER_FOLDER, Secret, Settings
from wakestream.operators.errors import WakestreamError

GPU = "demo-gpu"
START_WITHIN = 20.0
"""Seconds that a program has to say where it listens."""

STOP_WITHIN = 10.0
"""Seconds that a program has to end once its standard input closes; then it is killed."""

Say = Callable[[str, str], None]
"""Shows one line of a program: its name, the line."""


class DemoBroken(WakestreamError):
    """One of the demo's programs did not start."""

    code = "demo"


@dataclass(frozen=True, slots=True)
class House:
    """The running programs, as a client needs them."""

    settings: Settings
    idle_after: float


@asynccontextmanager
async def house(
    folder: Path, say: Say, *, boot_seconds: float, idle_after: float, record: Path | None = None
) -> AsyncIterator[House]:
    """Hub and monitor run for as long as the block does; the worker is off until a job wakes it."""
    keys = _issue_keys(folder)
    secret = secrets.token_urlsafe(24)
    worker_url = f"http://127.0.0.1:{_free_port()}"
    ours = {"HEYGEM_API_SECRET": secret, "WAKESTREAM_KEY": "", USER_FOLDER: str(folder), "PYTHONUNBUFFERED": "1"}
    program = _Programs(say, os.environ | ours)
    try:
        keep = () if record is None else ("--record", str(record.resolve()))
        listen = ("--listen", "127.0.0.1:0", "--state", str(folder / "hub"), *keep)
        hub = await program.start("hub", listen, listens=True)
        worker = _worker_command(folder, keys["worker"], hub, worker_url, boot_seconds)
        await program.start("monitor", (*_monitor(keys["monitor"], hub, worker_url, worker, idle_after), *keep))
        key = Secret(keys["client"].read_text("ascii").strip())
        yield House(
            Settings(hub_url=hub, worker_url=worker_url, api_secret=Secret(secret), key=key, record=record), idle_after
        )
    finally:
        await program.stop()


def _issue_keys(folder: Path) -> Mapping[str, Path]:
    book = LicenseBook(folder / "hub")
    files = {}
    for role in ("client", "worker", "monitor"):
        files[role] = folder / f"{role}.key"
        files[role].touch(mode=0o600)
        files[role].write_text(book.issue(role, "demo", time.time())[1], "ascii")
    return files


def _worker_command(folder: Path, key: Path, hub: str, url: str, boot_seconds: float) -> str:
    arguments = (
        *_wakestream("worker"), "--listen", url.removeprefix("http://"), "--state", str(folder / "worker"),
        "--hub", hub, "--key-file", str(key), "--gpu", GPU, "--public-url", url, "--engine", "ffmpeg",
        "--warm-up", f"{boot_seconds:g}", "--exit-with-stdin",
    )  # fmt: skip
    return command_line(arguments)


def _monitor(key: Path, hub: str, url: str, worker: str, idle_after: float) -> Sequence[str]:
    return (
        "--hub", hub, "--key-file", str(key), "--gpu", GPU, "--power", "process", "--program", worker,
        "--worker-url", url, "--idle-after", f"{idle_after:g}",
    )  # fmt: skip


def command_line(arguments: Sequence[str]) -> str:
    """Arguments as one setting; JSON on Windows, where a backslash is part of a path."""
    import json

    return json.dumps(list(arguments)) if os.name == "nt" else shlex.join(arguments)


def _wakestream(command: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "wakestream.adapters.cli", command)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Programs:
    """Child processes that end when their standard input closes, so that none outlives this one, however it ends."""

    def __init__(self, say: Say, environment: Mapping[str, str]) -> None:
        self._say, self._environment = say, environment
        self._running: list[tuple[str, asyncio.subprocess.Process, list[asyncio.Task[None]]]] = []

    async def start(self, name: str, arguments: Sequence[str], *, listens: bool = False) -> str:
        """Start one program; returns the address that it says it listens on, if it does."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *_wakestream(name), *arguments, "--exit-with-stdin",
            stdin=pipe, stdout=pipe, stderr=pipe, env=dict(self._environment), **own_group(),
        )  # fmt: skip
        lines = [asyncio.create_task(self._show(name, process.stderr))]
        self._running.append((name, process, lines))
        address = await self._address(name, process) if listens else ""
        lines.append(asyncio.create_task(self._show(name, process.stdout)))
        return address

    async def _address(self, name: str, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None  # noqa: S101 - it is a pipe, for the type checker
        try:
            async with asyncio.timeout(START_WITHIN):
                line = (await process.stdout.readline()).decode(errors="replace").strip()
        except TimeoutError:
            line = ""
        _, found, address = line.partition(" listening on ")
        if not found:
            raise DemoBroken(f"the {name} did not start; its last lines stand above")
        return address

    async def _show(self, name: str, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (line := await stream.readline()):
            self._say(name, line.decode(errors="replace").rstrip())

    async def stop(self) -> None:
        """End all, the last started first, and wait until each is gone."""
        for _, process, lines in reversed(self._running):
            await _end(process)
            await asyncio.gather(*lines)
        self._running.clear()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_WITHIN):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
