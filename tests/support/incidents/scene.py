"""Real hub, monitor and worker processes on loopback, and a client in this one; each of them can be killed."""

import asyncio
import contextlib
import dataclasses
import os
import secrets
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.support.ports import free_port
from wakestream.adapters.cli.demo.processes import command_line
from wakestream.adapters.client.client import Client, open_client
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.operators.model.events import Job, JobEvent
from wakestream.operators.model.policy import Policy

HERE = Path(__file__).parent
ENGINE = HERE.parent / "engines" / "engine.py"
RECORD = Path("record")
KIB = 1024
MIB = 1024 * KIB

BRISK = Policy(
    line_every=1.0,
    health_every=0.2,
    lost=2.0,
    poll_every=0.2,
    again=dataclasses.replace(Policy().again, initial=0.3),
    call=dataclasses.replace(Policy().call, initial=0.2),
)
"""A job's waits, short enough to record with; the header keeps them."""

Happening = Callable[[JobEvent], bool]


class Scene:
    """The programs of one incident, in the present folder. Made by `scene`."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._secret = secrets.token_urlsafe(24)
        self.secrets = [self._secret]
        Path(".env").write_text(f"HEYGEM_API_SECRET={self._secret}\n")  # a provider's command gets none from a monitor
        self._issue(LicenseBook(Path("hub")))
        self.hub_url = ""
        self.hub: Process | None = None
        self.worker_port = free_port()
        self.worker_url = f"http://127.0.0.1:{self.worker_port}"

    def _issue(self, book: LicenseBook) -> None:
        for role in ("client", "worker", "monitor"):
            key = book.issue(role, "incident", time.time())[1]
            self.secrets.append(key)
            Path(f"{role}.key").touch(mode=0o600)
            Path(f"{role}.key").write_text(key)

    @property
    def environment(self) -> Mapping[str, str]:
        """Of every program; the secrets are not in their arguments."""
        ours = {"WAKESTREAM_KEY": "", "PYTHONUNBUFFERED": "1"}
        return {**os.environ, **ours, "PYTHONDONTWRITEBYTECODE": "1"}

    async def start_hub(self) -> None:
        """A hub; after the first one, at the same address and with no memory of it."""
        listen = self.hub_url.removeprefix("ws://").removesuffix("/dsp") or "127.0.0.1:0"
        self.hub = await self._start("hub", "--listen", listen, "--state", "hub", "--record", str(RECORD))
        assert self.hub.stdout is not None
        async with asyncio.timeout(100):
            line = (await self.hub.stdout.readline()).decode()
        self.hub_url = line.split()[-1]

    async def start_hubs(self, journal: str) -> None:
        """A hub that leads, and one on the same database that stands by."""
        from wakestream.adapters.disk.postgres_documents import PostgresDocuments

        self._issue(LicenseBook(PostgresDocuments(journal)))
        ports = [free_port() for _ in range(2)]
        for port in ports:
            here = ("--listen", f"127.0.0.1:{port}", "--state", f"hub-{port}", "--journal", journal)
            hub = await self._start("hub", *here, "--record", str(RECORD), follow=False)
            if self.hub is not None:
                await self._says(hub, b"stands by")
            else:
                assert hub.stdout is not None
                await hub.stdout.readline()
                self._follow(hub)
            self.hub, self.hub_url = self.hub or hub, ",".join(f"ws://127.0.0.1:{port}/dsp" for port in ports)

    async def kill_hub(self) -> None:
        """As a power cut would; of several the one that leads."""
        assert self.hub is not None
        self.hub.kill()
        await self.hub.wait()

    async def start_monitor(self, *power: str, idle_after: float = 60.0) -> None:
        """A monitor with the power provider that `power` names; returns when it is at the hub."""
        monitor = await self._start(
            "monitor", "--hub", self.hub_url, "--key-file", "monitor.key", "--gpu", "gpu-1", "--worker-url",
            f"http://127.0.0.1:{self.worker_port}", "--idle-after", f"{idle_after:g}", *power, "--state", "monitor",
            "--record", str(RECORD),
        )  # fmt: skip
        await self._says(monitor, b"connected to")

    def worker(self, *, boot: float, render: float, leashed: bool = True) -> list[str]:
        """The command of a worker that needs `boot` seconds to warm up and `render` for each task."""
        words = [
            sys.executable,
            str(ENGINE),
            "--seconds",
            f"{render:g}",
            "{video}",
            "{audio}",
            "{output}",
        ]
        return [
            sys.executable, "-m", "wakestream.adapters.cli", "worker", "--listen", f"127.0.0.1:{self.worker_port}",
            "--state", "worker", "--hub", self.hub_url, "--key-file", "worker.key", "--gpu", "gpu-1", "--public-url",
            self.worker_url, "--engine", "command", "--command", command_line(words), "--warm-up", f"{boot:g}",
            *(("--exit-with-stdin",) if leashed else ()),
        ]  # fmt: skip

    async def start_house(
        self, *, boot: float = 1.5, render: float = 0.5, life: str = "once", idle_after: float = 60.0
    ) -> None:
        """Hub and monitor, and a machine (see `machine.py`) that the monitor switches."""
        if self.hub is None:
            await self.start_hub()
        machine = [sys.executable, str(HERE / "machine.py"), "worker.pid", life, *self.worker(boot=boot, render=render)]
        program = ("--power", "process", "--program", command_line(machine))
        await self.start_monitor(*program, idle_after=idle_after)

    def kill_worker(self) -> None:
        """The worker is gone, in the middle of whatever it did."""
        os.kill(int(Path("worker.pid").read_text()), signal.SIGKILL)

    def client(
        self, policy: Policy = BRISK, *, hub_url: str | None = None, record: Path = RECORD
    ) -> AbstractAsyncContextManager[Client]:
        """A recording client in this process."""
        key = Secret(Path("client.key").read_text())
        settings = Settings(hub_url=hub_url or self.hub_url, api_secret=Secret(self._secret), key=key, record=record)
        return open_client(settings, policy)

    async def submit(self, *arguments: str, limit: int | None = None) -> None:
        """A client in a process of its own, all of whose files may have `limit` bytes; it has to come to its end."""
        import resource

        def before() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "wakestream.adapters.cli", "submit", *arguments, "--hub", self.hub_url, "--key-file",
            "client.key", "--record", str(RECORD), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=self.environment,
            preexec_fn=before,
        )  # fmt: skip
        said, _ = await process.communicate()
        if process.returncode:
            raise AssertionError(f"the job ended with {process.returncode}: {said.decode()}")

    async def _start(self, command: str, *arguments: str, follow: bool = True) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "wakestream.adapters.cli", command, *arguments, "--exit-with-stdin",
            stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self.environment, start_new_session=True,
        )  # fmt: skip
        self._stack.push_async_callback(_end, process)
        if command == "hub" and follow:
            self._follow(process)
        return process

    async def _says(self, process: Process, words: bytes) -> None:
        """Returns when a program has said so on its standard error."""
        assert process.stderr is not None
        async with asyncio.timeout(100):
            while words not in (line := await process.stderr.readline()):
                if not line:
                    raise AssertionError(f"it ended before it said {words!r}")
        self._follow(process)

    def _follow(self, process: Process) -> None:
        """Read on, so that the program is not held up."""
        assert process.stderr is not None
        reading = asyncio.create_task(process.stderr.read())
        self._stack.callback(reading.cancel)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """An empty scene; at its end all programs are ended, the last started first."""
    async with AsyncExitStack() as stack:
        yield Scene(stack)


async def run_until(client: Client, job: Job, happening: Happening, then: Callable[[], Awaitable[None]]) -> JobEvent:
    """Run a job; once, when `happening` is true of an event, `then` comes between. Returns the outcome."""
    happened = asyncio.Event()
    running = asyncio.create_task(client.run(job, lambda event: happened.set() if happening(event) else None))
    harm = asyncio.create_task(happened.wait())
    await asyncio.wait((running, harm), return_when=asyncio.FIRST_COMPLETED)
    if not happened.is_set():
        raise AssertionError(f"it never came to that: {await running}")
    await then()
    return await running


def make_file(name: str, size: int) -> Path:
    """A file of random bytes."""
    path = Path(name)
    path.write_bytes(secrets.token_bytes(size))
    return path


def make_job(id_: str, video: int = 2 * KIB, audio: int = KIB) -> Job:
    """A job with files of such sizes."""
    return Job.lipsync(id_, make_file("clip.mp4", video), make_file("speech.wav", audio), Path("out.mp4"))


async def _end(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(15):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
