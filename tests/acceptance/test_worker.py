"""The whole worker on loopback with the real ffmpeg, used as the field's clients use it and as ours do."""

import asyncio
import hashlib
import io
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import imageio_ffmpeg
import pytest
from blake3 import blake3

from tests.support.programs.any_kind_scene import Joining
from tests.support.programs.our_peers import until
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.engines import Ffmpeg
from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.adapters.worker import program as worker_program
from wakestream.adapters.worker import task_queue
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import RunningWorker, running_worker
from wakestream.operators.model.engine import Engine, Frame, Line, Made, Readiness, Work
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WorkerUnreachable
from wakestream.streams.worker.state import TaskSpec

SECRET = "open-sesame-0123456789"
AUTHORIZATION = {"Authorization": f"Bearer {SECRET}"}
SECONDS = 1.7


def ffmpeg(*arguments: str) -> str:
    """Run the real ffmpeg; returns what it says."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False).stderr


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of 65 x 49 pixels: shorter than the audio, and odd on both sides."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    source = "testsrc2=size=128x96:rate=25:duration=1"
    ffmpeg("-f", "lavfi", "-i", source, "-vf", "scale=65:49,format=yuv444p", "-c:v", "libx264", str(path))
    assert "65x49" in ffmpeg("-i", str(path))
    return path


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "sound.wav"
    ffmpeg("-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}", str(path))
    return path


class Caller:
    """A client of the worker's HTTP side."""

    def __init__(self, worker: RunningWorker, session: aiohttp.ClientSession) -> None:
        self.worker, self.session = worker, session

    async def call(self, method: str, name: str, *, status: int = 200, **options: Any) -> dict[str, Any]:
        async with self.session.request(method, f"{self.worker.address}/api/heygem/{name}", **options) as response:
            reply: dict[str, Any] = await response.json()
        assert response.status == status, reply
        assert reply["code"] == (0 if status == 200 else status)
        return reply

    async def data(self, method: str, name: str, **options: Any) -> dict[str, Any]:
        data: dict[str, Any] = (await self.call(method, name, **options))["data"]
        return data

    async def finished(self, task_id: str) -> dict[str, Any]:
        async with asyncio.timeout(100):
            while True:
                report = await self.data("GET", f"progress?task_id={task_id}")
                if report["status"] in ("done", "error"):
                    return report
                await asyncio.sleep(0)

    async def upload(self, path: Path, digest: str, *, status: int = 200, last: bool = False) -> dict[str, Any]:
        form = aiohttp.FormData()
        fields = {"hash": digest, "ext": path.suffix}
        if last:
            form.add_field("file", path.read_bytes(), filename=path.name)
        for name, value in fields.items():
            form.add_field(name, value)
        if not last:
            form.add_field("file", path.read_bytes(), filename=path.name)
        return await self.call("POST", "upload_file", data=form, status=status)


@asynccontextmanager
async def at_work(state: Path, engine: Engine, **more: Any) -> AsyncGenerator[Caller, None]:
    config = WorkerConfig(state=state, engine=engine, secret=SECRET, port=0, **more)
    async with running_worker(config) as worker, aiohttp.ClientSession(headers=AUTHORIZATION) as session:
        yield Caller(worker, session)


@pytest.fixture
async def caller(tmp_path: Path) -> AsyncGenerator[Caller, None]:
    async with at_work(tmp_path, Ffmpeg(limit=30)) as caller:
        yield caller


def digest_of(path: Path, algorithm: str) -> str:
    content = path.read_bytes()
    return blake3(content).hexdigest() if algorithm == "blake3" else hashlib.md5(content).hexdigest()  # noqa: S324


def pair(clip: Path, sound: Path, algorithm: str = "md5") -> dict[str, str]:
    return {
        "video_hash": digest_of(clip, algorithm),
        "video_ext": clip.suffix,
        "audio_hash": digest_of(sound, algorithm),
        "audio_ext": sound.suffix,
    }


