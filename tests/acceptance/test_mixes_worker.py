"""Our worker among deployed parts: what each mix does, with peers that behave as the field's do."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect

from tests.support.field.desktop import DesktopLimits, FieldDesktop
from tests.support.field.frames import dsp
from tests.support.field.hub import FieldHub, field_hub
from tests.support.field.monitor import FieldCloud, MonitorTimes, field_monitor
from tests.support.field.phone import field_phone
from tests.support.field.text_worker import field_text_worker
from tests.support.mixes import comes_into, idles, our_monitor
from tests.support.ports import free_port
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon
from tests.support.programs.hub_scene import Peer
from tests.support.programs.our_peers import SECRET, Joining, Place, gpu_online, until
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.worker import hub_session as worker_hub
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.http import progress_socket, replies
from wakestream.adapters.worker.program import RunningWorker, running_worker

KEY = "field-license-0001"
QUICK = replace(DesktopLimits(), health_every=0.2, poll_every=0.05)
MONITOR = replace(MonitorTimes().scaled(0.001), idle=600.0)
"""Quick in all that it does, but it does not stop the machine by itself."""


@asynccontextmanager
async def client(hub: FieldHub) -> AsyncIterator[Peer]:
    async with connect(dsp(hub.url), ping_interval=None) as socket:
        one = Peer(socket)
        await one.send(type="register", key=KEY)
        await one.first("registered")
        yield one


@asynccontextmanager
async def at_hub(
    folder: Path, hub: FieldHub, engine: Joining | None = None, *, secret: str | None = SECRET, port: int = 0
) -> AsyncGenerator[RunningWorker, None]:
    config = WorkerConfig(folder / "worker", engine or Joining(), secret, port=port, gpu="gpu-7", key="not known there")
    linked = running_worker(config, lambda register: Link(dsp(hub.url), register))
    async with linked as worker:
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
            await one.send(type="gpu.job.submit", **task)
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


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setattr(progress_socket, "LOOK_EVERY", 0.01)
    video, audio = tmp_path / "v.mp4", tmp_path / "a.wav"
    video.write_bytes(b"film" * 500)
    audio.write_bytes(b"tone" * 500)
    return video, audio


def joined(files: tuple[Path, Path]) -> bytes:
    return files[0].read_bytes() + files[1].read_bytes()


async def test_a_deployed_desktop_and_hub_render_on_our_worker(tmp_path: Path, files: tuple[Path, Path]) -> None:
    async with field_hub() as hub, at_hub(tmp_path, hub) as worker:
        desktop = FieldDesktop(hub.url, worker.address, SECRET, KEY, limits=QUICK)
        assert await desktop.render(*files) == joined(files)
        await hub.until(lambda: len(hub.said("gpu.task.progress", key=KEY)) == 2)
        assert [one["status"] for one in hub.said("gpu.task.progress")] == ["processing", "done"]
    assert not desktop.polled
    assert hub.faults == []


async def test_a_deployed_desktop_and_monitor_start_our_worker(
    tmp_path: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_hub, "ACTIVE_EVERY", 0.05)
    engine, port = Joining(held=True), free_port()
    async with field_hub() as hub, AsyncExitStack() as machine:

        async def start() -> None:
            await machine.enter_async_context(at_hub(tmp_path, hub, engine, port=port))

        cloud = FieldCloud(on_start=start)
        async with field_monitor(hub.url, cloud, times=MONITOR) as monitor:
            limits = replace(QUICK, hub_silence=20.0, health_every=60.0)  # it goes by what the hub says
            desktop = FieldDesktop(hub.url, f"http://127.0.0.1:{port}", SECRET, KEY, limits)
            await until(lambda: monitor.status == "stopped")  # its first look at the cloud
            rendering = asyncio.create_task(desktop.render(*files))
            before = len(monitor.heard.all)
            await monitor.heard.wait("gpu.task.active", 3)
            used = monitor.used
            await monitor.heard.wait("gpu.task.active", 6)
            assert monitor.used > used
            assert len(monitor.heard.all) > before
            engine.go_on.set()
            assert await rendering == joined(files)
            assert (desktop.went_on_by, desktop.boots, cloud.starts, cloud.stops) == ("hub", 1, 1, 0)


async def test_our_monitor_runs_our_worker_at_the_deployed_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = asyncio.Semaphore(0)
    health = replies.health

    def counted(**reply: Any) -> Any:
        looks.release()
        return health(**reply)

    monkeypatch.setattr(replies, "health", counted)
    store = tmp_path / "worker" / "files"
    store.mkdir(parents=True)
    for name in ("a" * 32 + ".mp4", "b" * 32 + ".wav"):
        (store / name).write_bytes(b"content")
    engine, loop, port = Joining(held=True), asyncio.get_running_loop(), free_port()
    async with field_hub() as hub, AsyncExitStack() as machine, client(hub) as one:

        async def start() -> None:
            await machine.enter_async_context(at_hub(tmp_path, hub, engine, port=port))

        cloud, url = FieldCloud(on_start=start, on_stop=machine.aclose), f"http://127.0.0.1:{port}"
        async with our_monitor(dsp(hub.url), cloud, url, query_timeout=0.5) as monitor:
            await comes_into(monitor, "off")
            job = {"task_type": "heygem_submit", "payload": {"video_hash": "a" * 32, "audio_hash": "b" * 32}}
            await one.send(type="gpu.job.submit", request_id="r1", **job)
            assert (await one.first("gpu.job.result"))["result"]["queue"]["total_tasks"] == 1
            idles(monitor, 1.0)
            end = loop.time() + 2.0
            while loop.time() < end:
                await looks.acquire()
            assert cloud.stops == 0
            engine.go_on.set()
            await cloud.stopped.wait()
            assert (cloud.starts, cloud.stops, monitor.entered["online"]) == (1, 1, 1)
    assert hub.faults == []


async def test_desktops_without_a_secret_use_a_worker_that_needs_none(tmp_path: Path, files: tuple[Path, Path]) -> None:
    async with field_hub() as hub, at_hub(tmp_path, hub, secret=None) as worker:
        desktop = FieldDesktop(hub.url, worker.address, license_key=KEY, limits=QUICK)
        assert await desktop.render(*files) == joined(files)
    assert not desktop.polled


async def test_a_phone_follows_a_task_that_the_deployed_hub_started(tmp_path: Path) -> None:
    async with field_hub() as hub, at_hub(tmp_path, hub) as worker, field_phone(hub.url, KEY, poll=0.01) as phone:
        payload = {"video_hash": await sent(worker, "v.mp4", b"film"), "audio_hash": await sent(worker, "a.wav", b"a")}
        (peer,) = [peer for peer in hub.peers.values() if "worker" in peer.roles]
        job = {"request_id": "heygem_1", "task_type": "heygem_submit", "key": KEY, "sender_fd": 0}
        await peer.say({"type": "gpu.job.submit", **job, "payload": {**payload, "task_id": "heygem_1"}})
        await phone.heard.wait("gpu.job.result", request_id="heygem_1")
        done = await phone.follow(worker.address, "heygem_1", SECRET)
        assert (done["status"], done["progress"], done["error"]) == ("done", 100, "")


async def test_a_deployed_text_worker_goes_on_beside_our_worker_at_the_deployed_hub(tmp_path: Path) -> None:
    async with field_hub() as hub, field_text_worker(hub.url), at_hub(tmp_path, hub) as worker:
        desktop = FieldDesktop(hub.url, worker.address, SECRET, KEY, limits=QUICK)
        async with desktop.texts() as texts:
            assert await texts.text_of("https://video.test/1") == "text of https://video.test/1"


async def test_three_jobs_of_our_daemon_are_done_by_our_worker_at_the_deployed_hub(tmp_path: Path, user: User) -> None:
    async with field_hub() as hub, at_hub(tmp_path, hub) as worker:
        settings = {"API_SERVER_URL": hub.url, "HEYGEM_SERVER_URL": worker.address, "HEYGEM_API_SECRET": SECRET}
        (user.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (user.folder / ".license").touch(mode=0o600)
        (user.folder / ".license").write_text(KEY)
        async with daemon(user) as api:
            for name in ("one", "two", "three"):
                voice = user.folder / f"{name}.wav"
                voice.write_bytes(name.encode() * 100)
                files = {"video": str(user.video), "audio": str(voice), "output": str(user.folder / f"{name}.mp4")}
                assert (await api.ask("POST", "/api/jobs", {"id": name, **files}))[0] == 201
            for name in ("one", "two", "three"):
                assert (await api.outcome(name))["event"] == "done"
        assert len(worker.queue.state.tasks) == 3
    assert hub.faults == []


async def test_our_hub_informs_a_phone_of_a_render_of_its_key(tmp_path: Path, files: tuple[Path, Path]) -> None:
    us = Place(tmp_path / "us")
    async with us.hub() as hub, us.worker(Joining()) as worker, field_phone(hub.url, us.keys["client"]) as phone:
        await gpu_online(hub)
        desktop = FieldDesktop("http://127.0.0.1:9", worker.address, SECRET, us.keys["client"], limits=QUICK)
        assert await desktop.render(*files) == joined(files)
        done = await phone.heard.wait("gpu.task.progress", status="done")
        assert (done["progress"], "key" in done) == (100, False)
