"""Our worker's tus, word for word; other people's clients are in tests/peers."""

import asyncio
import base64
import contextlib
import hashlib
import io
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from blake3 import blake3

from tests.support.engines.pair import idle_engine
from tests.support.programs.our_peers import until
from tests.support.programs.tus_scene import BODY, Tus, metadata, then_silent, tus
from wakestream.adapters.disk import hashing_writer as sink
from wakestream.adapters.disk.hashing_writer import BATCH, HashingWriter
from wakestream.adapters.worker import resumable_uploads as uploads
from wakestream.adapters.worker import upload_records
from wakestream.adapters.worker.config import Retention, WorkerConfig
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.http import tus_append
from wakestream.adapters.worker.program import RunningWorker, running_worker

SECRET = "swordfish-0123456789"
CONTENT = blake3(b"a film about a clock").digest(length=10_240)
HALF = len(CONTENT) // 2


@asynccontextmanager
async def at_work(state: Path) -> AsyncIterator[tuple[RunningWorker, Tus]]:
    config = WorkerConfig(state, idle_engine(), SECRET, port=0)
    async with running_worker(config) as worker, tus(worker.address, SECRET) as caller:
        yield worker, caller


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[tuple[RunningWorker, Tus]]:
    async with at_work(tmp_path) as found:
        yield found


@pytest.fixture
def caller(scene: tuple[RunningWorker, Tus]) -> Tus:
    return scene[1]


@pytest.fixture
def worker(scene: tuple[RunningWorker, Tus]) -> RunningWorker:
    return scene[0]


def everything(root: Path) -> list[str]:
    return sorted(path.name for folder in ("files", "uploads", "partial") for path in (root / folder).iterdir())


async def test_options_lists_what_the_server_supports(caller: Tus) -> None:
    said = (await caller.ask("OPTIONS")).headers
    assert (said["Tus-Version"], said["Tus-Resumable"]) == ("1.0.0", "1.0.0")
    assert said["Tus-Extension"].split(",") == [
        "creation", "creation-with-upload", "checksum", "expiration", "termination"
    ]  # fmt: skip
    assert "sha1" in said["Tus-Checksum-Algorithm"].split(",")
    assert int(said["Tus-Max-Size"]) > 0


async def test_a_file_in_two_parts_becomes_one_of_the_workers_files(caller: Tus, worker: RunningWorker) -> None:
    response = await caller.create(CONTENT)
    path = f"/files/{response.headers['Location']}"
    assert (response.status, response.headers["Upload-Offset"]) == (201, "0")
    assert response.headers["Upload-Expires"].endswith("GMT")
    assert not await caller.has(CONTENT)
    first = await caller.patch(path, 0, CONTENT[:HALF])
    assert (first.status, first.headers["Upload-Offset"]) == (204, str(HALF))
    looked = await caller.ask("HEAD", path)
    assert looked.headers["Upload-Length"] == str(len(CONTENT))
    assert (looked.headers["Upload-Offset"], looked.headers["Cache-Control"]) == (str(HALF), "no-store")
    last = await caller.patch(path, HALF, CONTENT[HALF:])
    assert (last.status, last.headers["Upload-Offset"]) == (204, str(len(CONTENT)))
    assert "Upload-Expires" not in last.headers
    assert await caller.has(CONTENT)
    assert await caller.offset(path) == len(CONTENT)
    assert [path.read_bytes() for path in (worker.store.root / "files").iterdir()] == [CONTENT]


async def test_the_same_file_is_one_upload_for_all_connections(caller: Tus) -> None:
    path = await caller.created(CONTENT)
    await caller.patch(path, 0, CONTENT[:HALF])
    again = await caller.create(CONTENT)
    assert (f"/files/{again.headers['Location']}", again.headers["Upload-Offset"]) == (path, str(HALF))
    assert await caller.created(CONTENT + b"x") != path


async def test_a_file_that_is_here_already_needs_no_byte(caller: Tus) -> None:
    await caller.patch(await caller.created(CONTENT), 0, CONTENT)
    again = await caller.create(CONTENT)
    assert (again.status, again.headers["Upload-Offset"]) == (201, str(len(CONTENT)))
    assert (await caller.patch(await caller.created(CONTENT), len(CONTENT), b"")).status == 204