def assert_plays(path: Path, seconds: float) -> None:
    said = ffmpeg("-i", str(path), "-f", "null", "-")
    found = re.search(r"Duration: (\d+):(\d+):([\d.]+)", said)
    assert found is not None, said
    length = int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
    assert abs(length - seconds) <= 0.2
    assert re.search(r"Stream #0:\d.*Video: h264.*yuv420p.*66x50", said)
    assert re.search(r"Stream #0:\d.*Audio: aac", said)
    assert "Error" not in said


@pytest.mark.parametrize("algorithm", ["md5", "blake3"])
async def test_files_are_uploaded_rendered_and_downloaded(
    caller: Caller, clip: Path, sound: Path, tmp_path: Path, algorithm: str
) -> None:
    body = pair(clip, sound, algorithm)
    video, audio = body["video_hash"], body["audio_hash"]
    asked = {"files": [{"hash": video, "ext": clip.suffix}, {"hash": audio, "ext": sound.suffix}]}
    assert await caller.data("POST", "check_files", json=asked) == {video: False, audio: False}
    assert (await caller.upload(clip, video))["data"] == {"hash": video, "server_path": f"files/{video}.mkv"}
    await caller.upload(sound, audio, last=True)
    assert await caller.data("POST", "check_files", json=asked) == {video: True, audio: True}

    receipt = await caller.data("POST", "submit", json={**body, "license_key": "old", "sender_fd": 3})
    assert "cached" not in receipt
    report = await caller.finished(receipt["task_id"])
    assert (report["status"], report["progress"], report["error"]) == ("done", 100, "")
    assert report["total_frames"] == report["current_frame"]
    assert abs(report["total_frames"] - SECONDS * 25) <= 2
    assert report["created_at"] <= report["started_at"] <= report["finished_at"]

    again = await caller.data("POST", "submit", json=body)
    assert (again["task_id"], again["cached"]) == (receipt["task_id"], True)
    async with caller.session.get(
        f"{caller.worker.address}/api/heygem/download?task_id={again['task_id']}"
    ) as response:
        content = await response.read()
    assert response.content_length == len(content)
    assert response.headers["ETag"] == f'"{blake3(content).hexdigest()}"'
    assert response.headers["Content-Disposition"] == f"inline; filename={again['task_id']}.mp4"
    (tmp_path / "home.mp4").write_bytes(content)
    assert_plays(tmp_path / "home.mp4", SECONDS)


async def test_upload_and_submit_go_in_one_call(caller: Caller, clip: Path, sound: Path) -> None:
    form = aiohttp.FormData()
    form.add_field("audio", sound.read_bytes(), filename="My Voice.WAV")
    form.add_field("video", clip.read_bytes(), filename="../../etc/clip.mkv")
    receipt = await caller.data("POST", "upload", data=form)
    assert (await caller.finished(receipt["task_id"]))["status"] == "done"
    known = {"files": [{"hash": digest_of(sound, "md5"), "ext": ".wav"}]}
    assert set((await caller.data("POST", "check_files", json=known)).values()) == {True}


async def test_a_video_without_sound_for_an_audio_fails_with_ffmpegs_own_words(caller: Caller, clip: Path) -> None:
    digest = digest_of(clip, "blake3")
    await caller.upload(clip, digest)
    body = {"video_hash": digest, "video_ext": ".mkv", "audio_hash": digest, "audio_ext": ".mkv"}
    receipt = await caller.data("POST", "submit", json=body)
    report = await caller.finished(receipt["task_id"])
    assert report["status"] == "error"
    assert "ffmpeg" in report["error"]
    assert "matches no streams" in report["error"]
    refused = await caller.call("GET", f"download?task_id={receipt['task_id']}", status=409)
    assert "matches no streams" in refused["msg"]


