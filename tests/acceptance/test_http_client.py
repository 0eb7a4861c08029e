"""The client side of the worker's HTTP, against real servers on loopback that play old, new and broken workers."""

import asyncio
import errno
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from blake3 import blake3

from tests.support.programs import plain_server
from tests.support.programs.our_peers import until
from wakestream.adapters.cli.i18n.catalog import in_chinese
from wakestream.adapters.client import download
from wakestream.adapters.client.download import Partial
from wakestream.adapters.client.worker import HttpWorker, HttpWorkers
from wakestream.adapters.client.worker_calls import THREADS, Wallet
from wakestream.adapters.net.capability_keys import Signer
from wakestream.adapters.runtime.tasks import heartbeat
from wakestream.operators.model.errors import (
    DAMAGED,
    Corrupt,
    FileChanged,
    FileUnusable,
    NoSpace,
    TaskLost,
    WakestreamError,
    WorkerRefused,
    WorkerUnreachable,
    is_retryable,
)
from wakestream.operators.model.events import Done, Downloading, FileRef, Fingerprint, Job
from wakestream.operators.model.ports import Health, TaskReceipt, TaskReport
from wakestream.streams.protocol import messages as m

SECRET = "swordfish-0123456789"
VIDEO, AUDIO = FileRef("a" * 32, ".mp4"), FileRef("b" * 32, ".wav")
PAIR = {"video": VIDEO, "audio": AUDIO}
JOB = Job.lipsync("job-1", Path("v.mp4"), Path("a.wav"), Path("o.mp4"))
API = "/api/heygem"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def serving(handler: Handler, reads_on: float = 0) -> AbstractAsyncContextManager[str]:
    """A web server that answers everything with `handler`, and reads on for so many seconds what it did not want."""
    return plain_server.answering(handler, shutdown_timeout=0, lingering_time=reads_on)


