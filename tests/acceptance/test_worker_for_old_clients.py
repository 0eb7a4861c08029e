"""What our worker does for deployed clients beyond the calls that ours use: their headers, hashes and defaults."""

import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest
from blake3 import blake3

from tests.support.programs.our_peers import SECRET, Joining
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import RunningWorker, running_worker
from wakestream.operators.model.errors import Corrupt
from wakestream.operators.model.events import FileRef, Fingerprint

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Range",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, Accept-Ranges, Content-Disposition",
}
QUEUE = "/api/heygem/queue"
FILM = b"film" * 500
MD5 = hashlib.md5(FILM, usedforsecurity=False).hexdigest()


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncGenerator[RunningWorker, None]:
    async with running_worker(WorkerConfig(tmp_path / "worker", Joining(), SECRET, port=0)) as worker:
        yield worker


@pytest.fixture
async def http(worker: RunningWorker) -> AsyncGenerator[aiohttp.ClientSession, None]:
    async with aiohttp.ClientSession(worker.address, headers={"Authorization": SECRET}) as session:
        yield session


REPLIES: list[tuple[str, str, int]] = [
    ("GET", "/api/heygem/health", 200),
    ("GET", "/api/heygem/queue", 200),
    ("GET", "/api/heygem/nothing", 404),
    ("GET", "/api/heygem/progress?task_id=none", 404),
    ("GET", "/", 200),
    ("DELETE", "/api/heygem/queue", 405),
    ("OPTIONS", "/files/", 204),
]


async def test_each_reply_allows_any_origin(http: aiohttp.ClientSession) -> None:
    for method, path, status in REPLIES:
        async with http.request(method, path) as reply:
            assert reply.status == status, path
            assert {name: reply.headers[name] for name in CORS} == CORS, path
    async with http.get(QUEUE, headers={"Authorization": "wrong"}) as reply:
        assert reply.status == 401
        assert {name: reply.headers[name] for name in CORS} == CORS


PREFLIGHTS: list[str] = ["/api/heygem/submit", "/api/heygem/upload_file", "/ws/progress/1", "/files/", "/none"]


async def test_a_browsers_preflight_is_answered_without_a_secret(worker: RunningWorker) -> None:
    for path in PREFLIGHTS:
        asked = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST"}
        async with aiohttp.ClientSession(worker.address) as session, session.options(path, headers=asked) as reply:
            assert (reply.status, await reply.read()) == (200, b""), path
            assert {name: reply.headers[name] for name in CORS} == CORS, path


async def test_the_secret_opens_with_and_without_bearer(worker: RunningWorker) -> None:
    for header in (SECRET, f"Bearer {SECRET}", f"bearer {SECRET}", f"Bearer Bearer {SECRET} "):
        headers = {"Authorization": header}
        async with aiohttp.ClientSession(worker.address, headers=headers) as session, session.get(QUEUE) as reply:
            assert reply.status == 200, header


def form(digest: str, *, last: bool = False, name: str = "v.mp4", ext: str | None = None) -> aiohttp.FormData:
    fields = {"hash": digest} if ext is None else {"hash": digest, "ext": ext}
    sent = aiohttp.FormData({} if last else fields)
    sent.add_field("file", FILM, filename=name)
    for field, value in fields.items() if last else ():
        sent.add_field(field, value)
    return sent


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("digest", ["0" * 32, "made-up", "../../../etc/passwd", "F" * 31, MD5.upper(), MD5])
async def test_a_file_with_a_made_up_hash_is_stored_under_its_md5(
    worker: RunningWorker, http: aiohttp.ClientSession, digest: str, last: bool
) -> None:
    async with http.post("/api/heygem/upload_file", data=form(digest, last=last)) as reply:
        body = await reply.json()
    assert (body["code"], body["data"]["hash"]) == (0, MD5)
    assert [path.name for path in (worker.store.root / "files").iterdir()] == [f"{MD5}.mp4"]


@pytest.mark.parametrize("digest", ["", None])
async def test_a_file_without_a_hash_is_refused(http: aiohttp.ClientSession, digest: str | None) -> None:
    sent = aiohttp.FormData({} if digest is None else {"hash": digest})
    sent.add_field("file", FILM, filename="v.mp4")
    async with http.post("/api/heygem/upload_file", data=sent) as reply:
        assert reply.status == 400


async def test_a_file_without_an_ending_is_a_bin(http: aiohttp.ClientSession) -> None:
    async with http.post("/api/heygem/upload_file", data=form(MD5, name="film")) as reply:
        assert (await reply.json())["data"]["server_path"] == f"files/{MD5}.bin"


async def test_a_made_up_hash_is_missing_and_echoed_in_each_answer(http: aiohttp.ClientSession) -> None:
    async with http.post("/api/heygem/upload_file", data=form(MD5)) as reply:
        assert reply.status == 200
    asked = {"files": [{"hash": MD5.upper(), "ext": ".MP4"}, {"hash": "made-up", "ext": ".mp4"}]}
    async with http.post("/api/heygem/check_files", json=asked) as reply:
        assert (await reply.json())["data"] == {MD5.upper(): True, "made-up": False}


async def test_a_submit_without_endings_means_mp4_and_wav(http: aiohttp.ClientSession) -> None:
    for ending in (".mp4", ".wav"):
        async with http.post("/api/heygem/upload_file", data=form(MD5, ext=ending)) as reply:
            assert reply.status == 200
    async with http.post("/api/heygem/submit", json={"video_hash": MD5, "audio_hash": MD5}) as reply:
        assert (await reply.json())["code"] == 0


async def test_our_client_uploads_a_file_again_that_arrived_different(worker: RunningWorker, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(FILM)
    status = path.stat()
    workers = HttpWorkers(worker.address, SECRET)
    try:
        file = Fingerprint(path, status.st_size, status.st_mtime_ns, {"md5": "0" * 32})
        with pytest.raises(Corrupt):
            _ = [step async for step in workers.at(None).upload(file, FileRef("0" * 32, ".mp4"))]
        right = Fingerprint(path, status.st_size, status.st_mtime_ns, {"blake3": blake3(FILM).hexdigest()})
        _ = [step async for step in workers.at(None).upload(right, FileRef(right.digests["blake3"], ".mp4"))]
    finally:
        await workers.close()
