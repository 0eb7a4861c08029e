"""Ctrl-C in every stage, and worse: the job is stopped everywhere, the GPU is given back, nothing half-done stays."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.support.field.house import field
from tests.support.field.worker import cache_key, md5, rendered
from tests.support.programs.client_scene import Ran, Running, User
from tests.support.programs.our_peers import Joining, Place, held, until
from wakestream.adapters.disk import hashing_writer as sink
from wakestream.adapters.hub.server import HubServer
from wakestream.adapters.worker.task_queue import TaskQueue

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process there")

LARGE = 64 * 1024 * 1024
"""Bytes that no pair of socket buffers holds."""


def assert_stopped(ran: Ran, user: User) -> None:
    assert (ran.code, ran.last["event"]) == (130, "cancelled"), ran
    assert "Traceback" not in ran.err
    assert user.left() == set()


async def nothing_held(hub: HubServer) -> None:
    """Returns when the hub has taken in what the client said last."""
    await until(lambda: not held(hub) and hub.connections == 0)


@asynccontextmanager
async def granted(user: User, place: Place, engine: Joining) -> AsyncIterator[tuple[HubServer, Running]]:
    """One of our jobs that runs, with the GPU on."""
    async with place.hub() as hub:
        async with place.worker(engine), user.submits() as job:
            yield hub, job
        await nothing_held(hub)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_during_the_wait_releases_the_job_at_the_hub(
    user: User, place: Place, number: signal.Signals
) -> None:
    async with place.hub() as hub:
        async with user.submits("--job-id", "job-1") as job:
            await job.event("queued")
            assert held(hub) == ["job-1"]
            job.process.send_signal(number)
            assert_stopped(await job.ended(), user)
        await nothing_held(hub)


async def test_an_interrupt_before_any_connection_ends_it(user: User) -> None:
    user.environment |= {"API_SERVER_URL": "http://127.0.0.1:9", "WAKESTREAM_KEY": "any-key-0123456789"}
    async with user.submits() as job:
        await job.event("waking", phase="hub_unreachable")
        job.interrupt()
        assert_stopped(await job.ended(), user)


async def test_the_next_run_resumes_an_upload(user: User, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, add = asyncio.Event(), sink.HashingWriter.add

    async def slowly(one: sink.HashingWriter, block: bytes) -> None:
        if one.written:
            await go_on.wait()
        await add(one, block)

    monkeypatch.setattr(sink.HashingWriter, "add", slowly)
    with user.video.open("wb") as file:
        file.truncate(LARGE)
    uploads = place.folder / "worker" / "uploads"
    async with granted(user, place, Joining()) as (hub, job):
        await until(lambda: any(path.stat().st_size for path in uploads.glob("*.part")))
        job.interrupt()
        assert_stopped(await job.ended(), user)
        go_on.set()
        names = [path.name for path in (place.folder / "worker" / "files").iterdir()]
        assert all(name.endswith(user.audio.suffix) for name in names), "only the small file is whole"
        await until(lambda: held(hub) == [])
        ran = await user.submit()
        [uploaded] = ran.all("uploaded")
        assert ran.code == 0
        assert 0 < uploaded["saved"] < uploaded["sent"] + uploaded["saved"] == LARGE + user.audio.stat().st_size


async def test_in_the_render_the_workers_task_is_stopped(user: User, place: Place) -> None:
    engine = Joining(held=True)
    async with granted(user, place, engine) as (hub, job):
        await job.event("running", status="synthesizing")
        job.interrupt()
        assert_stopped(await job.ended(), user)
        await engine.stopped.wait()
        await until(lambda: held(hub) == [])


async def slow(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"half")
    await asyncio.Event().wait()
    return response


async def test_an_interrupted_download_leaves_no_result(user: User) -> None:
    async with field(user) as (hub, worker):
        worker.http.before["download"] = slow
        async with user.submits() as job:
            await job.event("downloading")
            job.interrupt()
            assert_stopped(await job.ended(), user)
        assert hub.faults == worker.http.faults == []


async def test_a_second_ctrl_c_ends_at_once(user: User, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on, drop = asyncio.Event(), asyncio.Event(), TaskQueue.drop

    async def slowly(*arguments: Any) -> Any:
        asked.set()
        await go_on.wait()
        return await drop(*arguments)

    monkeypatch.setattr(TaskQueue, "drop", slowly)
    async with granted(user, place, Joining(held=True)) as (_, job):
        await job.event("running", status="synthesizing")
        job.interrupt()
        await asked.wait()
        job.interrupt()
        ran = await job.ended()
        go_on.set()
        assert ran.code == 130
        assert "Traceback" not in ran.err
        assert user.left() == set()


async def test_killed_in_the_download_the_result_is_the_old_one_or_none(user: User) -> None:
    async with field(user) as (_, worker):
        audio, video = user.audio.read_bytes(), user.video.read_bytes()
        worker.results[cache_key(md5(audio), md5(video))] = rendered(audio, video)  # so all jobs are of one task
        worker.http.before["download"] = slow
        for old in (None, b"an older result"):
            if old is not None:
                user.out.write_bytes(old)
            async with user.submits() as job:
                await job.event("downloading", bytes=0)
                job.process.kill()
                assert (await job.ended()).code == -signal.SIGKILL
            assert (user.out.read_bytes() if user.out.exists() else None) == old
        del worker.http.before["download"]
        assert (await user.submit()).code == 0
        assert user.left() == {"out.mp4"}


async def test_a_closed_output_pipe_ends_the_job(user: User, place: Place) -> None:
    async with place.hub() as hub:
        async with user.submits("--line-every", "0.05") as job:
            await job.event("queued")
            job.close_output()
            ran = await job.ended()
            assert ran.code == 1
            assert "Traceback" not in ran.err
        await nothing_held(hub)
