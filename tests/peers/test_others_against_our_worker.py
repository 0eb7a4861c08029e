"""Other people's tus clients upload to our worker, in one go and with a break in the middle."""

import asyncio
import json
import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
import pytest
from blake3 import blake3

from tests.support.programs.worker_process import SECRET, WorkerProcess, worker_process

HERE = Path(__file__).parent
SIZE = 5 * 1024 * 1024 + 123
CONTENT = blake3(b"a film about a clock").digest(length=SIZE)
DIGEST = blake3(CONTENT).hexdigest()
HEADERS = {"Authorization": f"Bearer {SECRET}"}
SAID = {"filename": "film.mp4", "blake3": DIGEST}
NODE = shutil.which("node")
npm = pytest.mark.skipif(
    NODE is None or not (HERE / "node_modules").is_dir(), reason="node or its packages are missing: make peers"
)


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[WorkerProcess]:
    async with worker_process(tmp_path / "state") as process:
        yield process


@pytest.fixture
def film(tmp_path: Path) -> Iterator[BinaryIO]:
    path = tmp_path / "film.mp4"
    path.write_bytes(CONTENT)
    with path.open("rb") as stream:
        yield stream


def assert_there(worker: WorkerProcess) -> None:
    assert [path.read_bytes() == CONTENT for path in (worker.state / "files").iterdir()] == [True]
    assert list((worker.state / "uploads").glob("*.part")) == []


def began(worker: WorkerProcess) -> int:
    """Bytes of the one unfinished upload."""
    return next((worker.state / "uploads").glob("*.part")).stat().st_size


# tuspy


def tuspy(worker: WorkerProcess, stream: BinaryIO, **more: Any) -> Any:
    client = pytest.importorskip("tusclient.client", reason="tuspy is not installed")
    return client.TusClient(f"{worker.url}/files/", headers=HEADERS).uploader(
        file_stream=stream, chunk_size=1024 * 1024, metadata=SAID, retries=3, retry_delay=0, **more
    )


@pytest.mark.parametrize("checksum", [False, True])
async def test_tuspy_uploads_a_file(worker: WorkerProcess, film: BinaryIO, checksum: bool) -> None:
    await asyncio.to_thread(tuspy(worker, film, upload_checksum=checksum).upload)
    assert_there(worker)


async def test_tuspy_resumes_after_a_disconnect_and_a_worker_restart(worker: WorkerProcess, film: BinaryIO) -> None:
    first = tuspy(worker, film)
    await asyncio.to_thread(first.upload, stop_at=2 * 1024 * 1024)
    await worker.again()
    assert began(worker) == 2 * 1024 * 1024
    second = await asyncio.to_thread(tuspy, worker, film, url=first.url)
    assert second.offset == 2 * 1024 * 1024
    await asyncio.to_thread(second.upload)
    assert_there(worker)


async def test_a_restarted_tuspy_gets_the_offset(worker: WorkerProcess, film: BinaryIO) -> None:
    await asyncio.to_thread(tuspy(worker, film).upload, stop_at=2 * 1024 * 1024)
    await asyncio.to_thread(tuspy(worker, film).upload)
    assert_there(worker)


# aiotus


async def test_aiotus_uploads_a_file_and_resumes_after_a_disconnect(worker: WorkerProcess, film: BinaryIO) -> None:
    aiotus = pytest.importorskip("aiotus", reason="aiotus is not installed")
    logging.getLogger("aiotus").propagate = False
    said = {name: text.encode() for name, text in SAID.items()}
    patches = 0

    async def break_off(_session: object, _context: object, asked: aiohttp.TraceRequestStartParams) -> None:
        nonlocal patches
        patches += asked.method == "PATCH"
        if asked.method == "PATCH" and patches == 3:
            await worker.again()  # two parts are there
            raise aiohttp.ServerDisconnectedError

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(break_off)
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        config = aiotus.RetryConfiguration(retry_attempts=3, max_retry_period_seconds=0.0)
        at = f"{worker.url}/files/"
        location = await aiotus.upload(at, film, said, session, config, HEADERS, chunksize=1024 * 1024)
    assert location is not None
    assert patches == 7  # six parts, one of them failed
    assert_there(worker)


# tus-js-client


async def js(worker: WorkerProcess, film: BinaryIO, *more: str) -> dict[str, Any]:
    assert NODE is not None
    path = Path(film.name)
    urls = path.with_name("urls.json")
    process = await asyncio.create_subprocess_exec(
        NODE, str(HERE / "client.js"), f"{worker.url}/files/", SECRET, str(path), DIGEST, str(urls), *more,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    found: dict[str, Any] = json.loads(said)
    return found


@npm
async def test_tus_js_client_uploads_a_file(worker: WorkerProcess, film: BinaryIO) -> None:
    ran = await js(worker, film)
    assert ran["end"] == "done"
    assert ran["requests"] == [["POST", 201], *[["PATCH", 204]] * 6]
    assert_there(worker)


@npm
async def test_tus_js_client_resumes_after_a_restart_of_both_sides(worker: WorkerProcess, film: BinaryIO) -> None:
    assert (await js(worker, film, str(2 * 1024 * 1024)))["end"] == "stopped"
    await worker.again()
    assert began(worker) >= 2 * 1024 * 1024
    ran = await js(worker, film)
    assert ran["end"] == "done"
    assert ran["requests"][0] == ["HEAD", 200]
    assert len(ran["requests"]) <= 1 + 4
    assert_there(worker)


@npm
async def test_tus_js_client_that_forgot_its_upload_is_led_to_it(worker: WorkerProcess, film: BinaryIO) -> None:
    assert (await js(worker, film, str(2 * 1024 * 1024)))["end"] == "stopped"
    Path(film.name).with_name("urls.json").unlink()
    ran = await js(worker, film)
    assert ran["end"] == "done"
    assert ran["requests"][:3] == [["POST", 201], ["PATCH", 409], ["HEAD", 200]]
    assert_there(worker)
