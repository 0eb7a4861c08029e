"""Real hub, monitor and worker processes whose engine counts its runs, and a client whose every event is at hand."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.incidents.scene import BRISK, ENGINE, Scene, make_job
from tests.support.incidents.scene import scene as empty_scene
from wakestream.adapters.cli.demo.processes import command_line
from wakestream.adapters.client.client import Client
from wakestream.adapters.client.hub_query import ask_hub
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.operators.model import events as e
from wakestream.operators.model.events import Job, JobEvent
from wakestream.streams.protocol import messages as m

BACKOFF = replace(BRISK.again, initial=0.1)
EAGER = replace(BRISK, poll_every=0.1, health_every=0.1, again=BACKOFF)
WITHIN = 100.0
"""Seconds within which a job of these tests must have come to its end."""


class House(Scene):
    """In the present folder. The engine's runs are in `engine.log`."""

    def worker(self, *, boot: float, render: float, leashed: bool = True) -> list[str]:
        """As in every scene, with the engine that counts."""
        command = super().worker(boot=boot, render=render, leashed=leashed)
        log, hold = (str(Path(name).absolute()) for name in ("engine.log", "engine.log.hold"))
        engine = [sys.executable, str(ENGINE), "--seconds", f"{render:g}", "--log", log, "--hold", hold]
        command[command.index("--command") + 1] = command_line([*engine, "{video}", "{audio}", "{output}"])
        return command

    async def hub_says(self) -> m.HubStatus:
        """What the hub answers to the client that asks how its GPUs are."""
        key = Secret(Path("client.key").read_text())
        return await ask_hub(Settings(hub_url=self.hub_url, key=key))

    def runs(self, word: str = "begin") -> list[int]:
        """The process ids of the engine's runs that began, or that came to their end."""
        log = Path("engine.log")
        lines = log.read_text().split("\n")[:-1] if log.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith(word)]


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    """At its end all programs are ended."""
    async with empty_scene() as scene:
        yield House(scene._stack)


class Run:
    """One job of a client, its events so far, and what the hub says to all meanwhile."""

    def __init__(self, client: Client, job: Job) -> None:
        self.client, self.job = client, job
        self.events: list[JobEvent] = []
        self.said: list[m.Message] = []
        self._watchers: list[Callable[[JobEvent], None]] = []
        client.link.events.subscribe(lambda event: self.said.append(event) if isinstance(event, m.Message) else None)

    def once(self, happens: Callable[[JobEvent], bool], do: Callable[[], Any]) -> asyncio.Event:
        """At the first event that is so, `do` in the same moment."""
        done = asyncio.Event()

        def watch(event: JobEvent) -> None:
            if not done.is_set() and happens(event):
                done.set()
                do()

        self._watchers.append(watch)
        return done

    def start(self) -> asyncio.Future[JobEvent]:
        """Run the job."""
        return self.client.start(self.job, self._show)

    async def outcome(self) -> JobEvent:
        """Run it to its end."""
        async with asyncio.timeout(WITHIN):
            return await self.start()

    def _show(self, event: JobEvent) -> None:
        self.events.append(event)
        for watch in tuple(self._watchers):
            watch(event)

    def all(self, kind: type[JobEvent]) -> list[Any]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


async def comes_to(seen: asyncio.Event, running: asyncio.Future[JobEvent]) -> None:
    """Returns when that was seen; a job that ends without it is a failure at once, and says how it ended."""
    waiting = asyncio.ensure_future(seen.wait())
    async with asyncio.timeout(WITHIN):
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    assert seen.is_set(), f"it never came to that: {running.result()}"


def is_a(kind: type[JobEvent], **fields: Any) -> Callable[[JobEvent], bool]:
    """Events of this kind, with these fields at least so large."""

    def look(event: JobEvent) -> bool:
        return isinstance(event, kind) and all(getattr(event, name) >= least for name, least in fields.items())

    return look


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is no mere remains of one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc").exists()


async def died(pid: int) -> None:
    """Returns when the process is gone."""
    async with asyncio.timeout(WITHIN):
        while alive(pid):
            await a_moment()


async def a_moment() -> None:
    """Between two looks at a process that says nothing of itself, which needs the processor more than we do."""
    await asyncio.to_thread(time.sleep, 0.01)


__all__ = ["EAGER", "WITHIN", "House", "Run", "a_moment", "alive", "comes_to", "died", "e", "house", "is_a", "make_job"]
