"""Our worker at the deployed hub, and beside deployed clients there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from our_peers import SECRET, Joining
from websockets.asyncio.client import connect

from tests.support.field.desktop import DesktopLimits, FieldDesktop
from tests.support.field.frames import dsp
from tests.support.field.hub import FieldHub, field_hub
from wakestream.adapters.http import progress_socket
from wakestream.adapters.websocket.link import open_link
from wakestream.adapters.worker_program import RunningWorker, WorkerConfig, running_worker

KEY = "an old license key"


class Client:
    """A client of the hub that takes frames as they come."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    async def say(self, **frame: Any) -> None:
        await self._socket.send(orjson.dumps(frame).decode())

    async def first(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while True:
                frame: dict[str, Any] = orjson.loads(await self._socket.recv())
                if frame.get("type") == kind:
                    return frame


@asynccontextmanager
async def client(hub: FieldHub) -> AsyncIterator[Client]:
    async with connect(dsp(hub.url), ping_interval=None) as socket:
        one = Client(socket)
        await one.say(type="register", key=KEY)
        await one.first("registered")
        yield one


@asynccontextmanager
async def at_hub(folder: Path, hub: FieldHub, engine: Joining | None = None) -> AsyncGenerator[RunningWorker, None]:
    config = WorkerConfig(folder / "worker", engine or Joining(), SECRET, port=0, gpu="gpu-7", key="not known there")
    linked = running_worker(config, lambda register: open_link(dsp(hub.url), register))
    async with asyncio.timeout(40), linked as worker:
        await hub.until(lambda: hub.said("gpu.power.online"))
        yield worker


async def sent(worker: RunningWorker, name: str, content: bytes) -> str:
    form = aiohttp.FormData({"hash": "made up"})
    form.add_field("file", content, filename=name)
    url = f"{worker.address}/api/heygem/upload_file"
    headers = {"Authorization": SECRET}
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, data=form) as reply:
        digest: str = (await reply.json())["data"]["hash"]
    return digest


async def test_the_deployed_hub_is_never_busy_with_our_worker_although_no_job_has_ended(tmp_path: Path) -> None:
    engine = Joining(held=True)
    async with field_hub() as hub, at_hub(tmp_path, hub, engine) as worker, client(hub) as one:
        payload = {
            "video_hash": await sent(worker, "v.mp4", b"film"),
            "audio_hash": await sent(worker, "a.wav", b"tone"),
        }
        for number, wanted in enumerate((payload, {**payload, "audio_hash": "0" * 32}, {}, payload)):
            task = {"request_id": f"r{number}", "task_type": "heygem_submit", "payload": wanted}
            await one.say(type="gpu.job.submit", **task)
            result = await one.first("gpu.job.result")
            assert result["request_id"] == f"r{number}"
            assert ("error" in result) == (wanted is not payload)
        assert hub.records == {}
        assert hub.refused == []
        engine.go_on.set()
        (task_id,) = worker.queue.state.tasks
        url = f"{worker.address}/api/heygem/progress?task_id=r3"
        async with aiohttp.ClientSession(headers={"Authorization": SECRET}) as session, session.get(url) as reply:
            assert (await reply.json())["data"]["task_id"] == task_id
    assert hub.faults == []


async def test_an_upload_of_a_deployed_client_keeps_the_machine_on(tmp_path: Path) -> None:
    async with field_hub() as hub, at_hub(tmp_path, hub) as worker:
        assert hub.said("gpu.task.active") == []
        await sent(worker, "v.mp4", b"film")
        await hub.until(lambda: hub.said("gpu.task.active", task_type="heygem_submit"))


async def test_a_deployed_desktop_is_served_by_our_worker_at_the_deployed_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_socket, "LOOK_EVERY", 0.01)
    video, audio = tmp_path / "v.mp4", tmp_path / "a.wav"
    video.write_bytes(b"film" * 500)
    audio.write_bytes(b"tone" * 500)
    async with field_hub() as hub, at_hub(tmp_path, hub) as worker:
        desktop = FieldDesktop(hub.url, worker.address, SECRET, KEY, limits=DesktopLimits().shortened(10))
        assert await desktop.render(video, audio) == video.read_bytes() + audio.read_bytes()
        await hub.until(lambda: len(hub.said("gpu.task.progress", key=KEY)) == 2)
        assert [one["status"] for one in hub.said("gpu.task.progress")] == ["processing", "done"]
    assert not desktop.polled
    assert hub.faults == []
