"""The tests' deployed hub keeps the rules that it is there for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect

from tests.support.field.frames import Frames, dsp
from tests.support.field.hub import FieldHub, field_hub

PAYLOAD = {"video_hash": "a" * 32, "video_ext": ".mp4", "audio_hash": "b" * 32, "audio_ext": ".wav"}


class Peer:
    """A peer at the hub, and the frames that it got."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.told = Frames()

    async def read(self) -> None:
        async for raw in self.socket:
            await self.told.add(orjson.loads(raw))

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send(orjson.dumps({"type": kind, **fields}).decode())

    async def submit(self, job: str, kind: str = "gpu.job.submit") -> None:
        await self.say(kind, request_id=job, task_type="heygem_submit", payload=PAYLOAD)

    async def result(self, job: str) -> None:
        about = {"request_id": job, "task_type": "heygem_submit", "key": "key", "sender_fd": 0}
        await self.say("gpu.job.result", **about, error=False, result={})


@asynccontextmanager
async def at(hub: FieldHub, **register: Any) -> AsyncIterator[Peer]:
    async with connect(dsp(hub.url)) as socket:
        peer = Peer(socket)
        reading = asyncio.create_task(peer.read())
        try:
            await peer.say("register", **register)
            await peer.told.wait("registered")
            yield peer
        finally:
            reading.cancel()


async def test_a_key_has_one_job_of_a_type_until_any_result_or_ten_minutes_later() -> None:
    async with field_hub() as hub, at(hub, role="worker") as worker, at(hub, key="key") as client:
        await client.submit("job-1")
        await client.told.wait("ack", request_id="job-1")
        await client.submit("job-1")  # not even the same id
        await client.told.wait("error", request_id="job-1", old_request_id="job-1")
        await client.submit("job-2", "gpu_task")
        refusal = await client.told.wait("error", request_id="job-2", old_request_id="job-1")
        assert refusal["msg"].startswith("任务处理中")
        assert not {"code", "message"} & set(refusal)
        await worker.result("another")
        await client.told.wait("gpu_task_result", request_id="another", result=[])
        await client.submit("job-3")
        await client.told.wait("ack", request_id="job-3")
        hub.time.move(602)
        await client.submit("job-4")
        await client.told.wait("ack", request_id="job-4")
        assert hub.faults == []


async def test_a_queued_job_is_dropped_silently_and_the_last_one_is_granted() -> None:
    async with field_hub() as hub, at(hub, key="key") as client, at(hub, role="gpu_monitor") as monitor:
        await client.submit("job-1")
        await client.told.wait("gpu.power.offline", request_id="job-1")
        await client.submit("job-2")
        await client.told.wait("gpu.power.offline", request_id="job-2")
        copy = await monitor.told.wait("gpu.job.submit", count=2)
        assert copy == {"type": "gpu.job.submit", "task_type": "heygem_submit", "key": "key"}
        async with at(hub, role="worker") as worker:
            await worker.told.wait("gpu.job.submit", request_id="job-2")
            await worker.say("gpu.power.online", status="running", msg="up")
            await client.told.wait("gpu.power.online", count=2)
            await client.told.wait("gpu_online", count=2)
            assert worker.told.of("gpu.job.submit", request_id="job-1") == []
            await client.submit("job-3")  # the record stayed `queued`
            await client.told.wait("ack", request_id="job-3")
