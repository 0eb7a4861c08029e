"""Requests whose headers are wrong in every way that a parser lets through, at all our HTTP ports."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from tests.fuzz.test_daemon_api import Attacked as AttackedDaemon
from tests.fuzz.test_daemon_api import daemon as daemon
from tests.support.fuzz.attacked_hub import attacked as attacked_hub
from tests.support.fuzz.attacked_worker import BEARER, SECRET
from tests.support.fuzz.attacked_worker import Attacked as AttackedWorker
from tests.support.fuzz.attacked_worker import attacked as attacked_worker
from tests.support.fuzz.hostile_headers import UPGRADE, requests
from tests.support.fuzz.observers import watched
from wakestream.adapters.telemetry.metrics_server import metrics_listener

pytestmark = [
    pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionHeader"),
    pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionParam"),
]

AT_ONCE = 10
KEY = BEARER.encode()
TUS = (KEY, b"Tus-Resumable: 1.0.0")


async def broken(port: int, data: Iterable[bytes]) -> list[bytes]:
    """The requests to which the server answers that it is broken."""
    found: list[bytes] = []
    places = asyncio.Semaphore(AT_ONCE)

    async def ask(request: bytes) -> None:
        async with places:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            writer.write_eof()
            try:
                async with asyncio.timeout(10):
                    line = await reader.readline()
            except (ConnectionError, TimeoutError):
                line = b""
            writer.transport.abort()
            if line[9:10] == b"5" and line[9:12] != b"503":
                found.append(request)

    await asyncio.gather(*map(ask, data))
    return found


@pytest.mark.parametrize("target", ["/dsp", "/pair", "/operator/live", "/operator/app.js", "/"])
async def test_no_header_breaks_the_hub(target: str, tmp_path: Path) -> None:
    headers = () if target.endswith(("/", ".js")) else UPGRADE
    async with attacked_hub(tmp_path) as hub:
        assert await broken(hub.server.port, requests("GET", target, *headers, host=b"127.0.0.1")) == []


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[AttackedWorker]:
    async with attacked_worker(tmp_path) as scene:
        yield scene


CALLS = [
    ("GET", "/api/heygem/health", (), b""),
    ("POST", "/api/heygem/check_files", (KEY,), b'{"files":[]}'),
    ("POST", "/api/heygem/upload_files", (KEY,), b"[]\n"),
    ("POST", "/api/heygem/upload_file", (KEY, b"Content-Type: multipart/form-data; boundary=b"), b"--b--\r\n"),
    ("POST", "/files/", (*TUS, b"Upload-Length: 5", b"Upload-Metadata: filename eC5tcDQ="), b""),
    ("PATCH", "/files/x", (*TUS, b"Upload-Offset: 0", b"Content-Type: application/offset+octet-stream"), b"x"),
    ("GET", "/api/heygem/download?task_id=x", (KEY,), b""),
    ("GET", f"/ws/progress/x?token={SECRET}", UPGRADE, b""),
    ("GET", "/ws/progress/x", UPGRADE, b""),
    ("POST", "/nowhere", (KEY,), b""),
]


@pytest.mark.parametrize(("method", "target", "headers", "body"), CALLS, ids=[call[1] for call in CALLS])
async def test_no_header_breaks_the_worker(
    method: str, target: str, headers: tuple[bytes, ...], body: bytes, worker: AttackedWorker
) -> None:
    assert await broken(worker.port, requests(method, target, *headers, body=body)) == []


@pytest.mark.parametrize(
    "call", ["/api/health", "/api/jobs", "/api/events", "/", "/console/session", "/console/live", "/nowhere"]
)
async def test_no_header_breaks_the_daemon(call: str, daemon: AttackedDaemon) -> None:
    host, key = b"127.0.0.1:%d" % daemon.port, f"Authorization: Bearer {daemon.token}".encode()
    method = "POST" if call == "/console/session" else "GET"
    assert await broken(daemon.port, requests(method, call, key, host=host)) == []


async def test_no_header_breaks_the_metrics_port() -> None:
    with watched():
        async with metrics_listener(("127.0.0.1", 0), lambda: ()) as url:
            port = int(url.rpartition(":")[2].partition("/")[0])
            assert await broken(port, requests("GET", "/metrics")) == []


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[" * 5000, b"[" + b'{"a":' * 5000, b'[{"hash":"\xff"}]', b""])
async def test_no_list_of_small_files_breaks_the_worker(line: bytes, worker: AttackedWorker) -> None:
    head = b"POST /api/heygem/upload_files HTTP/1.1\r\nHost: x\r\n" + KEY
    body = line + b"\nx"
    reply = await worker.ask(head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert reply.status == 400
