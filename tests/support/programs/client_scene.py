"""`wakestream submit` as a user runs it: a process in a folder of its own, and what it printed, event by event."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from wakestream.adapters.config.settings import Settings

WITHIN = 100.0
"""Seconds within which every command of these tests must have ended."""

QUICK = ("--poll-every", "0.05", "--health-every", "0.05")


UNPROBED = {"WAKESTREAM_PROBE": "false"}
"""Most files of the tests only look like media."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """Its JSON lines; every line must be one."""
        return [orjson.loads(line) for line in self.out.splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        """The outcome."""
        return self.events[-1]

    def says(self, *words: str, code: int = 0) -> Self:
        """Assert that it ended with this code and said these words, on standard error where it failed."""
        said = self.err if self.code else self.out
        assert (self.code, [word for word in words if word not in said]) == (code, []), self
        assert "Traceback" not in self.err, self
        return self

    def refuses(self, *words: str) -> Self:
        """As `says`, with the code of any failure."""
        assert self.code, self
        return self.says(*words, code=self.code)

    def all(self, kind: str) -> list[dict[str, Any]]:
        """All events of one kind."""
        return [event for event in self.events if event["event"] == kind]


class Running:
    """A command that runs. Its JSON events are read as they are waited for."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[bytes] = []
        self._err = asyncio.create_task(self._read_err())

    @property
    def pid(self) -> int:
        return self.process.pid

    async def _read_err(self) -> bytes:
        assert self.process.stderr is not None
        return await self.process.stderr.read()

    async def address(self) -> str:
        """Where a server says that it listens, in its first line."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WITHIN):
            return (await self.process.stdout.readline()).decode().split()[-1]

    async def event(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """The next event of this kind with these fields."""
        async with asyncio.timeout(WITHIN):
            while True:
                event = await self._next()
                if event["event"] == kind and wanted.items() <= event.items():
                    return event

    async def _next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            seen = b"".join(self.lines[-5:]).decode()
            raise AssertionError(f"it ended before that event:\n{seen}{(await self._err).decode()}")
        self.lines.append(line)
        return dict(orjson.loads(line))

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def close_output(self) -> None:
        """Close the reading end of its standard output."""
        assert self.process.stdout is not None
        self.process.stdout._transport.close()  # type: ignore[attr-defined]

    async def ended(self) -> Ran:
        """Wait for its end."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WITHIN):
            rest = await self.process.stdout.read()
            code = await self.process.wait()
            err = await self._err
        return Ran(code, (b"".join(self.lines) + rest).decode(), err.decode())


class User:
    """A user with two files in a folder, and the settings to reach a hub."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = environment
        self.prefix: tuple[str, ...] = ()
        self.video, self.audio, self.out = folder / "clip.mp4", folder / "speech.wav", folder / "out.mp4"
        self.video.write_bytes(b"video" * 1000)
        self.audio.write_bytes(b"audio" * 500)

    def command(self, *arguments: str) -> list[str]:
        """Arguments of a submit whose events come as JSON lines."""
        return ["submit", "clip.mp4", "speech.wav", "-o", "out.mp4", "--overwrite", "--json", *QUICK, *arguments]

    @asynccontextmanager
    async def runs(self, *command: str, **environment: str) -> AsyncIterator[Running]:
        """The command while it runs; killed if it still does at the end of the block."""
        process = await asyncio.create_subprocess_exec(
            *self.prefix, sys.executable, "-m", "wakestream.adapters.cli", *command,
            stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, cwd=self.folder, limit=2**20,
            env=self.surroundings() | environment,
        )  # fmt: skip
        try:
            yield Running(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            process._transport.close()  # type: ignore[attr-defined] # also the ends of its pipes, which may hold more

    def surroundings(self) -> dict[str, str]:
        """The environment of the user's commands."""
        data = {"XDG_DATA_HOME": str(self.folder.parent / "data")}  # the one of the user is that of all tests
        return {**clean_environment(), **data, **self._no_daemon(), **self._secret(), **self.environment}

    def _no_daemon(self) -> dict[str, str]:
        """A folder without a daemon, so that the daemon of the user who runs the tests is not used."""
        return {"WAKESTREAM_DAEMON": str(self.folder.parent / "daemon")}

    def _secret(self) -> dict[str, str]:
        """Some secret, which `submit` asks for; none where the test wrote its own into `.env`."""
        own = self.folder / ".env"
        told = own.exists() and b"HEYGEM_API_SECRET" in own.read_bytes()
        return {} if told else {"HEYGEM_API_SECRET": "some-secret-0123456789"}

    def at_home(self, found: Settings) -> None:
        """Give the user the settings of a demo's programs."""
        self.environment |= {
            "API_SERVER_URL": str(found.hub_url), "WAKESTREAM_KEY": str(found.key),
            "HEYGEM_API_SECRET": str(found.api_secret),
        }  # fmt: skip

    async def run(self, *command: str, **environment: str) -> Ran:
        """The command, to its end."""
        async with self.runs(*command, **environment) as running:
            return await running.ended()

    async def does(self, *command: str, **environment: str) -> Ran:
        """The command, to its end, which is a success."""
        ran = await self.run(*command, **environment)
        assert ran.code == 0, (command, ran)
        return ran

    async def submit(self, *arguments: str, **environment: str) -> Ran:
        """A submit, to its end."""
        return await self.run(*self.command(*arguments), **environment)

    def submits(self, *arguments: str, **environment: str) -> Any:
        """A submit while it runs."""
        return self.runs(*self.command(*arguments), **environment)

    def left(self) -> set[str]:
        """What lies in the folder beside the two inputs and the settings."""
        return {path.name for path in self.folder.iterdir()} - {self.video.name, self.audio.name, ".env", ".license"}


def clean_environment() -> Mapping[str, str] | Any:
    """This process's environment without our settings, except that files need not be media."""
    ours = ("WAKESTREAM_", "HEYGEM_", "API_SERVER_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | UNPROBED
