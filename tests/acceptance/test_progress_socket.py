"""The socket on which deployed clients watch a task: `/ws/progress/TASK_ID?token=SECRET`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.support.engines.pair import PairEngine
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.http import auth as callers
from wakestream.adapters.worker.http import progress_socket
from wakestream.adapters.worker.program import RunningWorker, running_worker
from wakestream.operators.model.engine import Frame
from wakestream.operators.model.errors import TaskFailed
from wakestream.operators.model.events import FileRef
from wakestream.streams.worker import state as w

SECRET = "swordfish+%&0123456789"
"""With letters that an address encodes: deployed clients do not."""

VIDEO, AUDIO = FileRef("a" * 32, ".mp4"), FileRef("b" * 32, ".wav")


class StepEngine(PairEngine):
    """Reports a frame whenever the test permits one, and fails on request."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        self.fails = False

    async def joined(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
        while (frame := await self.frames.get()) is not None:
            yield frame
        if self.fails:
            raise TaskFailed("no sound")
        output.write_bytes(b"film")


class Scene:
    def __init__(self, worker: RunningWorker, engine: StepEngine) -> None:
        self.worker, self.engine = worker, engine

    async def task(self) -> w.Task:
        for ref in (VIDEO, AUDIO):
            self.worker.store.path(ref).write_bytes(b"x")
        return await self.worker.queue.ask(w.pair(VIDEO, AUDIO), "hub-job-1")

    def url(self, task_id: str, token: str | None = SECRET) -> str:
        query = "" if token is None else f"?token={token}"
        return f"{self.worker.address.replace('http', 'ws', 1)}/ws/progress/{task_id}{query}"

    async def told(self, task_id: str, token: str | None = SECRET) -> tuple[list[dict[str, Any]], int | None]:
        """All frames of one connection, and the code that closed it."""
        frames = []
        async with asyncio.timeout(100), connect(self.url(task_id, token)) as socket:
            try:
                while True:
                    text = await socket.recv()
                    assert isinstance(text, str)
                    frames.append(orjson.loads(text))
            except ConnectionClosed:
                return frames, socket.close_code

    async def get(self, path: str, **headers: str) -> int:
        url = f"{self.worker.address}{path}"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as reply:
            return reply.status


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Scene, None]:
    monkeypatch.setattr(progress_socket, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(callers, "AGAIN", 3600.0)  # no further try is free while a test lasts
    engine = StepEngine()
    async with running_worker(WorkerConfig(tmp_path, engine, SECRET, port=0)) as worker:
        yield Scene(worker, engine)


async def test_each_change_is_sent_once_and_the_end_closes_with_1000(scene: Scene) -> None:
    task = await scene.task()
    async with connect(scene.url(task.id)) as socket:
        said = [orjson.loads(await socket.recv())]
        for frame in (Frame(1, 8, 12.5), Frame(1, 8, 12.5), Frame(2, 8, 25.0)):
            scene.engine.frames.put_nowait(frame)
        said += [orjson.loads(await socket.recv())]
        while said[-1]["data"]["current_frame"] != 2:
            said += [orjson.loads(await socket.recv())]
        scene.engine.frames.put_nowait(None)
        said += [orjson.loads(await socket.recv())]
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1000
    assert {frame["code"] for frame in said} == {0}
    data = [frame["data"] for frame in said]
    steps = [(one["status"], one["progress"], one["current_frame"]) for one in data]
    assert steps[0] == ("processing", 0, 0)
    assert steps[-2:] == [("synthesizing", 25, 2), ("done", 100, 8)]
    assert len(set(steps)) == len(steps)
    assert {type(one["progress"]) for one in data} == {int}
    assert data[0]["queue"] == {
        "total_tasks": 1, "processing": 1, "queued": 0, "max_concurrent": 1, "running": task.id,
    }  # fmt: skip
    assert (data[0]["error"], data[0]["finished_at"]) == ("", 0)


async def test_a_failed_task_is_told_with_its_reason(scene: Scene) -> None:
    scene.engine.fails = True
    task = await scene.task()
    scene.engine.frames.put_nowait(None)
    frames, code = await scene.told(task.id)
    assert (frames[-1]["data"]["status"], frames[-1]["data"]["error"]) == ("error", "no sound")
    assert (frames[-1]["data"]["progress"], code) == (0, 1000)


async def test_a_done_task_is_reported_in_one_frame(scene: Scene) -> None:
    task = await scene.task()
    scene.engine.frames.put_nowait(None)
    await scene.told(task.id)
    frames, code = await scene.told(task.id)
    assert ([frame["data"]["status"] for frame in frames], code) == (["done"], 1000)


async def test_a_task_is_found_by_the_hubs_request_that_began_it(scene: Scene) -> None:
    task = await scene.task()
    scene.engine.frames.put_nowait(None)
    frames, _ = await scene.told("hub-job-1")
    assert frames[-1]["data"]["task_id"] == task.id
    path = "/api/heygem/download?task_id=hub-job-1"
    assert await scene.get(path, Authorization=SECRET) == 200


async def test_an_unknown_and_a_removed_task_are_reported_in_words(scene: Scene) -> None:
    assert await scene.told("f" * 16) == ([{"code": 404, "msg": "任务 ID 不存在"}], 1000)
    task = await scene.task()
    async with connect(scene.url(task.id)) as socket:
        await socket.recv()
        scene.worker.queue.runner.apply(w.Forgotten(task.id))
        assert orjson.loads(await socket.recv()) == {"code": 404, "msg": "任务已被清理"}
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1000


@pytest.mark.parametrize("token", [None, "", "wrong", "swordfish"])
async def test_a_missing_or_wrong_token_gets_an_error_frame(scene: Scene, token: str | None) -> None:
    task = await scene.task()
    assert await scene.told(task.id, token) == ([{"code": 401, "msg": "鉴权失败"}], 1000)
    assert scene.worker.server.refused == {"unauthorized": 1}


async def test_an_encoded_token_is_accepted(scene: Scene) -> None:
    assert await scene.told("f" * 16, "swordfish%2B%25%260123456789") == (
        [{"code": 404, "msg": "任务 ID 不存在"}],
        1000,
    )


async def test_only_a_wrong_secret_counts_as_a_guess(scene: Scene) -> None:
    for _ in range(callers.TRIES + 1):
        await scene.told("f" * 16)
        await scene.told("f" * 16, None)
        assert await scene.get("/api/heygem/queue") == 401
        assert await scene.get(f"/api/heygem/queue?token={SECRET}") == 401
        assert await scene.get("/api/heygem/queue", Authorization="Bearer ") == 401
    assert await scene.get("/api/heygem/queue", Authorization=f"Bearer {SECRET}") == 200
    for number in range(callers.TRIES):
        await scene.told("f" * 16, f"guess-{number}")
    with pytest.raises(InvalidStatus) as refused:
        await scene.told("f" * 16, "guess")
    assert refused.value.response.status_code == 429
    assert await scene.get("/api/heygem/queue", Authorization=f"Bearer {SECRET}") == 200
    assert (await scene.told("f" * 16, "swordfish%2B%25%260123456789"))[1] == 1000


async def test_the_token_opens_the_socket_alone_and_a_plain_call_there_is_refused(scene: Scene) -> None:
    assert await scene.get(f"/ws/progress/{'f' * 16}?token={SECRET}") == 401
    assert await scene.get(f"/ws/progress/{'f' * 16}", Authorization=f"Bearer {SECRET}") == 400


async def test_a_worker_that_stops_closes_early_and_at_once(tmp_path: Path) -> None:
    engine = StepEngine()
    running = running_worker(WorkerConfig(tmp_path, engine, SECRET, port=0))
    async with asyncio.timeout(100), AsyncExitStack() as stack:
        scene = Scene(await stack.enter_async_context(running), engine)
        task = await scene.task()
        async with connect(scene.url(task.id)) as socket:
            await socket.recv()
            await stack.aclose()
            with pytest.raises(ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1001
