"""A worker's queue joined to a hub, by a link and a clock that the test holds in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from tests.support.engines.pair import PairEngine
from tests.support.programs.queue_bench import QueueBench
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.net.capability_keys import Verifier
from wakestream.adapters.testing.fakes import FakeLink
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.worker.http.progress_socket import ProgressListeners
from wakestream.adapters.worker.http.server import WorkerCalls
from wakestream.adapters.worker.http.transfers import Transfers
from wakestream.adapters.worker.hub_session import WorkerHub
from wakestream.adapters.worker.resumable_uploads import Uploads
from wakestream.operators.model.engine import Frame
from wakestream.operators.model.errors import TaskFailed
from wakestream.operators.model.events import FileRef
from wakestream.streams.protocol import messages as m
from wakestream.streams.worker import state as w

VIDEO, AUDIO = FileRef("a" * 32, ".mp4"), FileRef("b" * 64, ".wav")
PAYLOAD = {"video_hash": VIDEO.hash, "video_ext": ".mp4", "audio_hash": AUDIO.hash, "audio_ext": ".wav"}


class HandLink(FakeLink):
    """The shipped fake, whose hub is one of wakestream unless the test says otherwise. It is `changed` by each send."""

    changed: asyncio.Event
    active_at = 0.0
    on_send: Callable[[m.Message], object] = staticmethod(lambda _: None)

    def send(self, message: m.Message) -> bool:
        sent = super().send(message)
        if sent:
            self.active_at = asyncio.get_running_loop().time() if isinstance(message, m.TaskActive) else self.active_at
            self.changed.set()
            self.on_send(message)
        return sent

    def connect(self, *features: str) -> None:
        super().connect(*(features or ("grant",)))

    def connect_to_a_deployed_hub(self) -> None:
        super().connect()


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
        self.link, self.engine = HandLink(), GatedEngine()
        super().__init__(root, self.engine, journal)
        self.link.changed = self.changed
        self.verifier = Verifier("gpu-7")
        self.transfers, self.listeners = Transfers(), ProgressListeners(lambda: 1000.5)
        self.session = HttpWorkers(idle=20.0)
        self.calls = WorkerCalls(
            self.store, self.queue, Uploads(self.store, self.queue), "gpu-7", self.verifier,
            transfers=self.transfers, listeners=self.listeners,
        )  # fmt: skip
        self.hub = WorkerHub(self.link, self.calls, url="http://gpu:8383", session=self.session)

    def files(self) -> None:
        for ref in (VIDEO, AUDIO):
            self.store.path(ref).write_bytes(b"x")

    def next_activity(self) -> float | None:
        """Send the next activity message now, if there will be one; returns the seconds after the last one."""
        timer = self.hub._next_active
        if timer is None:
            return None
        seconds = round(timer.when() - self.link.active_at)
        self.hub._send_active()
        return seconds

    def statuses(self) -> list[str]:
        return [task.status for task in self.queue.state.tasks.values()]

    async def close(self) -> None:
        await self.hub.close()
        await self.session.close()
        await super().close()
