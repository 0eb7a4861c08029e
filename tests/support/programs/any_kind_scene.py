"""A hub, a worker whose engine has several kinds, and clients, over sockets and files."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.engines.pair import QuietEngine
from tests.support.programs.our_peers import SECRET, Place, gpu_online
from wakestream.adapters.client.client import Client, open_client
from wakestream.adapters.config import settings
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import RunningWorker, running_worker
from wakestream.operators.model import events as e
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Preview, Slot, Work
from wakestream.operators.model.errors import TaskFailed
from wakestream.operators.model.policy import Policy
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build
from wakestream.streams.protocol.kinds import output_ext

KINDS = (
    Kind(
        "join",
        (Slot("first"), Slot("second", required=False)),
        (Slot("whole", (".bin",)), Slot("log", (".txt",), required=False)),
        {"properties": {"times": {"type": "integer", "minimum": 1, "maximum": 9, "default": 1}}},
    ),
    Kind("reverse", (Slot("first"),), (Slot("whole", (".bin",)),)),
)
CUT = Kind(
    "cut",
    (Slot("files", many=True),),
    (Slot("parts", (".bin",), many=True), Slot("mask", required=False)),
    {"properties": {"parts": {"type": "integer", "default": 12}}},
)


class Joining(QuietEngine):
    """Joins its inputs, `times` times."""

    def __init__(self) -> None:
        self.kinds: Sequence[Kind] = KINDS
        self.works: list[Work] = []
        self.failing = 0
        self.began, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()
        self.previews: asyncio.Queue[Preview | None] = asyncio.Queue()
        self.previews.put_nowait(None)

    def shows(self) -> asyncio.Queue[Preview | None]:
        """Show the previews of this queue before each work goes on; None is the end of them."""
        self.previews = asyncio.Queue()
        return self.previews

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made | Preview, None]:
        self.works.append(work)
        self.began.set()
        yield Frame(1, 2, 50.0)
        while (preview := await self.previews.get()) is not None:
            yield preview
        self.previews.put_nowait(None)
        await self.go_on.wait()
        if len(self.works) == self.failing:
            raise TaskFailed("this work fails")
        if work.kind == "cut":
            for number in range(1, work.params["parts"] + 1):
                path = work.folder / f"part{number}.bin"
                path.write_bytes(b"%d of %d files" % (number, len(work.files("files"))))
                yield Made("parts", path, number)
            return
        whole = b"".join(path.read_bytes() for path in work.inputs.values()) * work.params.get("times", 1)
        main = next(kind for kind in self.kinds if kind.name == work.kind).outputs[0]
        path = work.folder / f"{main.name}{output_ext(main)}"
        path.write_bytes(whole[::-1] if work.kind == "reverse" else whole)
        yield Made(main.name, path)
        (work.folder / "log.txt").write_text(f"{work.kind} of {', '.join(work.inputs)}")
        yield Made("log", work.folder / "log.txt")


class Scene:
    """A hub, a worker and a client, and the user's files."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder, self.place, self.engine = folder, place, Joining()
        self.events: dict[str, list[e.JobEvent]] = {}

    @asynccontextmanager
    async def worker(
        self, gpu: str = "gpu", engine: Engine | None = None, labels: Mapping[str, str] | None = None
    ) -> AsyncIterator[RunningWorker]:
        folder = self.folder / ("worker" if engine is None else f"worker-{gpu}")
        config = WorkerConfig(folder, engine or self.engine, SECRET, port=0, gpu=gpu, key=self.place.keys["worker"])
        config = replace(config, labels=labels or {})
        async with running_worker(config, lambda register: Link(self.place.hub_url, register)) as worker:
            yield worker

    @asynccontextmanager
    async def gpu(self) -> AsyncIterator[HubServer]:
        """A hub whose worker is online."""
        async with self.place.hub() as hub, self.worker():
            await gpu_online(hub)
            yield hub

    @asynccontextmanager
    async def client(self, record: Path | None = None, build: Build = job_pipeline) -> AsyncIterator[Client]:
        flags = {} if record is None else {"record": str(record)}
        found = settings.load(flags, environment=self.place.client_settings(), folder=self.folder)
        async with open_client(found, Policy(hub=10.0, poll_every=0.01), build) as client:
            yield client

    def file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def job(self, name: str, *, kind: str = "join", outputs: Sequence[str] = ("whole", "log"), **params: Any) -> e.Job:
        inputs = {"first": self.file("a.bin", b"a" * 5000), "second": self.file("b.bin", b"b" * 3000)}
        if kind == "reverse":
            del inputs["second"]
        suffix = {"whole": ".bin", "log": ".txt"}
        return e.Job(name, inputs, {out: self.folder / f"{name}.{out}{suffix[out]}" for out in outputs}, kind, params)

    async def run(self, client: Client, job: e.Job) -> e.Outcome:
        return await client.run(job, self.events.setdefault(job.id, []).append)

    def of(self, job: str, kind: type) -> list[Any]:
        return [event for event in self.events[job] if isinstance(event, kind)]
