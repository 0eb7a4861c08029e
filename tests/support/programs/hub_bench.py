"""A worker's queue joined to a hub, by a link and a clock that the test holds in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

from tests.support.engines.pair import PairEngine
from tests.support.programs.queue_bench import QueueBench
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.net.capability_keys import Verifier
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker.http.progress_socket import ProgressListeners
from wakestream.adapters.worker.http.server import WorkerCalls
from wakestream.adapters.worker.http.transfers import Transfers
from wakestream.adapters.worker.hub_session import WorkerHub
from wakestream.adapters.worker.resumable_uploads import Uploads
from wakestream.operators.model.engine import Frame
from wakestream.operators.model.errors import TaskFailed
from wakestream.operators.model.events import FileRef
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.jobs.keyed_subject import KeyedSubject
from wakestream.streams.protocol import messages as m
from wakestream.streams.worker import state as w

VIDEO, AUDIO = FileRef("a" * 32, ".mp4"), FileRef("b" * 64, ".wav")
PAYLOAD = {"video_hash": VIDEO.hash, "video_ext": ".mp4", "audio_hash": AUDIO.hash, "audio_ext": ".wav"}


class HandLink:
    """A link that is up or down as the test says, and remembers what was sent."""

    def __init__(self) -> None:
        self.up = False
        self.sent: list[m.Message] = []
        self.changed = asyncio.Event()
        self.on_send: Callable[[m.Message], object] = lambda _: None
        self.events: KeyedSubject[m.Message | LinkUp | LinkDown] = KeyedSubject(self._fault)

    def _fault(self, error: Exception, item: object) -> None:
        raise error

    def send(self, message: m.Message) -> bool:
        if self.up:
            self.sent.append(message)
            self.changed.set()
            self.on_send(message)
        return self.up

    def connect(self, *features: str) -> None:
        self.up = True
        self.events.feed(LinkUp(frozenset(features or ("grant",))))

    def connect_to_a_deployed_hub(self) -> None:
        self.up = True
        self.events.feed(LinkUp())

    def disconnect(self) -> None:
        self.up = False
        self.events.feed(LinkDown("gone"))

    def of(self, kind: type[m.Message]) -> list[Any]:
        return [message for message in self.sent if isinstance(message, kind)]


class HandTimer:
    """`call_later` whose time passes only when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None], HandHandle]] = []

    def __call__(self, delay: float, callback: Callable[[], None]) -> HandHandle:
        handle = HandHandle()
        self.waiting.append((delay, callback, handle))
        return handle

    def fire(self) -> list[float]:
        due, self.waiting = [entry for entry in self.waiting if not entry[2].cancelled], []
        for _, callback, _ in due:
            callback()
        return [delay for delay, _, _ in due]


class HandHandle:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class GatedEngine(PairEngine):
    """Renders when the gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.fail = False
        self.runs = 0

    async def joined(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
        self.runs += 1
        yield Frame(1, 2, 50.0)
        await self.gate.wait()
        if self.fail:
            raise TaskFailed("no sound")
        output.write_bytes(b"film")


class HubBench(QueueBench):
    """A ready queue joined to a hub.

    Args:
        root: The worker's folder.
        journal: That of an earlier run.
    """

    def __init__(self, root: Path, journal: FakeJournal[w.Kept] | None = None) -> None:
        self.link, self.timer, self.engine = HandLink(), HandTimer(), GatedEngine()
        super().__init__(root, self.engine, journal)
        self.link.changed = self.changed
        self.verifier = Verifier("gpu-7")
        self.transfers, self.listeners = Transfers(), ProgressListeners(lambda: 1000.5)
        self.session = HttpWorkers(idle=20.0)
        self.calls = WorkerCalls(
            self.store, self.queue, Uploads(self.store, self.queue), "gpu-7", self.verifier,
            transfers=self.transfers, listeners=self.listeners,
        )  # fmt: skip
        self.hub = WorkerHub(self.link, self.calls, url="http://gpu:8383", later=self.timer, session=self.session)

    def files(self) -> None:
        for ref in (VIDEO, AUDIO):
            self.store.path(ref).write_bytes(b"x")

    def statuses(self) -> list[str]:
        return [task.status for task in self.queue.state.tasks.values()]

    async def close(self) -> None:
        await self.hub.close()
        await self.session.close()
        await super().close()