async def test_a_file_with_a_wrong_hash_is_refused_and_removed(caller: Tus, worker: RunningWorker) -> None:
    path = await caller.created(CONTENT, Upload_Metadata=metadata(CONTENT, digest="0" * 64))
    refused = await caller.patch(path, 0, CONTENT)
    assert refused.status == 460
    assert (await caller.ask("HEAD", path)).status == 404
    assert everything(worker.store.root) == []


async def test_of_a_file_without_a_hash_the_worker_finds_its_own(caller: Tus) -> None:
    name = base64.b64encode(b"C:\\films\\a.mp4").decode()
    path = await caller.created(CONTENT, Upload_Metadata=f"filename {name},private")
    assert (await caller.patch(path, 0, CONTENT)).status == 204
    assert await caller.has(CONTENT)


@pytest.mark.parametrize("algorithm", sorted(tus_append.ALGORITHMS))
async def test_a_part_with_its_checksum_is_taken_and_one_with_a_wrong_one_is_not(caller: Tus, algorithm: str) -> None:
    path = await caller.created(CONTENT)
    hasher = tus_append.ALGORITHMS[algorithm]()
    hasher.update(CONTENT[:HALF])
    right = f"{algorithm} {base64.b64encode(hasher.digest()).decode()}"
    assert (await caller.patch(path, 0, CONTENT[:HALF], Upload_Checksum=right)).status == 204
    wrong = await caller.patch(path, HALF, CONTENT[HALF:], Upload_Checksum=right)
    assert (wrong.status, await caller.offset(path)) == (460, HALF)
    assert (await caller.patch(path, HALF, CONTENT[HALF:])).status == 204
    assert await caller.has(CONTENT)


async def test_a_checksum_that_cannot_be_checked_is_refused(caller: Tus) -> None:
    for checksum in ("crc32 AAAA", "sha1", "sha1 !!!", ""):
        path = await caller.created(CONTENT)
        refused = await caller.patch(path, 0, CONTENT, Upload_Checksum=checksum)
        assert (refused.status, await caller.offset(path)) == (400, 0), checksum


async def test_bytes_at_a_wrong_offset_are_refused(caller: Tus) -> None:
    path = await caller.created(CONTENT)
    await caller.patch(path, 0, CONTENT[:HALF])
    for offset, body in (
        (0, b"x" * 10),
        (0, CONTENT + b"x"),
        (HALF - 1, b"x"),
        (HALF + 1, CONTENT),
        (len(CONTENT), b""),
    ):
        assert (await caller.patch(path, offset, body)).status == 409, "of any size"
    assert (await caller.patch(path, HALF, CONTENT)).status == 413
    assert (await caller.patch(path, HALF, then_silent([CONTENT], asyncio.Event()))).status == 413
    assert await caller.offset(path) == HALF
    assert (await caller.patch(path, HALF, CONTENT[HALF:])).status == 204
    assert await caller.has(CONTENT)


INVALID: list[tuple[str, str, int, dict[str, str]]] = [
    ("PATCH", "new", 415, {"Content_Type": "video/mp4", "Upload_Offset": "0"}),
    ("PATCH", "new", 400, {"Content_Type": BODY}),
    ("PATCH", "new", 400, {"Content_Type": BODY, "Upload_Offset": "-1"}),
    ("PATCH", "new", 400, {"Content_Type": BODY, "Upload_Offset": "1e3"}),
    ("POST", "/files/", 400, {}),
    ("POST", "/files/", 400, {"Upload_Length": "0", "Upload_Metadata": metadata(b"x")}),
    ("POST", "/files/", 400, {"Upload_Length": "9" * 30, "Upload_Metadata": metadata(b"x")}),
    ("POST", "/files/", 400, {"Upload_Length": "9", "Upload_Metadata": "filename ???"}),
    ("POST", "/files/", 400, {"Upload_Length": "9", "Upload_Metadata": metadata(b"x", filename="no ending")}),
    ("POST", "/files/", 400, {"Upload_Length": "9", "Upload_Metadata": metadata(b"x", filename="a.mp4/../b")}),
    ("POST", "/files/", 400, {"Upload_Length": "9", "Upload_Metadata": metadata(b"x", digest="0" * 32)}),
    ("GET", "new", 405, {}),
    ("PUT", "/files/", 405, {}),
    ("HEAD", f"/files/{'0' * 32}", 404, {}),
    ("HEAD", "/files/..%2F..%2Fworker.sqlite3", 404, {}),
    ("DELETE", "/files/..%5C..%5Cfiles", 404, {}),
    ("HEAD", "new", 412, {"Tus_Resumable": "0.2.2"}),
]


async def test_invalid_requests_are_refused(caller: Tus) -> None:
    for method, path, status, headers in INVALID:
        at = await caller.created(CONTENT) if path == "new" else path
        response = await caller.ask(method, at, b"x" if method == "PATCH" else None, **headers)
        assert (response.status, response.headers.get("Tus-Resumable")) == (status, "1.0.0"), (method, path, headers)


async def test_requests_without_the_secret_are_refused(caller: Tus) -> None:
    for method, path in (("POST", "/files/"), ("OPTIONS", "/files/"), ("HEAD", f"/files/{'0' * 32}")):
        assert (await caller.ask(method, path, Authorization="Bearer other")).status == 401


async def test_a_second_connection_replaces_a_stalled_one(caller: Tus, monkeypatch: pytest.MonkeyPatch) -> None:
    path, over = await caller.created(CONTENT), asyncio.Event()
    first = asyncio.create_task(caller.patch(path, 0, then_silent([CONTENT[:HALF]], over)))
    await until(lambda: not first.done())
    while (second := await caller.patch(path, HALF, CONTENT[HALF:])).status == 409:
        pass  # the first has not begun yet
    assert second.status == 423
    monkeypatch.setattr(tus_append, "STALE", 0.0)
    if (await caller.patch(path, HALF, CONTENT[HALF:])).status == 409:  # the first was cut before all of its bytes came
        at = await caller.offset(path)
        assert at < HALF
        assert (await caller.patch(path, at, CONTENT[at:])).status == 204
    assert (await first).status == 423
    over.set()
    assert await caller.has(CONTENT)


async def being_sent(
    caller: Tus, path: str, content: bytes, at: int = 0, **headers: str
) -> asyncio.Task[aiohttp.ClientResponse]:
    """A request that has brought this content, and does not end."""
    sending = asyncio.create_task(caller.patch(path, at, then_silent([content], asyncio.Event()), **headers))
    while (await caller.patch(path, at + 1, b"x")).status == 409:
        pass
    return sending


@pytest.mark.parametrize("checked", [False, True])
async def test_a_lost_connection_keeps_received_bytes_unless_they_are_unchecked(caller: Tus, checked: bool) -> None:
    path = await caller.created(CONTENT)
    await caller.patch(path, 0, CONTENT[:100])
    digest = base64.b64encode(hashlib.sha1(CONTENT[100:]).digest()).decode()  # noqa: S324 - what tus asks for
    headers = {"Upload_Checksum": f"sha1 {digest}"} if checked else {}
    sending = await being_sent(caller, path, CONTENT[100:HALF], 100, **headers)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    at = 100 if checked else HALF
    await caller.until_at(path, at)
    while (last := await caller.patch(path, at, CONTENT[at:], **headers)).status == 423:
        pass
    assert last.status == 204
    assert await caller.has(CONTENT)


async def test_an_upload_that_is_given_up_is_removed_and_its_sender_cut_off(caller: Tus, worker: RunningWorker) -> None:
    path = await caller.created(CONTENT)
    sending = await being_sent(caller, path, CONTENT[:HALF])
    assert (await caller.ask("DELETE", path)).status == 204
    assert (await sending).status == 423
    assert (await caller.ask("HEAD", path)).status == 404
    assert everything(worker.store.root) == []


async def test_a_waiter_restarts_an_upload(caller: Tus, worker: RunningWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    path, threads = await caller.created(CONTENT), threading.Event()
    upload = await worker.server.calls.uploads.find(Path(path).name)
    sending = asyncio.create_task(caller.patch(path, 0, then_silent([CONTENT[:HALF]], asyncio.Event())))
    await until(lambda: upload.sink is not None and upload.sink.size == HALF)
    for _ in range(4):  # so that the sender cannot leave at once
        worker.store.pool.submit(threads.wait, 20)
    monkeypatch.setattr(tus_append, "STALE", 0.0)
    given_up = asyncio.create_task(caller.ask("DELETE", path))
    await until(lambda: len(upload.lock._waiters or ()) == 1)
    later = asyncio.create_task(caller.patch(path, HALF, CONTENT[HALF:]))
    await until(lambda: len(upload.lock._waiters or ()) == 2)
    threads.set()
    assert [(await each).status for each in (given_up, sending, later)] == [204, 423, 404]
    assert (await caller.patch(await caller.created(CONTENT), 0, CONTENT)).status == 204


async def test_creation_can_bring_the_first_bytes_and_skips_those_that_are_here(caller: Tus) -> None:
    announced = {"Upload_Length": str(len(CONTENT)), "Upload_Metadata": metadata(CONTENT), "Content_Type": BODY}
    first = await caller.ask("POST", data=CONTENT[:HALF], **announced)
    assert (first.status, first.headers["Upload-Offset"]) == (201, str(HALF))
    whole = await caller.ask("POST", data=CONTENT, **announced)
    assert (whole.status, whole.headers["Upload-Offset"]) == (201, str(len(CONTENT)))
    assert await caller.has(CONTENT)


async def test_the_method_may_stand_in_a_header(caller: Tus) -> None:
    path = await caller.created(CONTENT)
    sent = {"Content_Type": BODY, "Upload_Offset": "0", "X_HTTP_Method_Override": "PATCH"}
    assert (await caller.ask("POST", path, CONTENT, **sent)).status == 204
    assert (await caller.ask("POST", path, X_HTTP_Method_Override="DELETE")).status == 204


@pytest.mark.parametrize(
    ("size", "status", "word"), [(None, 507, "no_space"), (len(CONTENT) - 1, 413, "too_large")], ids=["now", "ever"]
)
async def test_an_upload_over_the_free_space_is_refused_before_it_starts(
    caller: Tus, monkeypatch: pytest.MonkeyPatch, size: int | None, status: int, word: str
) -> None:
    await caller.patch(await caller.created(CONTENT), 0, CONTENT[:HALF])  # as much again is as good as taken
    monkeypatch.setattr(FileStore, "free", lambda _: len(CONTENT) + HALF - 1)
    if size is not None:
        monkeypatch.setattr(FileStore, "size", lambda _: size)
    response = await caller.ask("OPTIONS")
    assert response.headers["Tus-Max-Size"] == str(len(CONTENT) - 1)
    content = CONTENT[::-1]
    async with caller.session.post(
        f"{caller.url}/files/",
        headers={"Upload-Length": str(len(content)), "Upload-Metadata": metadata(content)},
    ) as refused:
        reply = await refused.json()
    assert (refused.status, reply["error"]) == (status, word)
    assert f"{len(CONTENT) - 1} bytes" in reply["msg"]


@pytest.mark.parametrize("by", ["tus", "form"])
@pytest.mark.parametrize(("unused_for", "times"), [(2 * 3600, 1), (60, 1), (2 * 3600, 3)])
async def test_files_unused_for_an_hour_are_removed_only_if_the_upload_then_fits(
    tmp_path: Path, by: str, unused_for: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    coming = CONTENT * times
    config = WorkerConfig(tmp_path, idle_engine(), SECRET, port=0, retention=Retention(spare=0))
    async with running_worker(config) as worker, tus(worker.address, SECRET) as caller:
        files = worker.store.root / "files"
        old, older = files / f"{'0' * 32}.mp4", files / f"{'1' * 32}.mp4"
        for path, age in ((old, unused_for), (older, unused_for + 1)):
            path.write_bytes(bytes(len(CONTENT)))
            os.utime(path, (time.time() - age,) * 2)
        disk = len(CONTENT) * 2 + 1000  # the form has some bytes more than the file
        monkeypatch.setattr(FileStore, "free", lambda _: disk - sum(path.stat().st_size for path in files.iterdir()))
        if by == "tus":
            created = await caller.create(coming)
            assert older.exists(), "for words alone nothing goes"
            status = created.status
            if status == 201:
                status = (await caller.patch(f"/files/{created.headers['Location']}", 0, coming)).status
        else:
            form = aiohttp.FormData({"hash": blake3(coming).hexdigest(), "ext": ".mp4"})
            form.add_field("file", coming, filename="film.mp4")
            status = (await caller.ask("POST", "/api/heygem/upload_file", form)).status
    makes_room = unused_for > 3600 and times == 1
    assert (status == {"tus": 204, "form": 200}[by]) is makes_room
    assert (old.exists(), older.exists()) == (True, not makes_room)


async def test_unfinished_uploads_are_counted_and_the_longest_idle_make_room(
    caller: Tus, worker: RunningWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOADS", 2)
    first, second = await caller.created(b"1"), await caller.created(b"2")
    assert (await caller.create(b"3")).status == 503
    now = worker.server.calls.uploads.clock() + uploads.IDLE
    monkeypatch.setattr(worker.server.calls.uploads, "clock", lambda: now)
    assert (await caller.create(b"3")).status == 201
    assert [(await caller.ask("HEAD", path)).status for path in (first, second)] == [404, 200]


async def test_an_abandoned_upload_expires(caller: Tus, worker: RunningWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, path = await caller.created(b"kept"), await caller.created(CONTENT)
    await caller.patch(path, 0, CONTENT[:HALF])
    now = worker.server.calls.uploads.clock() + upload_records.KEPT - 60
    monkeypatch.setattr(worker.server.calls.uploads, "clock", lambda: now)
    await caller.patch(kept, 0, b"ke")
    now += 120
    assert await worker.server.calls.uploads.expire() == 1
    assert (await caller.ask("HEAD", path)).status == 404
    assert await caller.offset(kept) == 2


async def test_a_full_disk_is_reported_and_received_bytes_stay(caller: Tus, monkeypatch: pytest.MonkeyPatch) -> None:
    content = CONTENT * (3 * BATCH // len(CONTENT))
    path = await caller.created(content)
    write = HashingWriter.write

    def full(self: HashingWriter, batch: list[bytes]) -> None:
        if self.written >= BATCH:
            raise OSError(28, "No space left on device")
        write(self, batch)

    monkeypatch.setattr(HashingWriter, "write", full)
    assert (await caller.patch(path, 0, io.BytesIO(content))).status == 507
    monkeypatch.undo()
    offset = await caller.offset(path)
    assert 0 < offset < len(content)
    assert (await caller.patch(path, offset, io.BytesIO(content[offset:]))).status == 204
    assert await caller.has(content)


async def test_stored_bytes_are_reported_to_a_silent_sender(caller: Tus, monkeypatch: pytest.MonkeyPatch) -> None:
    content = blake3(b"x").digest(length=2 * BATCH + 1000)
    written, writing = HashingWriter.write, threading.Event()

    def held_up(self: HashingWriter, batch: list[bytes]) -> None:
        assert writing.wait(20)
        written(self, batch)

    monkeypatch.setattr(HashingWriter, "write", held_up)
    taken, add = asyncio.Event(), HashingWriter.add

    async def added(self: HashingWriter, block: bytes) -> None:
        await add(self, block)
        if self.size - self._batched >= 2 * BATCH:
            taken.set()

    monkeypatch.setattr(HashingWriter, "add", added)
    path, over = await caller.created(content), asyncio.Event()
    blocks = [content[at : at + BATCH] for at in range(0, 2 * BATCH, BATCH)]
    sending = asyncio.create_task(caller.patch(path, 0, then_silent([*blocks, content[2 * BATCH :]], over)))
    await taken.wait()
    assert await caller.offset(path) == 0
    writing.set()
    await caller.until_at(path, 2 * BATCH)
    over.set()
    assert (await sending).status == 204
    assert await caller.has(content)


async def test_the_last_byte_counts_only_when_its_sender_is_done(caller: Tus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "LATEST", 0.0)
    path, over = await caller.created(CONTENT), asyncio.Event()
    sending = asyncio.create_task(caller.patch(path, 0, then_silent([CONTENT], over)))
    await caller.until_at(path, len(CONTENT) - 1)
    assert await caller.offset(path) == len(CONTENT) - 1
    over.set()
    assert (await sending).status == 204
    assert await caller.offset(path) == len(CONTENT)


async def test_a_restart_finds_the_uploads_where_they_were(tmp_path: Path) -> None:
    said = {"Upload_Metadata": metadata(CONTENT) + ",private"}
    async with at_work(tmp_path) as (_, caller):
        path = await caller.created(CONTENT, **said)
        await caller.patch(path, 0, CONTENT[:HALF])
        done = await caller.created(b"done")
        await caller.patch(done, 0, b"done")
    (tmp_path / "uploads" / "rubbish.json").write_text("{")
    async with at_work(tmp_path) as (_, caller):
        assert await caller.offset(done) == 4
        assert await caller.created(CONTENT) == path
        looked = (await caller.ask("HEAD", path)).headers
        assert (looked["Upload-Offset"], looked["Upload-Metadata"]) == (str(HALF), said["Upload_Metadata"])
        assert (await caller.patch(path, HALF, CONTENT[HALF:])).status == 204
        assert await caller.has(CONTENT)
        assert not (tmp_path / "uploads" / "rubbish.json").exists()


async def test_a_restart_removes_what_a_kill_in_the_middle_of_a_removal_left(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (_, caller):
        kept, path = await caller.created(b"kept"), await caller.created(CONTENT)
        await caller.patch(path, 0, CONTENT[:HALF])
    folder = tmp_path / "uploads"
    (folder / f"{Path(path).name}.json").unlink()
    (folder / f"{'0' * 32}.new").touch()
    async with at_work(tmp_path) as (_, caller):
        assert await caller.offset(kept) == 0
        assert {one.stem for one in folder.iterdir()} == {Path(kept).name}


async def test_a_complete_upload_is_verified_on_the_next_request(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (_, caller):
        good, bad = await caller.created(CONTENT), await caller.created(b"another")
    for path, content in ((good, CONTENT), (bad, b"not thi")):
        (tmp_path / "uploads" / f"{path.rpartition('/')[2]}.part").write_bytes(content)
    async with at_work(tmp_path) as (_, caller):
        assert (await caller.create(CONTENT)).status == 201
        assert await caller.offset(good) == len(CONTENT)
        assert await caller.has(CONTENT)
        assert (await caller.ask("HEAD", bad)).status == 460
        assert (await caller.ask("HEAD", bad)).status == 404


async def test_a_short_body_is_the_senders_error_and_its_bytes_stay(caller: Tus, worker: RunningWorker) -> None:
    path = await caller.created(CONTENT)
    host, port = worker.address.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nTus-Resumable: 1.0.0\r\n"
        f"Content-Type: {BODY}\r\nUpload-Offset: 0\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
    )
    writer.write(head.encode() + CONTENT[:HALF])
    await writer.drain()
    writer.close()
    await caller.until_at(path, HALF)


async def test_many_senders_of_one_file_end_with_one_file(caller: Tus, worker: RunningWorker) -> None:
    async def send() -> None:
        while True:
            path = await caller.created(CONTENT)
            offset = await caller.offset(path)
            if offset == len(CONTENT):
                return
            with contextlib.suppress(aiohttp.ClientError):
                await caller.patch(path, offset, CONTENT[offset : offset + 1000])

    await asyncio.gather(*(send() for _ in range(5)))
    assert [path.read_bytes() for path in (worker.store.root / "files").iterdir()] == [CONTENT]
