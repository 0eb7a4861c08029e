"""Hub, monitor, worker and daemon as processes, each of this tree or of a release, and replaced while jobs run.

The machine with the worker is a child of the test: the monitor switches it by the three commands of `--power command`,
so it stays on while the monitor is replaced.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.support.ports import free_port
from tests.support.programs.client_scene import QUICK, Running, User, clean_environment
from tests.support.programs.state_folders import put
from wakestream.adapters.disk.documents import Documents
from wakestream.adapters.hub.licenses import LicenseBook

ROOT = Path(__file__).parents[3]
ENGINE = ROOT / "tests" / "support" / "engines" / "engine.py"
PROGRAMS = ("hub", "monitor", "worker", "daemon")

OURS = Path(sys.executable)
"""The interpreter with the programs of this tree."""

RELEASE = os.environ.get("WAKESTREAM_RELEASED", "c41e66c")
"""The commit of the release beside which our programs work; version 0.1.0."""

RELEASED = ROOT / ".venv" / "released" / RELEASE / "bin" / "python"
"""The interpreter with the programs of that release."""

NOT_HERE = f"the programs of {RELEASE} are not here: run `make released` in a clone with its history"
WITHIN = 100.0


class House:
    """The four programs in `folder`. `pythons` names the interpreter that each runs with when it starts next.

    With a `front` among them, the others connect to it.
    """

    def __init__(self, folder: Path, pythons: Mapping[str, Path], documents: Documents | None = None) -> None:
        self.folder, self.pythons = folder, dict(pythons)
        self.hold = folder / "hold"
        self.words = 1000
        """The length of the files of a job."""
        self.running: dict[str, Process] = {}
        self.user = User(_made(folder / "user"))
        self._ports = {name: free_port() for name in ("hub", "worker", "front")}
        self._secret = {"HEYGEM_API_SECRET": "swordfish-0123456789"}
        self._switching = asyncio.Lock()
        book = LicenseBook(documents or folder / "hub")
        fronts = ("front",) if "front" in pythons else ()  # an earlier hub does not know the role
        for role in ("client", "worker", "monitor", *fronts):
            key = folder / f"{role}.key"
            key.touch(mode=0o600)
            key.write_text(book.issue(role, "", time.time())[1])
        self._asked, self._state = folder / "asked", folder / "power"
        os.mkfifo(self._asked)
        self._state.write_text("stopped\n")

    def _words(self, name: str) -> tuple[str, ...]:
        hub, worker, front = (f"127.0.0.1:{port}" for port in self._ports.values())
        state = ("--state", str(self.folder / name))
        if name == "hub":
            return ("hub", "--listen", hub, *state)
        if name == "front":
            key = ("--key-file", str(self.folder / "front.key"))
            return ("hub", "--listen", front, "--front", f"http://127.0.0.1:9,http://{hub}", *key)
        if "front" in self.pythons:
            hub = front
        if name == "monitor":
            asks = [shlex.join(("sh", "-c", f"echo {word} > {self._asked}")) for word in ("start", "stop")]
            power = ("--power", "command", "--start", asks[0], "--stop", asks[1], "--inspect", f"cat {self._state}")
            return ("monitor", *self._at(hub, "monitor"), *state, *power, "--worker-url", f"http://{worker}")
        if name.startswith("daemon"):
            return ("daemon", *self._at(hub, "client"), *state, *QUICK)
        engine = (sys.executable, "-S", "-E", str(ENGINE), "--log", str(self.folder / "engine.log"))
        command = shlex.join((*engine, "--hold", str(self.hold), "{video}", "{audio}", "{output}"))
        at = ("--listen", worker, "--public-url", f"http://{worker}", "--gpu", "gpu")
        return ("worker", *self._at(hub, "worker"), *state, *at, "--engine", "command", "--command", command)

    def _at(self, hub: str, role: str) -> tuple[str, ...]:
        return ("--hub", f"http://{hub}", "--key-file", str(self.folder / f"{role}.key"))

    async def _spawn(self, name: str) -> Process:
        with (self.folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                self.pythons[name], "-m", "wakestream.adapters.cli", *self._words(name), "--log-level", "DEBUG",
                stdin=DEVNULL, stdout=PIPE, stderr=log, cwd=self.folder,
                env=clean_environment() | (self._secret if name == "worker" else {}),
            )  # fmt: skip

    async def start(self, name: str) -> None:
        """Start a program; all but the monitor print a line once they listen."""
        self.running[name] = process = await self._spawn(name)
        assert process.stdout is not None
        async with asyncio.timeout(WITHIN):
            line = await process.stdout.readline() if name != "monitor" else b"-"
        assert line, f"the {name} ended: {self.log(name)}"

    async def refuses(self, name: str) -> str:
        """Start a program that ends by itself; returns the last line of its log."""
        async with asyncio.timeout(WITHIN):
            assert await (await self._spawn(name)).wait() != 0
        return self.log(name).splitlines()[-1]

    @property
    def names(self) -> dict[str, str]:
        """What of this house is in its state folders, by placeholder."""
        at = {f"@{name}@": f"127.0.0.1:{port}" for name, port in self._ports.items()}
        return {"@folder@": str(self.folder), **at}

    async def kill(self, name: str) -> None:
        """End it as a power cut does."""
        process = self.running.pop(name)
        process.kill()
        await process.wait()

    async def stop(self, name: str) -> None:
        """Stop it as a service manager does."""
        process = self.running.pop(name, None)
        if process is not None and process.returncode is None:
            process.terminate()
            async with asyncio.timeout(WITHIN):
                await process.wait()

    async def replace(self, name: str, python: Path) -> None:
        """Run this program with another interpreter from now on; a worker whose machine is off starts later."""
        async with self._switching:
            self.pythons[name] = python
            on = name in self.running
            await self.stop(name)
            if on:
                await self.start(name)

    def log(self, name: str) -> str:
        """What the program has logged."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[House]:
        """The programs run, but the machine is off; at the end of the block none is left."""
        asked = os.open(self._asked, os.O_RDWR | os.O_NONBLOCK)
        words: asyncio.Queue[str] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        loop.add_reader(asked, lambda: [words.put_nowait(word) for word in os.read(asked, 4096).decode().split()])
        machine = asyncio.create_task(self._machine(words))
        try:
            for name in ("hub", "front"):
                if name in self.pythons:
                    await self.start(name)
            await asyncio.gather(self.start("monitor"), self.start("daemon"))
            yield self
        finally:
            loop.remove_reader(asked)
            os.close(asked)
            machine.cancel()
            await asyncio.gather(machine, return_exceptions=True)
            for process in self.running.values():
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    async def _machine(self, words: asyncio.Queue[str]) -> None:
        while True:
            word = await words.get()
            async with self._switching:
                if word == "start" and "worker" not in self.running:
                    await self.start("worker")
                elif word == "stop":
                    await self.stop("worker")
            self._state.write_text("running\n" if word == "start" else "stopped\n")

    @asynccontextmanager
    async def submitted(self, job: str, daemon: str = "daemon") -> AsyncIterator[Running]:
        """`wakestream submit` of a daemon's version, while it follows a job of two new files."""
        folder = self.files_of(job)
        files = [folder / "clip.mp4", folder / "speech.wav"]
        words = ("submit", *map(str, files), "-o", str(folder / "out.mp4"), "--json", "--job-id", job)
        async with self._command(daemon, words) as running:
            yield running

    async def ends(self, job: str) -> str:
        """Wait for the end of a job that the daemon knows; see `outcome`."""
        async with self._command("daemon", ("watch", job, "--json")) as running:
            return await self.outcome(job, running)

    @asynccontextmanager
    async def _command(self, daemon: str, words: tuple[str, ...]) -> AsyncIterator[Running]:
        process = await asyncio.create_subprocess_exec(
            self.pythons[daemon], "-m", "wakestream.adapters.cli", *words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
            cwd=self.folder, env=clean_environment() | {"WAKESTREAM_DAEMON": str(self.folder / daemon)},
        )  # fmt: skip
        try:
            yield Running(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def files_of(self, job: str) -> Path:
        """Make the files of a job; returns their folder."""
        folder = _made(self.user.folder / job)
        for name in ("clip.mp4", "speech.wav"):
            (folder / name).write_text(f"{job} {name} " * self.words)
            os.utime(folder / name, (1.7e9, 1.7e9))  # the daemon's state has it
        return folder

    def take_over(self, state: Mapping[str, Any]) -> None:
        """Put `tests/data/states/VERSION.json` into the folders; `state["jobs"]` have not ended."""
        for name in PROGRAMS:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            put(state[name], self.folder / name, self.names)
        put(state["keys"], self.folder, {})
        self.words = state["words"]
        for job in state["jobs"]:
            self.files_of(job)

    async def outcome(self, job: str, running: Running) -> str:
        """How the job ended: `done` only with its own result, else with the reason."""
        ran = await running.ended()
        last: dict[str, Any] = orjson.loads(ran.out.splitlines()[-1]) if ran.out else {"event": ran.err}
        folder = self.user.folder / job
        if last["event"] != "done":
            return f"{last['event']}: {last.get('why')}"
        right = (folder / "clip.mp4").read_bytes() + (folder / "speech.wav").read_bytes()
        return "done" if (folder / "out.mp4").read_bytes() == right else "wrong result"

    async def runs(self, job: str) -> str:
        """Submit a job and follow it to its end; see `outcome`."""
        async with self.submitted(job) as running:
            return await self.outcome(job, running)

    def put_back(self, name: str) -> None:
        """Put the copies of a program's journals, which a later version made, in the place of these."""
        copies = [*(self.folder / name).glob("*.v1-backup")]
        assert copies, f"the {name} has no copy: {[*(self.folder / name).iterdir()]}"
        for copy in copies:
            journal = copy.with_suffix("")
            for log in ("-wal", "-shm"):
                journal.with_name(journal.name + log).unlink(missing_ok=True)
            copy.replace(journal)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