@asynccontextmanager
async def raw_serving(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server of bytes, for peers that do not keep to HTTP."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with plain_server.talking(served) as port:
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def connected(url: str, *features: str, **options: Any) -> AsyncIterator[HttpWorker]:
    workers = HttpWorkers(url, SECRET, **options)
    worker = workers.at(None)
    worker.features = frozenset(features)
    try:
        yield worker
    finally:
        await workers.close()


@asynccontextmanager
async def with_capability(
    url: str, secret: str | None = None, token: str = "", *, named: bool = False
) -> AsyncIterator[HttpWorker]:
    """The worker of a job with a capability, the right one or this; the hub names it, or the settings."""
    now, wallet = time.time(), Wallet()
    right = Signer.fresh().mint("job-1", "lic", "gpu", now, now + 900)
    given = None if token == "none" else token or right
    wallet.feed(m.Ack(request_id="job-1", capability=given, capability_expires=int(now + 900)))
    workers = HttpWorkers("http://another.example" if named else url, secret)
    worker = workers.of_job("job-1", wallet).at(url if named else None)
    assert isinstance(worker, HttpWorker)
    worker.features = frozenset({"capability"})
    yield worker
    await workers.close()


def saying(reply: bytes, *, then: Callable[[asyncio.StreamReader], Awaitable[object]] | None = None) -> Any:
    """A peer that answers a request with these bytes, and does this before it closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        if then is not None:
            await then(reader)

    return talk


def ok(data: object) -> web.Response:
    return web.json_response({"code": 0, "data": data, "msg": "ok"})


def failure(status: int, msg: str) -> web.Response:
    return web.json_response({"code": status, "data": None, "msg": msg}, status=status)


def answering(response: Callable[[], web.StreamResponse]) -> Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return response()

    return answer


def fingerprint(path: Path) -> Fingerprint:
    status = path.stat()
    return Fingerprint(path, status.st_size, status.st_mtime_ns, {"md5": VIDEO.hash})


@pytest.fixture
def video(tmp_path: Path) -> Fingerprint:
    path = tmp_path / "my holiday.mp4"
    path.write_bytes(bytes(range(256)) * 20_000)
    return fingerprint(path)


@pytest.fixture
def large(tmp_path: Path) -> Fingerprint:
    """More than the buffers of both sockets hold, and no bytes on the disk."""
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    return fingerprint(path)


async def sent(worker: HttpWorker, file: Fingerprint) -> list[int]:
    return [total async for total in worker.upload(file, VIDEO)]


async def fetched(worker: HttpWorker, output: Path) -> list[Downloading | Done]:
    return [step async for step in worker.download("t1", output)]


# health


@pytest.mark.parametrize(
    ("reply", "health"),
    [
        ({"code": 0, "msg": "ok", "initialized": True, "queue": {}}, Health(True, msg="ok")),
        ({"code": 0, "msg": "ok", "initialized": False}, Health(False, msg="ok")),
        ({"initialized": True, "features": ["blake3", 3, "range"]}, Health(True, frozenset({"blake3", "range"}))),
        ({"initialized": True, "features": "all"}, Health(True)),
        ({"initialized": True, "queue": {"processing": 1, "queued": 2, "max_concurrent": 1}}, Health(True, busy=3)),
        ({"initialized": True, "queue": {"running": "task", "queued": 0}}, Health(True, busy=1)),
        ({"initialized": True, "queue": {"processing": 0, "queued": 0, "transfers": 2}}, Health(True, busy=2)),
        ({"initialized": True, "queue": {"processing": "?", "queued": -1, "running": None}}, Health(True)),
    ],
)
async def test_health_needs_no_secret_and_may_lack_features(reply: dict[str, object], health: Health) -> None:
    asked: list[web.BaseRequest] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        return web.json_response(reply)

    async with serving(answer) as url, connected(url) as worker:
        assert await worker.health() == health
        assert worker.features == health.features
    assert asked[0].path == f"{API}/health"
    assert "Authorization" not in asked[0].headers


async def test_a_closed_port_is_unreachable() -> None:
    async with serving(answering(web.Response)) as url:
        pass
    async with connected(url) as worker:
        with pytest.raises(WorkerUnreachable, match=f"no connection to {url}"):
            await worker.health()


@pytest.mark.parametrize("status", [502, 503, 504, 520, 522, 530])
async def test_a_gateway_error_is_unreachable(status: int) -> None:
    gateway = answering(lambda: web.Response(status=status, text="Bad Gateway"))
    async with serving(gateway) as url, connected(url) as worker:
        with pytest.raises(WorkerUnreachable, match="gateway"):
            await worker.health()


@pytest.mark.parametrize(
    ("talk", "error", "words", "idle"),
    [
        (saying(b"HTTP/1.1 200 OK\r\n\r\n<html>It works!"), WorkerRefused, r"not a worker.*It works", 60.0),
        (saying(b"", then=lambda reader: reader.read()), WorkerUnreachable, "stopped answering", 0.05),
        (saying(b"220 mail.example.com ESMTP\r\n\r\n"), WorkerRefused, "is not an HTTP server", 60.0),
    ],
    ids=["web server", "silent", "mail"],
)
async def test_what_is_no_worker_is_recognised(
    talk: Any, error: type[WakestreamError], words: str, idle: float
) -> None:
    async with raw_serving(talk) as url, connected(url, idle=idle) as worker:
        with pytest.raises(error, match=words):
            await worker.health()


# calls


async def test_check_names_the_files_that_are_there() -> None:
    bodies: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append((request.path, request.headers["Authorization"], await request.json()))
        return ok({VIDEO.hash: True})

    async with serving(answer) as url, connected(url) as worker:
        assert await worker.check([VIDEO, AUDIO]) == {VIDEO.hash: True, AUDIO.hash: False}
    files = [{"hash": VIDEO.hash, "ext": ".mp4"}, {"hash": AUDIO.hash, "ext": ".wav"}]
    assert bodies == [(f"{API}/check_files", f"Bearer {SECRET}", {"files": files})]


@pytest.mark.parametrize(("features", "more"), [([], {}), (["cancel"], {"job_id": "job-1"})])
async def test_the_job_is_sent_only_to_workers_that_can_cancel(features: list[str], more: dict[str, str]) -> None:
    bodies: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("health"):
            return web.json_response({"initialized": True, "features": features})
        bodies.append((request.path.removeprefix(API), await request.json()))
        return ok({"task_id": "t1", "cached": True, "queue": {"position": 2}})

    async with serving(answer) as url, connected(url) as worker:
        await worker.health()
        assert await worker.submit(JOB, PAIR) == TaskReceipt("t1", cached=True, position=2)
        await worker.cancel("t1")
    pair = {"video_hash": VIDEO.hash, "video_ext": ".mp4", "audio_hash": AUDIO.hash, "audio_ext": ".wav"}
    cancelled = [("/cancel", {"task_id": "t1", "job_id": "job-1"})] if features else []
    assert bodies == [("/submit", {**pair, **more}), *cancelled]


async def test_jobs_that_share_a_task_are_cancelled_one_by_one() -> None:
    dropped: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("cancel"):
            dropped.append((await request.json())["job_id"])
        return ok({"task_id": "t1"})

    async with serving(answer) as url, connected(url, "cancel") as worker:
        for name in ("one", "two"):
            await worker.submit(replace(JOB, id=name), PAIR)
        await worker.cancel("t1", "two")
        await worker.cancel("t1")
    assert dropped == ["two", "one"]


@pytest.mark.parametrize(
    ("off", "secret", "says"),
    [
        (7200, None, r"refused the hub's capability; its clock is 7\d\d\d s ahead of the hub's; set it"),
        (-7200, None, r"its clock is 7\d\d\d s behind the hub's; set it right, by NTP$"),
        (
            7200,
            SECRET,
            r"its clock is 7\d\d\d s ahead of the hub's; set it right, by NTP; the next attempt uses the secret",
        ),
        (0, None, r"the worker refuses the call for the moment: it has ended"),
    ],
)
async def test_a_workers_wrong_clock_is_detected_by_its_date_header(off: int, secret: str | None, says: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        said = {"code": 401, "data": None, "msg": "it has ended", "error": "expired"}
        date = {"Date": formatdate(time.time() + off, usegmt=True)}
        return web.json_response(said, status=401, headers=date)

    async with serving(answer) as url, with_capability(url, secret) as worker:
        with pytest.raises(WorkerUnreachable, match=says):
            await worker.check([VIDEO])


@pytest.mark.parametrize(
    ("token", "features", "code", "says"),
    [
        ("wsc1.e30.c2ln", ("cancel", "capability"), "unsupported", "version does not know; update the hub first"),
        ("none", ("cancel",), "unsupported", "does not accept capabilities, .*; update the worker first, or set"),
        ("", ("cancel", "capability"), "unauthorized", "refused the hub's capability; update the worker first, or"),
    ],
)
async def test_where_a_capability_has_no_effect_the_part_to_update_is_named(
    token: str, features: tuple[str, ...], code: str, says: str
) -> None:
    async with (
        serving(answering(lambda: failure(401, "no such token"))) as url,
        with_capability(url, token=token) as worker,
    ):
        worker.features = frozenset(features)
        with pytest.raises(WorkerRefused, match=says) as refused:
            await worker.check([VIDEO])
        assert refused.value.code == code
        assert "更新" in (in_chinese(str(refused.value)) or "")


@pytest.mark.parametrize("secret", [None, "another-worker-s-secret"])
async def test_a_worker_that_has_not_registered_yet_gets_the_capability_and_is_asked_again(secret: str | None) -> None:
    registered = False

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("health"):
            features = ["cancel", *(("capability",) if registered else ())]
            return web.json_response({"code": 0, "msg": "ok", "initialized": True, "features": features})
        assert request.headers["Authorization"].startswith("Bearer eyJ")
        late = {"code": 503, "data": None, "msg": "not connected yet", "error": "not_ready"}
        return ok({"task_id": "t1", "status": "queued"}) if registered else web.json_response(late, status=503)

    async with serving(answer) as url, with_capability(url, secret, named=True) as worker:
        await worker.health()
        with pytest.raises(WorkerUnreachable, match="not connected yet"):
            await worker.report("t1")
        registered = True
        assert (await worker.report("t1")).status == "queued"


async def test_what_a_worker_announces_to_one_job_is_not_what_it_announced_to_another() -> None:
    announced = ["capability", "tus"]

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"code": 0, "msg": "ok", "initialized": True, "features": [*announced]})

    async with serving(answer) as url:
        workers = HttpWorkers(url, SECRET)
        one, two = (workers.of_job(name, Wallet()) for name in ("job-1", "job-2"))
        await one.at(None).health()
        announced.remove("capability")
        await two.at(None).health()
        there = [each.at(None) for each in (one, two)]
        assert [each.features for each in there if isinstance(each, HttpWorker)] == [{"capability", "tus"}, {"tus"}]
        await workers.close()


@pytest.mark.parametrize(
    ("data", "report"),
    [
        ({"status": "processing", "progress": 140, "current_frame": None, "queue_position": "?"},
         TaskReport("processing", 100.0)),
        ({"status": "error", "error": "no job holds this task", "cancelled": True},
         TaskReport("cancelled", error="no job holds this task")),
    ],
    ids=["of an old worker", "of a task that others have cancelled"],
)  # fmt: skip
async def test_a_report_is_read_with_defaults(data: dict[str, object], report: TaskReport) -> None:
    async with serving(answering(lambda: ok({"task_id": "t1", **data}))) as url, connected(url) as worker:
        assert await worker.report("t1") == report


@pytest.mark.parametrize(
    ("status", "word", "passes"),
    [
        (400, "corrupt", Corrupt),
        (408, "timeout", WorkerUnreachable),
        (409, "not_done", TaskLost),
        (404, "not_found", TaskLost),
        (404, "", TaskLost),
    ],
)
async def test_a_refusal_that_passes_is_no_end(status: int, word: str, passes: type[WakestreamError]) -> None:
    refused = {"code": status, "data": None, "msg": "once more", "error": word}
    async with serving(answering(lambda: web.json_response(refused, status=status))) as url, connected(url) as worker:
        for call in (worker.submit(JOB, PAIR), worker.report("t1")):
            with pytest.raises(passes, match="once more"):
                await call
        assert is_retryable(passes(""))


@pytest.mark.parametrize(
    ("response", "code", "words"),
    [
        (lambda: failure(401, "no"), "unauthorized", "HEYGEM_API_SECRET"),
        (lambda: web.Response(status=401, text="who are you"), "unauthorized", "HEYGEM_API_SECRET"),
        (lambda: web.json_response({"code": 401, "msg": "no"}), "unauthorized", "HEYGEM_API_SECRET"),
        (lambda: failure(400, "bad\nhash"), "bad_request", "bad hash"),
        (lambda: web.json_response({"code": 503, "error": "queue_full", "msg": "x"}, status=503), "queue_full", "x"),
        (lambda: web.json_response({"code": 500, "msg": "broke"}), "http_500", "broke"),
        (lambda: web.Response(text="{garbage"), "bad_reply", "{garbage"),
        (lambda: web.Response(), "bad_reply", "nothing"),
        (lambda: web.json_response([1]), "bad_reply", r"\[1\]"),
        (lambda: web.json_response({"code": False, "data": {}}), "http_200", "without a reason"),
        (lambda: web.json_response({"code": 0}), "bad_reply", "data"),
        (lambda: ok({"task_id": 7}), "bad_reply", '"status": *'),
        (lambda: web.Response(status=302, headers={"Location": "http://elsewhere"}), "http_302", "302"),
        (lambda: web.Response(body=b"x" * 5_000_000), "bad_reply", "more than"),
    ],
)
async def test_an_unexpected_answer_is_quoted(response: Callable[[], web.Response], code: str, words: str) -> None:
    async with serving(answering(response)) as url, connected(url) as worker:
        with pytest.raises(WorkerRefused, match=words.replace('"status": *', 'a "status"')) as refusal:
            await worker.report("t1")
    assert refusal.value.code == code
    assert len(str(refusal.value)) < 400
    assert SECRET not in str(refusal.value)


# addresses


async def test_the_hubs_address_wins_over_the_configured_one_and_is_completed() -> None:
    workers = HttpWorkers("gpu.example.com")
    assert workers.resolve(None) == "http://gpu.example.com:8383"
    assert workers.resolve("10.0.0.1") == "http://10.0.0.1:8383"
    workers.at("10.0.0.1:8383").features = frozenset({"tus"})
    same = workers.at("http://10.0.0.1")
    assert (same.url, same.features) == ("http://10.0.0.1:8383", {"tus"})
    with pytest.raises(WorkerRefused, match="address"):
        workers.at("ftp://x")
    with pytest.raises(WorkerRefused, match="HEYGEM_SERVER_URL"):
        HttpWorkers().at(None)
    await workers.close()


# upload


async def test_an_upload_has_a_length_and_its_fields_come_before_the_file(video: Fingerprint) -> None:
    got: dict[str, Any] = {}

    async def receive(request: web.Request) -> web.Response:
        got["length"], got["path"] = request.content_length, request.path
        got["fields"] = []
        async for part in await request.multipart():
            got["fields"].append((part.name, part.filename, bytes(await part.read())))
        return ok({"hash": VIDEO.hash, "server_path": "x"})

    async with serving(receive) as url, connected(url) as worker:
        totals = await sent(worker, video)
    assert got["path"] == f"{API}/upload_file"
    assert got["length"] > video.size
    expected = [("hash", None, VIDEO.hash.encode()), ("ext", None, b".mp4")]
    assert got["fields"] == [*expected, ("file", f"{VIDEO.hash}.mp4", video.path.read_bytes())]
    assert totals == sorted(totals)
    assert totals[-1] == video.size


@pytest.mark.parametrize("change", ["grown", "touched", "gone"])
async def test_a_file_that_changed_since_it_was_read_is_not_sent(video: Fingerprint, change: str) -> None:
    if change == "gone":
        video.path.unlink()
    else:
        with video.path.open("ab") as file:
            file.write(b"x" if change == "grown" else b"")
        video = Fingerprint(video.path, video.size, video.mtime_ns - (change == "touched"), video.digests)
    bodies: list[int] = []

    async def receive(request: web.Request) -> web.Response:
        bodies.append(len(await request.read()))
        return ok({})

    async with serving(receive) as url, connected(url) as worker:
        with pytest.raises(FileChanged, match="changed or moved"):
            await sent(worker, video)
    assert bodies == []


async def test_a_file_that_changes_while_it_is_sent_never_arrives_whole(large: Fingerprint) -> None:
    changed = asyncio.Event()
    whole: list[int] = []

    async def receive(request: web.Request) -> web.Response:
        await changed.wait()
        whole.append(len(await request.read()))
        return ok({})

    async with serving(receive) as url, connected(url) as worker:

        async def sent_while_it_changes() -> None:
            async for _ in worker.upload(large, VIDEO):
                with large.path.open("r+b") as file:
                    file.write(b"changed")
                changed.set()

        with pytest.raises(FileChanged):
            await sent_while_it_changes()
    assert whole == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Location": "a", "Upload-Offset": "9" * 5000},
        {"Location": "http://[::1", "Upload-Offset": "0"},
        {"Location": "http://elsewhere.example/a", "Upload-Offset": "0"},
        {"Upload-Offset": "0"},
    ],
)
async def test_an_invalid_upload_reply_is_refused(video: Fingerprint, headers: dict[str, str]) -> None:
    reply = answering(lambda: web.Response(status=201, headers=headers))
    async with serving(reply) as url, connected(url, "tus", "blake3") as worker:
        with pytest.raises(WorkerRefused) as refused:
            _ = [total async for total in worker.upload(video, FileRef("a" * 64, ".mp4"))]
    assert (refused.value.code, len(str(refused.value)) < 400) == ("bad_reply", True)


@pytest.mark.parametrize(("status", "words"), [(401, "HEYGEM_API_SECRET"), (400, "wrong ext"), (507, "disk is full")])
async def test_a_refusal_during_an_upload_is_reported(large: Fingerprint, status: int, words: str) -> None:
    # Our server reads on for a while as well: a reset can destroy what was sent before it.
    async with serving(answering(lambda: failure(status, words)), reads_on=2.0) as url, connected(url) as worker:
        for _ in range(5):
            with pytest.raises(WorkerRefused, match=words):
                await sent(worker, large)


@pytest.mark.parametrize(("drops", "idle", "words"), [(True, 20.0, "broke"), (False, 0.1, "accepted no byte")])
async def test_an_upload_whose_connection_drops_or_stalls_is_unreachable(
    large: Fingerprint, drops: bool, idle: float, words: str
) -> None:
    done = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if drops:
            await reader.read(65536)
            writer.transport.abort()
        else:
            await done.wait()

    async with raw_serving(talk) as url, connected(url, idle=idle) as worker:
        with pytest.raises(WorkerUnreachable, match=words):
            await sent(worker, large)
        done.set()


async def test_an_aborted_upload_releases_everything(large: Fingerprint) -> None:
    started, over = asyncio.Event(), asyncio.Event()

    async def receive(request: web.Request) -> web.Response:
        started.set()
        try:
            async for _ in request.content.iter_any():
                if large.path.exists():
                    await over.wait()
        except (ConnectionError, web.RequestPayloadError):
            pass
        return ok({})

    before = asyncio.all_tasks()
    async with serving(receive) as url, connected(url) as worker:
        async with aclosing(worker.upload(large, VIDEO)) as totals:
            async for _ in totals:
                await started.wait()
                break
        assert not [task for task in asyncio.all_tasks() - before if task.get_name().startswith("upload")]
        over.set()


async def test_many_uploads_at_once_share_a_few_threads(video: Fingerprint) -> None:
    async def receive(request: web.Request) -> web.Response:
        async for _ in request.content.iter_any():
            pass
        return ok({})

    before = threading.active_count()
    async with serving(receive) as url, connected(url) as worker:
        await asyncio.gather(*(sent(worker, video) for _ in range(20)))
        assert threading.active_count() - before <= THREADS


# download

RESULT = bytes(range(256)) * 10_000
HALF = len(RESULT) // 2
DIGEST = f'"{blake3(RESULT).hexdigest()}"'
WHOLE = ("blake3", "range")
"""The features of a worker whose results can be verified and resumed."""


def result(body: bytes = RESULT, **headers: str) -> web.Response:
    return web.Response(body=body, content_type="video/mp4", headers=headers)


async def test_a_result_of_an_old_worker_is_put_into_its_place_whole(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    async with serving(answering(result)) as url, connected(url) as worker:
        *steps, done = await fetched(worker, output)
    assert done == Done(output, len(RESULT))
    assert steps[0] == Downloading(0, len(RESULT))
    assert steps[-1] == Downloading(len(RESULT), len(RESULT))
    assert output.read_bytes() == RESULT
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("quoted", ['"{}"', "{}"])
async def test_a_result_is_verified_by_its_blake3(tmp_path: Path, quoted: str) -> None:
    right, wrong = (quoted.format(digest) for digest in (blake3(RESULT).hexdigest(), "0" * 64))
    async with serving(answering(lambda: result(ETag=right))) as url, connected(url, "blake3") as worker:
        await fetched(worker, tmp_path / "out.mp4")
    async with serving(answering(lambda: result(ETag=wrong))) as url, connected(url, *WHOLE) as worker:
        with pytest.raises(Corrupt, match="BLAKE3") as wrong_hash:
            await fetched(worker, tmp_path / "other.mp4")
        assert wrong_hash.value.code == DAMAGED
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


SHORT = b'HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nETag: "abc"\r\nContent-Length: 1000\r\n\r\n'
NO_TASK = b'HTTP/1.1 404 Not Found\r\nContent-Length: 22\r\n\r\n{"msg":"no such task"}'
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n400\r\nxxx"


@pytest.mark.parametrize(
    ("talk", "error", "words", "idle"),
    [
        (saying(SHORT + b"x" * 400), Corrupt, "interrupted after 400 of 1000 bytes", 60.0),
        (saying(CHUNKS), Corrupt, "interrupted", 60.0),
        (saying(SHORT.replace(b"1000", b"0")), Corrupt, "interrupted after 0 of", 60.0),
        (saying(SHORT + b"xxx", then=lambda reader: reader.read()), WorkerUnreachable, "stopped answering", 0.05),
        (saying(NO_TASK), TaskLost, "no such task", 60.0),
    ],
    ids=["cut off", "cut off in a chunk", "empty", "silent", "none"],
)
async def test_a_result_that_does_not_come_whole_leaves_no_file(
    tmp_path: Path, talk: Any, error: type[WakestreamError], words: str, idle: float
) -> None:
    async with raw_serving(talk) as url, connected(url, idle=idle) as worker:
        with pytest.raises(error, match=words):
            await fetched(worker, tmp_path / "out.mp4")
        assert list(tmp_path.iterdir()) == []


def breaking(asked: list[str | None], etags: list[str]) -> Callable[..., Awaitable[None]]:
    """Sends the first half and breaks, then whatever is asked for; each time under the next of `etags`."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        asked.append(headers.get("Range"))
        etag = etags[len(asked) - 1]
        first = len(asked) == 1
        start = int(headers["Range"].removeprefix("bytes=").rstrip("-")) if headers.get("If-Range") == etag else 0
        status = f"206 Partial\r\nContent-Range: bytes {start}-{len(RESULT) - 1}/{len(RESULT)}" if start else "200 OK"
        body = RESULT[start:]
        writer.write(f"HTTP/1.1 {status}\r\nETag: {etag}\r\nContent-Type: video/mp4\r\n".encode())
        writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode())
        writer.write(body[: len(body) // 2] if first else body)
        await writer.drain()

    return talk


@asynccontextmanager
async def half_here(output: Path, *etags: str) -> AsyncIterator[tuple[HttpWorker, list[str | None]]]:
    """A worker whose first download has broken in the middle, and the ranges that it was asked for."""
    asked: list[str | None] = []
    async with raw_serving(breaking(asked, [DIGEST, *etags])) as url, connected(url, *WHOLE) as worker:
        with pytest.raises(Corrupt):
            await fetched(worker, output)
        assert not output.exists()
        yield worker, asked


async def left(worker: HttpWorker, output: Path, received: bytes) -> None:
    """Leave what an earlier download to `output` has received."""
    part = worker.session.partial("t1", output)
    part.begin(etag=DIGEST, verified=True, resumable=True)
    await part.write(received)
    await part.leave()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.mp4"


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("another", [True, False])
async def test_a_download_resumes_if_the_result_is_unchanged_also_by_another_client(
    output: Path, same: bool, another: bool
) -> None:
    async with half_here(output, DIGEST if same else '"other"') as (worker, asked), AsyncExitStack() as stack:
        assert sorted(path.suffix for path in output.parent.iterdir()) == [".json", ".part"]
        if another:
            worker = await stack.enter_async_context(connected(worker.url, *WHOLE))
        first, *_, done = await fetched(worker, output)
    assert asked == [None, f"bytes={HALF}-"]
    assert (first, done) == (Downloading(HALF if same else 0, len(RESULT)), Done(output, len(RESULT)))
    assert output.read_bytes() == RESULT
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize(
    ("says_no", "error"),
    [
        (lambda: web.Response(status=502, text="Bad Gateway"), WorkerUnreachable),
        (lambda: failure(401, "who are you"), WorkerRefused),
        (lambda: failure(404, "no such task"), TaskLost),
    ],
)
async def test_received_bytes_survive_a_refusal_in_between(
    output: Path, says_no: Callable[[], web.Response], error: type[Exception]
) -> None:
    async with half_here(output, DIGEST) as (worker, asked):
        async with serving(answering(says_no)) as url, connected(url, *WHOLE) as other:
            with pytest.raises(error):
                await fetched(other, output)
        assert (await fetched(worker, output))[-1] == Done(output, len(RESULT))
    assert asked == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("same", [True, False])
async def test_a_part_that_is_whole_already_is_verified_and_not_fetched_again(output: Path, same: bool) -> None:
    asked: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Range"))
        if asked[-1] is None:
            return result(ETag=DIGEST)
        length = len(RESULT) if same else 5
        return web.Response(status=416, text="x", headers={"ETag": DIGEST, "Content-Range": f"bytes */{length}"})

    async with serving(answer) as url, connected(url, *WHOLE) as worker:
        await left(worker, output, RESULT)  # by a client that was killed just before the renaming
        if not same:
            with pytest.raises(Corrupt, match="the download starts again"):
                await fetched(worker, output)
        assert (await fetched(worker, output))[-1] == Done(output, len(RESULT))
    assert asked == [f"bytes={len(RESULT)}-"] + ([] if same else [None])
    assert output.read_bytes() == RESULT
    assert list(output.parent.iterdir()) == [output]


async def test_two_downloads_to_one_path_use_separate_part_files(tmp_path: Path) -> None:
    under_way, both, cut, output = [0], asyncio.Event(), asyncio.Event(), tmp_path / "out.mp4"

    async def in_two_halves(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"ETag": DIGEST})
        response.content_length = len(RESULT)
        await response.prepare(request)
        under_way[0] += 1
        if under_way[0] == 1:
            await response.write(RESULT[:HALF])
            await both.wait()
            await response.write(RESULT[HALF:])
        else:
            await response.write(RESULT[:10])
            both.set()
            await cut.wait()
            assert request.transport is not None
            request.transport.abort()
        return response

    async with serving(in_two_halves) as url, connected(url, *WHOLE) as one, connected(url, *WHOLE) as other:
        first = asyncio.create_task(fetched(one, output))
        await until(lambda: any(path.stat().st_size for path in tmp_path.glob("*.part")))
        second = asyncio.create_task(fetched(other, output))
        done, there = (await first)[-1], output.read_bytes()
        cut.set()
        with pytest.raises(Corrupt, match="interrupted"):
            await second
    assert (done, there == RESULT) == (Done(output, len(RESULT)), True)
    assert output.read_bytes() == RESULT
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("says", ["bytes {half}-5/{many}", "bytes 0-5/10", "lines 1-2/3", ""])
async def test_a_wrong_range_is_refused(tmp_path: Path, says: str) -> None:
    headers = {"ETag": DIGEST, "Content-Range": says.format(half=HALF, many="9" * 5000)}
    answer = answering(lambda: web.Response(status=206, body=b"x", headers=headers))
    async with serving(answer) as url, connected(url, *WHOLE) as worker:
        await left(worker, tmp_path / "out.mp4", RESULT[:HALF])
        with pytest.raises(Corrupt, match="asked to continue"):
            await fetched(worker, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("work", ["prepare", "finish"])
async def test_a_slow_disk_is_reported_as_waiting(tmp_path: Path, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, waited = asyncio.Event(), []
    carried_out = getattr(Partial, work)

    async def slowly(self: Partial, **how: bool) -> None:
        await go_on.wait()
        await carried_out(self, **how)

    monkeypatch.setattr(Partial, work, slowly)
    monkeypatch.setattr(download, "heartbeat", lambda writing, _: heartbeat(writing, 0.02))
    output = tmp_path / "out.mp4"
    async with serving(answering(result)) as url, connected(url) as worker:
        async for step in worker.download("t1", output):
            waited.append(step)
            if waited[-3:] == [waited[-1]] * 3:
                go_on.set()
    assert waited[-1] == Done(output, len(RESULT))
    assert output.read_bytes() == RESULT


async def test_a_damaged_part_is_detected_and_downloaded_again(output: Path) -> None:
    async with half_here(output, DIGEST, DIGEST) as (worker, asked):
        with next(output.parent.glob("*.part")).open("r+b") as part:
            part.write(b"damaged")
        with pytest.raises(Corrupt, match="BLAKE3"):
            await fetched(worker, output)
        await fetched(worker, output)
    assert (asked[2], output.read_bytes()) == (None, RESULT)


async def test_a_part_without_its_record_is_not_resumed(output: Path) -> None:
    async with half_here(output, DIGEST) as (worker, asked):
        next(output.parent.glob("*.json")).write_bytes(b"{")
        await fetched(worker, output)
    assert asked == [None, None]
    assert list(output.parent.iterdir()) == [output]


async def test_a_cancelled_job_leaves_no_partial_download(output: Path) -> None:
    async with half_here(output) as (worker, _):
        await worker.cancel("t1")
    assert list(output.parent.iterdir()) == []


async def test_of_two_jobs_that_share_a_task_the_cancelled_one_alone_takes_its_part_along(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/submit" in head:
            writer.write(b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"code":0,"data":{"task_id":"t1"}}')
        else:
            writer.write(b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 1000\r\nConnection: close\r\n\r\nxxx')

    outputs = {name: tmp_path / f"{name}.mp4" for name in ("one", "two")}
    async with raw_serving(answer) as url, connected(url, "range") as worker:
        for name, output in outputs.items():
            await worker.submit(replace(JOB, id=name, outputs={"video": output}), PAIR)
            with pytest.raises(Corrupt, match="interrupted"):
                await fetched(worker, output)
        await worker.cancel("t1", "one")
        assert {path.name[:3] for path in tmp_path.iterdir()} == {"two"}
        await worker.cancel("t1", "two")
    assert list(tmp_path.iterdir()) == []


async def test_an_aborted_download_leaves_no_file(tmp_path: Path) -> None:
    given_up = asyncio.Event()
    half = saying(SHORT + b"xxx", then=lambda _: given_up.wait())
    async with raw_serving(half) as url, connected(url) as worker:
        async with aclosing(worker.download("t1", tmp_path / "out.mp4")) as steps:
            async for _ in steps:
                break
        given_up.set()
    assert list(tmp_path.iterdir()) == []


async def test_a_result_may_have_the_longest_name_that_the_disk_takes(tmp_path: Path) -> None:
    output = tmp_path / f"{'语' * 83}.mp4"  # 253 of 255 bytes
    async with serving(answering(result)) as url, connected(url) as worker:
        await fetched(worker, output)
    assert list(tmp_path.iterdir()) == [output]


async def test_an_unwritable_output_path_is_refused_before_any_request(tmp_path: Path) -> None:
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        return result()

    async with serving(answer) as url, connected(url) as worker:
        with pytest.raises(FileUnusable, match="create it"):
            await fetched(worker, tmp_path / "none" / "out.mp4")
        with pytest.raises(FileUnusable, match="is a folder"):
            await fetched(worker, tmp_path)
    assert asked == []


def _full(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("call", "answer"), [("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})), ("os.fsync", _full)]
)
async def test_a_disk_that_is_full_before_or_after_the_download_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, answer: Callable[[Any], object]
) -> None:
    monkeypatch.setattr(call, answer)
    async with serving(answering(result)) as url, connected(url) as worker:
        with pytest.raises(NoSpace, match="make room"):
            await fetched(worker, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []
