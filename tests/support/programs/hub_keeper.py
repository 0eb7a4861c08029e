"""A user who runs a hub that can be started again at the same address."""

import asyncio
import datetime
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.ports import free_port
from tests.support.programs.client_scene import Running, User
from wakestream.adapters.cli.demo.processes import command_line
from wakestream.adapters.client.hub_query import ask_hub
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.net.hub_link import Link
from wakestream.operators.model.ports import LinkUp
from wakestream.streams.protocol import messages as m

_JOIN = """import sys, time
begin = time.time()
time.sleep(float(sys.argv[4]))
inputs = [open(name, "rb").read() for name in sys.argv[1:3]]
open(sys.argv[3], "wb").write(b"".join(inputs))
open(sys.argv[5], "a").write(f"{time.time() - begin}\\n")"""
"""An engine: its result is its two inputs, one after the other. It writes down how many seconds it took."""

_LOGGED = """import signal, subprocess, sys, time
def log(word):
    with open(sys.argv[1], "a") as file:
        print(word, time.time(), file=file)
log("on")
program = subprocess.Popen(sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: program.terminate())
program.wait()
log("off")"""
"""A machine that writes down when it is on and off."""


def zone_of_day() -> tuple[str, int]:
    """A time zone whose midnight is hours away, and the hour of its midnight in UTC."""
    far_from_ten = abs(datetime.datetime.now(datetime.UTC).hour - 10) > 3
    return ("Pacific/Kiritimati", 10) if far_from_ten else ("Asia/Dubai", 20)


class Keeper:
    """A user who runs a hub in a folder, and has a key of each role."""

    def __init__(self, user: User, folder: Path) -> None:
        self.user, self.folder = user, folder
        book = LicenseBook(folder)
        self.keys = {role: book.issue(role, "", time.time())[1] for role in ("client", "worker", "monitor")}
        self.listen = f"127.0.0.1:{free_port()}"
        self.took = folder / "took.txt"

    @asynccontextmanager
    async def hub(self, *more: str) -> AsyncIterator[Running]:
        """The hub, with `more` flags; each time at the same address. A GPU costs 1 per second."""
        flags = ("--listen", self.listen, "--state", str(self.folder), "--price-per-hour", "3600", *more)
        async with self.user.runs("hub", *flags) as running:
            url = await running.address()
            self.user.environment |= {"API_SERVER_URL": url, "WAKESTREAM_KEY": self.keys["client"]}
            yield running

    async def asks(self) -> m.HubStatus:
        """What the hub answers to the client that asks how its GPUs are."""
        return await ask_hub(Settings(hub_url=self.user.environment["API_SERVER_URL"], key=self.keys["client"]))

    async def sees(self, *phases: str) -> None:
        """Returns when the hub says that a GPU is in one of these phases."""
        url, seen = self.user.environment["API_SERVER_URL"], asyncio.Event()
        features = ("power_state", "power_now")
        link = Link(url, lambda: m.Register(key=self.keys["client"], features=features))

        def hear(event: object) -> None:
            if isinstance(event, m.PowerState) and event.state in phases:
                seen.set()

        subscription = link.events.subscribe(hear)
        try:
            async with asyncio.timeout(100):
                await seen.wait()
        finally:
            subscription.dispose()
            await link.close()

    @asynccontextmanager
    async def powers(self, *more: str, log: Path | None = None, works: float = 0.0) -> AsyncIterator[Running]:
        """A monitor whose machine is a worker with an engine that puts its inputs together.

        With `log` the machine writes there when it is on and off. Each job is `works` seconds of work.
        """
        key = self.folder / "worker.key"
        key.write_text(self.keys["worker"])
        joins = (_JOIN, "{video}", "{audio}", "{output}", str(works), str(self.took))
        engine = command_line([sys.executable, "-c", *joins])
        logged = () if log is None else (sys.executable, "-c", _LOGGED, str(log))
        machine = command_line([
            *logged, sys.executable, "-m", "wakestream.adapters.cli", "worker", "--listen", "127.0.0.1:0",
            "--gpu", "studio", "--key-file", str(key), "--state", str(self.folder / "worker"), "--engine", "command",
            "--command", engine, "--exit-with-stdin",
        ])  # fmt: skip
        flags = ("--gpu", "studio", "--power", "process", "--program", machine, *more)
        async with self.user.runs("monitor", *flags, WAKESTREAM_KEY=self.keys["monitor"]) as running:
            yield running

    @asynccontextmanager
    async def peer(self, register: m.Register, *says: m.Message) -> AsyncIterator[Link]:
        """A peer that registers so and sends this; the block begins when the hub has handled all of it."""
        link = Link(self.user.environment["API_SERVER_URL"], lambda: register)
        answered = asyncio.Event()

        def hear(event: object) -> None:
            if isinstance(event, LinkUp):
                for message in (*says, m.Ping()):
                    link.send(message)
            elif isinstance(event, m.Pong):
                answered.set()

        subscription = link.events.subscribe(hear)
        try:
            async with asyncio.timeout(100):
                await answered.wait()
            yield link
        finally:
            subscription.dispose()
            await link.close()

    def worker(self) -> m.Register:
        return m.Register(role="worker", token=self.keys["worker"], gpu="studio", url="http://gpu.example:8383")

    def monitor(self) -> m.Register:
        return m.Register(role="gpu_monitor", token=self.keys["monitor"], gpus=("studio",), features=("power_state",))
