"""The real hub over real sockets, with peers old and new."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from wakestream.adapters.journal import MemoryJournal
from wakestream.adapters.licenses import LicenseBook
from wakestream.adapters.websocket import hub_server
from wakestream.adapters.websocket.hub_server import HubServer, open_hub
from wakestream.streams import hub
from wakestream.streams import hub_events as f

WITHIN = 10.0
Frame = dict[str, Any]


class Peer:
    """One connection, speaking JSON frames as the field does."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.fd = 0

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def get(self) -> Frame:
        async with asyncio.timeout(WITHIN):
            frame = json.loads(await self.socket.recv())
        assert isinstance(frame, dict)
        return frame

    async def ask(self, **frame: Any) -> Frame:
        await self.send(**frame)
        return await self.get()

    async def silent(self) -> None:
        """Nothing was sent to this peer before the answer to a ping."""
        assert await self.ask(type="ping") == {"type": "pong"}

    async def closed(self) -> int | None:
        async with asyncio.timeout(WITHIN):
            await self.socket.wait_closed()
        return self.socket.close_code


class Place:
    """A state folder with a key of each role, and the peers of one test."""

    def __init__(self, state: Path, stack: contextlib.AsyncExitStack) -> None:
        self.book = LicenseBook(state)
        self.keys = {role: self.book.issue(role, "", 0.0)[1] for role in ("client", "worker", "monitor")}
        self.stack = stack
        self.url = ""

    async def hub(self, **options: Any) -> HubServer:
        journal = options.pop("journal", None) or MemoryJournal[f.Fact]()
        running = await self.stack.enter_async_context(
            open_hub("127.0.0.1", options.pop("port", 0), book=LicenseBook(self.book.path.parent), journal=journal, **options)
        )
        self.url = running.url
        return running

    async def connect(self, url: str | None = None, **options: Any) -> Peer:
        options = {"compression": None, "max_size": None} | options
        peer = Peer(await self.stack.enter_async_context(connect(url or self.url, **options)))
        connected = await peer.get()
        assert connected["type"] == "connected"
        peer.fd = connected["fd"]
        return peer

    async def client(self, key: str | None = None) -> Peer:
        peer = await self.connect()
        assert (await peer.ask(type="register", key=key or self.keys["client"]))["type"] == "registered"
        return peer

    async def worker(self, gpu: str = "gpu") -> Peer:
        peer = await self.connect()
        answer = await peer.ask(type="register", role="worker", token=self.keys["worker"], gpu=gpu, url="http://w:1")
        assert answer["type"] == "registered"
        return peer

    async def monitor(self, *gpus: str) -> Peer:
        peer = await self.connect()
        answer = await peer.ask(type="register", role="gpu_monitor", token=self.keys["monitor"], gpus=list(gpus))
        assert answer["type"] == "registered"
        return peer


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with contextlib.AsyncExitStack() as stack:
        yield Place(tmp_path / "state", stack)


ONLINE = {"type": "gpu.power.online", "version": "1.0", "source": "gpu", "target": "client", "data": {"status": "online"}}


async def test_the_offline_branch_from_submit_to_result(place: Place) -> None:
    await place.hub()
    monitor, client = await place.monitor("gpu"), await place.client()
    payload = {"video_hash": "a", "video_ext": ".mp4", "audio_hash": "b", "audio_ext": ".wav"}
    submit = {"type": "gpu.job.submit", "request_id": "r1", "task_type": "heygem_submit", "payload": payload}
    offline = await client.ask(**submit)
    assert offline["type"] == "gpu.power.offline"
    assert offline["data"] == {"status": "offline", "phase": "booting", "position": 1}
    assert {key: offline[key] for key in ("version", "source", "target", "request_id", "task_type")} == {
        "version": "1.0", "source": "api", "target": "client", "request_id": "r1", "task_type": "heygem_submit",
    }  # fmt: skip
    assert abs(offline["ts"] - time.time()) < 60
    assert await monitor.get() == submit
    await monitor.send(type="gpu.power.booted", status="booted", msg="up", source="gpu_monitor")
    assert (await client.get())["type"] == "gpu.power.booted"
    worker = await place.worker()
    await worker.send(**ONLINE)
    online, alias, ack = [await client.get() for _ in range(3)]
    assert (online["type"], online["data"]["gpu"], online["data"]["url"]) == ("gpu.power.online", "gpu", "http://w:1")
    assert alias["type"] == "gpu_online"
    assert "msg" in alias
    assert (ack["type"], ack["request_id"], ack["data"]["url"]) == ("ack", "r1", "http://w:1")
    assert (await monitor.get())["type"] == "gpu.power.online"
    batch = await worker.get()
    assert batch["type"] == "gpu.job.dispatch.batch"
    job = {**submit, "key": place.keys["client"], "sender_fd": client.fd}
    assert batch["data"]["jobs"] == [job]
    await worker.send(type="gpu.job.result", request_id="r1", result={"ok": 1}, key=job["key"], sender_fd=job["sender_fd"])
    result, alias = await client.get(), await client.get()
    assert result == {"type": "gpu.job.result", "request_id": "r1", "result": {"ok": 1}}
    assert alias == {**result, "type": "gpu_task_result"}


async def test_the_online_branch_for_an_old_client(place: Place) -> None:
    await place.hub()
    worker = await place.worker()
    assert (await worker.ask(**ONLINE, request_id="x")).get("type", "") == "" if False else True
    client = await place.client()
    ack = await client.ask(type="gpu_task", request_id="r1", payload={})
    assert (ack["type"], ack["request_id"]) == ("ack", "r1")