async def test_a_result_comes_in_parts_and_is_not_sent_twice(caller: Caller, clip: Path, sound: Path) -> None:
    for path in (clip, sound):
        await caller.upload(path, digest_of(path, "blake3"))
    task_id = (await caller.data("POST", "submit", json=pair(clip, sound, "blake3")))["task_id"]
    await caller.finished(task_id)
    url = f"{caller.worker.address}/api/heygem/download?task_id={task_id}"

    async def get(**headers: str) -> tuple[int, bytes, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with caller.session.get(url, headers=named) as response:
            return response.status, await response.read(), response.headers["ETag"]

    _, whole, tag = await get()
    assert await get(Range="bytes=100-") == (206, whole[100:], tag)
    assert await get(Range="bytes=100-199", If_Range=tag) == (206, whole[100:200], tag)
    assert await get(Range="bytes=100-", If_Range='"another"') == (200, whole, tag)
    assert await get(If_None_Match=tag) == await get(If_None_Match="*") == (304, b"", tag)
    assert await get(Range="bytes=100-", If_Match=f'"another", {tag}') == (206, whole[100:], tag)
    assert await get(Range="bytes=100-", If_Match='"another"') == (412, b"", tag)
    assert (await get(Range=f"bytes={len(whole)}-"))[0] == 416
    # What is no one part is the whole: RFC 9110, 14.2 and 15.3.7.
    assert await get(Range="bytes=0-1,5-6") == (200, whole, tag)
    assert await get(Range="lines=1-2") == (200, whole, tag)


async def test_a_file_stored_under_one_extension_is_missing_under_another(caller: Caller, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"film")
    digest = digest_of(film, "md5")
    await caller.upload(film, digest)
    for endings in ((".mp4", ".mov"), (".mov", ".mp4")):  # the answer knows them by their hash alone
        asked = {"files": [{"hash": digest, "ext": ext} for ext in endings]}
        assert await caller.data("POST", "check_files", json=asked) == {digest: False}


async def test_invalid_files_are_refused_and_removed(caller: Caller, clip: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    digest = digest_of(clip, "md5")
    for last in (False, True):
        refused = await caller.upload(clip, "0" * 64, status=400, last=last)
        assert (refused["error"], "hash" in refused["msg"]) == ("corrupt", True)
    assert "empty" in (await caller.upload(empty, hashlib.md5(b"").hexdigest(), status=400))["msg"]  # noqa: S324
    assert "hash" in (await caller.upload(clip, " ", status=400))["msg"]
    odd = tmp_path / "clip.m!v"
    odd.write_bytes(b"x")
    assert "such as" in (await caller.upload(odd, digest, status=400))["msg"]
    store = caller.worker.store
    assert [path for path in store.root.rglob("*") if path.is_file() and path.parent != tmp_path] == []


async def test_a_disconnect_during_an_upload_leaves_no_file(caller: Caller, tmp_path: Path) -> None:
    host, port = caller.worker.address.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST /api/heygem/upload_file HTTP/1.1\r\nHost: w\r\nAuthorization: Bearer {SECRET}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="v.mp4"\r\n\r\n'
    )
    writer.write(head.encode() + bytes(3_000_000))
    await writer.drain()
    partials = tmp_path / "partial"
    await until(lambda: any(partials.iterdir()))
    assert (await caller.call("GET", "health"))["queue"]["transfers"] == 1
    writer.close()
    await until(lambda: not any(partials.iterdir()))
    assert not any((tmp_path / "files").iterdir())
    await caller.call("GET", "queue")


@pytest.mark.parametrize(
    ("disk", "status", "says"),
    [({"free": 10}, 507, "has room for 10 bytes"), ({"free": 10, "total": 20}, 413, "whole disk has 20 bytes")],
    ids=["now", "ever"],
)
async def test_an_upload_larger_than_the_free_space_is_refused_at_once(
    caller: Caller, clip: Path, monkeypatch: pytest.MonkeyPatch, disk: dict[str, int], status: int, says: str
) -> None:
    usage = shutil.disk_usage(clip)._replace(**disk)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert says in (await caller.upload(clip, digest_of(clip, "md5"), status=status))["msg"]


BAD_BODIES: list[tuple[str, bytes]] = [
    ("submit", b"{"),
    ("submit", b"[]"),
    ("submit", b"\xff\xfe"),
    ("submit", b"{}"),
    ("submit", b'{"video_hash": 7, "video_ext": ".mp4", "audio_hash": "x", "audio_ext": ".wav"}'),
    ("check_files", b'{"files": {}}'),
    ("check_files", b'{"files": [1]}'),
    ("check_files", b'{"files": [{"hash": "", "ext": ".mp4"}]}'),
    ("check_files", b'{"files": [{"hash": "%s", "ext": "/../x"}]}' % (b"a" * 32)),
    ("cancel", b"{}"),
    ("cancel", b'{"task_id": 7}'),
    ("cancel", b'{"task_id": "%s", "job_id": ""}' % (b"a" * 32)),
    ("upload_file", b"{}"),
    ("upload", b"no form"),
]


async def test_an_invalid_body_is_answered_with_the_expected_fields(caller: Caller) -> None:
    for name, body in BAD_BODIES:
        reply = await caller.call("POST", name, data=body, headers={"Content-Type": "application/json"}, status=400)
        assert len(reply["msg"]) > 20, (name, body)


async def test_a_stop_does_not_wait_for_a_refused_upload(tmp_path: Path) -> None:
    async with at_work(tmp_path, Ffmpeg()) as caller:
        host, _, port = caller.worker.address.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "POST /api/heygem/upload_file HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
        writer.write(head.encode() + b"x" * 1000)
        assert b" 401 " in await reader.readline()
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    writer.close()


async def test_a_picture_that_claims_a_monstrous_size_is_refused(caller: Caller, sound: Path, tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(2001 * 16000))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 16000, 16000, 1, 0, 0, 0, 0))
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    for path in (bomb, sound):
        await caller.upload(path, digest_of(path, "md5"))
    task_id = (await caller.data("POST", "submit", json=pair(bomb, sound)))["task_id"]
    assert (await caller.finished(task_id))["status"] == "error"


