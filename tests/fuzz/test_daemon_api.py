"""HTTP requests of every kind of wrongness at the daemon's local port, on every call that it has."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from tests.support.fuzz.example_counts import BOUNDED
from tests.support.fuzz.hostile_values import TEXTS, VALUES, nested
from tests.support.fuzz.observers import tree, watched
from tests.support.fuzz.raw_http import RawHttp, Reply, request
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.daemon import discovery as daemon_address
from wakestream.adapters.daemon.program import DaemonConfig, running_daemon

CALLS = [
    "/api/health", "/api/jobs", "/api/jobs/{}", "/api/jobs/{}/cancel", "/api/jobs/{}/retry", "/api/jobs/{}/events",
    "/api/events", "/console/session", "/console/links", "/console/live", "/console/history", "/console/log",
    "/console/uploads", "/console/uploads/{}", "/console/jobs", "/console/jobs/{}/ticket", "/console/results/{}", "/",
    "/{}",
]  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


@dataclass
class Attacked:
    """The daemon's port and token, and what it says that it refused."""

    port: int
    token: str
    refused: list[str] = field(default_factory=list)

    async def connect(self) -> RawHttp:
        return await RawHttp.connect(self.port)

    def request(self, method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
        plain = request(method, target, f"Authorization: Bearer {self.token}", *headers, body=body)
        return plain.replace(b"Host: x", b"Host: 127.0.0.1:%d" % self.port, 1)

    async def ask(self, data: bytes) -> Reply:
        caller = await self.connect()
        caller.write(data)
        reply = await caller.reply(bodiless=data.startswith(b"HEAD "))
        await caller.close()
        return reply

    async def is_well(self) -> None:
        assert (await self.ask(self.request("GET", "/api/health"))).status == 200


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Attacked]:
    state = tmp_path / "a" / "b" / "state"
    state.mkdir(parents=True)
    before = tree(tmp_path, without=state)
    hub = Settings(hub_url="ws://127.0.0.1:9/dsp", key="an-unknown-key-0123456789", api_secret="a-secret-0123456789")
    refused: list[str] = []
    sink = logger.add(refused.append, level="DEBUG", filter=lambda line: line["message"].startswith("refused: "))
    try:
        with watched():
            async with running_daemon(DaemonConfig(state), hub):
                address = daemon_address.read(state)
                assert address is not None
                scene = Attacked(int(address.url.rpartition(":")[2]), address.token, refused)
                await scene.is_well()
                yield scene
                await scene.is_well()
    finally:
        logger.remove(sink)
    assert tree(tmp_path, without=state) == before


FIELDS = st.sampled_from(["video", "audio", "output", "id", "priority", "task_type", "name", "size", "blake3", "code"])
BODIES = st.one_of(
    VALUES.map(json.dumps).map(str.encode),
    st.dictionaries(FIELDS, VALUES).map(lambda body: json.dumps(body).encode()),
    st.binary(max_size=50),
    st.integers(1, 5000).map(nested),
)
WORDS = st.sampled_from(TEXTS) | st.text(max_size=10)


@BOUNDED
@given(st.sampled_from(METHODS), st.sampled_from(CALLS), WORDS, WORDS, BODIES)
async def test_any_call_is_answered_or_refused_and_counted(
    daemon: Attacked, method: str, call: str, name: str, query: str, body: bytes
) -> None:
    before = len(daemon.refused)
    target = call.format(quote(name, safe="", errors="replace")) + "?state=all&limit=" + quote(query, errors="replace")
    reply = await daemon.ask(daemon.request(method, target, body=body))
    assert reply.status < 500, (method, target, body, reply)
    assert len(daemon.refused) - before == (1 if reply.status >= 400 else 0)
    await daemon.is_well()


@pytest.mark.parametrize("climbing", ["../../x", "..%2f..%2fx", "%2e%2e/x", "..\\x", "%00", "x%0d%0aX:y", "a" * 5000])
async def test_no_name_leads_anywhere(daemon: Attacked, climbing: str) -> None:
    for call, method in itertools.product(CALLS, METHODS):
        if "{}" in call:
            reply = await daemon.ask(daemon.request(method, call.format(climbing), body=b"{}"))
            assert 400 <= reply.status < 500, (call, reply)


@BOUNDED
@given(st.binary(max_size=200))
async def test_the_daemon_survives_any_bytes(daemon: Attacked, data: bytes) -> None:
    caller = await daemon.connect()
    caller.write(data)
    await caller.close()
    await daemon.is_well()


async def test_a_body_without_end_is_refused_at_its_limit(daemon: Attacked) -> None:
    caller = await daemon.connect()
    reply = asyncio.create_task(caller.reply())
    head = daemon.request("POST", "/api/jobs", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    await caller.sent(head)
    while await caller.sent(b"10000\r\n" + b"x" * 0x10000 + b"\r\n"):
        pass
    assert (await reply).status == 413
    await caller.close()