async def test_two_workers_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_program, "_LOCK_WITHIN", 0.05)
    async with at_work(tmp_path, Ffmpeg()):
        with pytest.raises(SettingsError, match="another worker uses"):
            async with at_work(tmp_path, Ffmpeg()):
                pass
    async with at_work(tmp_path, Ffmpeg()):
        pass


async def test_a_missing_state_folder_is_reported_to_the_sender(caller: Caller, clip: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path)
    reply = await caller.upload(clip, digest_of(clip, "md5"), status=500)
    assert "cannot write to its disk" in reply["msg"]


async def test_a_huge_body_is_refused(caller: Caller) -> None:
    body = io.BytesIO(b'{"files": "' + b"x" * (1024 * 1024) + b'"}')
    reply = await caller.call("POST", "check_files", data=body, status=413)
    assert "1 MiB" in reply["msg"]


async def test_unknown_tasks_files_calls_and_methods_are_named(caller: Caller, clip: Path, sound: Path) -> None:
    unknown = "a" * 32
    for call in (f"progress?task_id={unknown}", f"download?task_id={unknown}", "progress?task_id=../../x"):
        assert "no task" in (await caller.call("GET", call, status=404))["msg"]
    assert "task_id" in (await caller.call("GET", "progress", status=400))["msg"]
    assert "no task" in (await caller.call("POST", "cancel", json={"task_id": unknown}, status=404))["msg"]
    await caller.upload(clip, digest_of(clip, "md5"))
    missing = (await caller.call("POST", "submit", json=pair(clip, sound), status=404))["msg"]
    assert digest_of(sound, "md5") in missing
    assert digest_of(clip, "md5") not in missing
    assert "POST" in (await caller.call("GET", "submit", status=405))["msg"]
    assert "no call" in (await caller.call("GET", "nonsense", status=404))["msg"]


async def test_all_calls_but_health_need_the_secret(caller: Caller) -> None:
    for header in (None, "Bearer wrong", "Bearer", f"Basic {SECRET}", "Bearer \u00e9", f"{SECRET}0"):
        headers = {} if header is None else {"Authorization": header}
        url = f"{caller.worker.address}/api/heygem"
        async with aiohttp.ClientSession(headers=headers) as stranger:
            async with stranger.get(f"{url}/queue") as response:
                reply = await response.json()
            assert (response.status, reply["code"]) == (401, 401), header
            assert response.headers["WWW-Authenticate"].startswith("Bearer"), header
            assert SECRET not in str(reply), header
            async with stranger.get(f"{url}/health") as response:
                assert (await response.json())["code"] == 0, header


async def test_health_reports_readiness_and_features(tmp_path: Path) -> None:
    async with at_work(tmp_path, Ffmpeg(), warm_up=1000.0, gpu="gpu-7") as caller:
        health = await caller.call("GET", "health")
    assert (health["initialized"], health["msg"]) == (False, "warming up")
    assert health["features"] == [
        "blake3",
        "cancel",
        "inputs",
        "lists",
        "previews",
        "range",
        "small_files",
        "tus",
        "wait",
    ]
    numbers = {"total_tasks": 0, "processing": 0, "queued": 0, "max_concurrent": 1}
    assert health["queue"] == {**numbers, "running": None, "transfers": 0}
    async with at_work(tmp_path, Ffmpeg()) as caller:
        await until(lambda: caller.worker.server.calls.readiness.initialized)
        assert (await caller.call("GET", "health"))["initialized"] is True


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (WorkerUnreachable("its server is not up yet"), "its server is not up yet"),
        (TaskFailed("there is no caf\udce9.bin"), "there is no caf?.bin"),
        (KeyError("model"), "its check raised KeyError"),
    ],
)
async def test_a_failed_engine_check_is_reported_and_repeated(
    tmp_path: Path, fault: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Ffmpeg):
        checks = 0

        async def ready(self) -> Readiness:
            Slow.checks += 1
            if Slow.checks == 1:
                raise fault
            return await super().ready()

    monkeypatch.setattr(worker_program, "CHECK_UNREADY", 0.01)
    async with at_work(tmp_path, Slow()) as caller:
        seen: set[str] = set()

        def initialized() -> bool:
            seen.add(caller.worker.server.calls.readiness.msg)
            return caller.worker.server.calls.readiness.initialized

        await until(initialized)
    assert any(told in msg for msg in seen), seen


async def test_a_worker_whose_engine_comes_back_is_initialized_before_the_task_that_waited_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    class Restarted(Joining):
        down = False

        async def ready(self) -> Readiness:
            return Readiness(not self.down, "it starts")

        async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
            seen.append(readiness.initialized)
            if len(seen) == 1:
                self.down = True
                raise EngineUnreachable("it was restarted")
            async with aclosing(super().render(work)) as items:
                async for item in items:
                    yield item

    monkeypatch.setattr(worker_program, "CHECK_AGAIN", 0.01)
    monkeypatch.setattr(worker_program, "CHECK_UNREADY", 3600.0)  # only the queue looks
    monkeypatch.setattr(task_queue, "LOOK_EVERY", 0.01)
    async with at_work(tmp_path, engine := Restarted()) as caller:
        queue, readiness = caller.worker.queue, caller.worker.server.calls.readiness
        await until(lambda: readiness.initialized)
        await queue.ask(TaskSpec({}, "join", {}, ("whole",)))
        await until(lambda: not readiness.initialized)
        engine.down = False
        await until(lambda: len(seen) == 2)
    assert seen == [True, True]


async def test_an_idle_worker_restarts_an_engine_that_has_crashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "restarted"

    class Crashed(Joining):
        async def ready(self) -> Readiness:
            return Readiness(mark.exists(), "its model has crashed", crashed=True)

    monkeypatch.setattr(worker_program, "CHECK_UNREADY", 0.01)
    restart = (sys.executable, "-c", f"open({str(mark)!r}, 'x')")
    config = WorkerConfig(tmp_path / "worker", Crashed(), SECRET, port=0, watchdog=Watchdog(restart=restart))
    async with running_worker(config) as worker:
        await until(lambda: worker.server.calls.readiness.initialized)
