"""Workers that refuse, break off, disappear or come back in mid-job: what `submit` makes of them."""

import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.field.house import SECRET, field
from tests.support.field.worker import field_worker, rendered
from tests.support.programs.client_scene import User
from tests.support.programs.machine_scene import died
from tests.support.programs.our_peers import Joining, Place, held, until
from wakestream.adapters.cli.demo.processes import house
from wakestream.adapters.engines.samples import make_speech, make_video
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg

HELD = """#!/bin/sh
case "$*" in *-progress*)
  echo $$ > {render}.new; mv {render}.new {render}
  while [ -e {hold} ]; do sleep 0.05; done;;
esac
exec {ffmpeg} "$@"
"""
"""An ffmpeg that does not begin to render while a file is there. Its process id is in `render` before that."""

BODY = rendered(b"audio" * 500, b"video" * 1000)


class Once:
    """Answers the first `times` calls in its own way, and lets the others pass."""

    def __init__(self, answer: Callable[[web.Request], Awaitable[web.StreamResponse | None]], times: int = 1) -> None:
        self.answer, self.left = answer, times

    async def __call__(self, request: web.Request) -> web.StreamResponse | None:
        self.left -= 1
        return await self.answer(request) if self.left >= 0 else None


async def hang_up(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


async def half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(BODY))})
    await response.prepare(request)
    await response.write(BODY[:100])
    assert request.transport is not None
    request.transport.close()
    return response


async def test_a_connection_that_breaks_in_any_call_is_made_again(user: User) -> None:
    breaks = {call: Once(hang_up) for call in ("check_files", "upload_file", "submit", "progress", "download")}
    async with field(user) as (hub, worker):
        worker.http.before |= breaks
        ran = await user.submit()
        assert (ran.code, user.out.read_bytes()) == (0, BODY), ran
        assert [call for call, once in breaks.items() if once.left >= 0] == [], "each call was made again"
        assert hub.faults == worker.http.faults == []


async def test_a_truncated_result_is_fetched_again_and_never_stands_in_its_place(user: User) -> None:
    seen: list[set[str]] = []

    async def half_and_look(request: web.Request) -> web.StreamResponse:
        seen.append(user.left() & {"out.mp4"})
        return await half(request)

    async with field(user) as (_, worker):
        worker.http.before["download"] = Once(half_and_look, 2)
        ran = await user.submit()
        assert (ran.code, user.out.read_bytes(), user.left()) == (0, BODY, {"out.mp4"}), ran
        assert (seen, worker.http.calls["download"], worker.http.faults) == ([set(), set()], 3, [])


async def test_a_worker_that_never_is_initialized_is_named(user: User) -> None:
    async def loading(_: web.Request) -> web.Response:
        return web.json_response({"code": 0, "msg": "loading", "initialized": False, "queue": {}})

    async with field(user) as (_, worker):
        worker.http.before["health"] = loading
        ran = await user.submit("--ready-timeout", "0.3")
    assert (ran.code, ran.last["stage"]) == (3, "ready"), ran


async def test_a_wrong_secret_is_reported_with_its_setting(user: User) -> None:
    async with field(user):
        settings = user.folder / ".env"
        settings.write_text(settings.read_text() + "HEYGEM_API_SECRET=not-this-one-0123\n")
        ran = await user.submit()
    assert (ran.code, ran.last["code"]) == (2, "unauthorized"), ran
    assert "HEYGEM_API_SECRET" in ran.last["why"]
    assert "not-this-one" not in ran.out + ran.err


async def test_a_missing_worker_address_is_reported_with_its_setting(user: User) -> None:
    async with field(user):
        env = user.folder / ".env"
        env.write_text("\n".join(line for line in env.read_text().splitlines() if "HEYGEM_SERVER_URL" not in line))
        ran = await user.submit()
    assert (ran.code, ran.last["code"]) == (2, "no_worker"), ran
    assert "HEYGEM_SERVER_URL" in ran.last["why"]


async def test_a_failed_task_is_reported_with_the_workers_message(user: User) -> None:
    async def broken(_: web.Request) -> web.Response:
        data = {"task_id": "x", "status": "error", "progress": 20, "error": "CUDA out of memory"}
        return web.json_response({"code": 0, "data": data, "msg": "success"})

    async with field(user) as (_, worker):
        worker.http.before["progress"] = broken
        ran = await user.submit()
    assert (ran.code, ran.last["code"], ran.last["why"]) == (1, "task_failed", "CUDA out of memory")


@pytest.mark.parametrize("call", ["upload_file", "progress", "download"])
async def test_an_old_worker_that_restarts_empty_gets_all_files_again(user: User, call: str) -> None:
    reached = asyncio.Event()

    async def stuck(_: web.Request) -> None:
        reached.set()
        await asyncio.Event().wait()

    async with AsyncExitStack() as life, field(user, worker_life=life) as (_, first), user.submits() as job:
        first.http.before[call] = stuck
        await reached.wait()
        await life.aclose()
        async with field_worker(SECRET, port=int(first.url.rpartition(":")[2])) as second:
            ran = await job.ended()
            assert (ran.code, user.out.read_bytes()) == (0, BODY), ran
            assert second.http.faults == first.http.faults == []
            assert second.http.calls["upload_file"] == 2


async def test_our_worker_killed_in_the_render_restarts_and_finishes_the_job(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []

    def hear(_: str, line: str) -> None:
        pids.extend(int(found[1]) for found in [re.search(r"\[(\d+)\] wakestream worker listening", line)] if found)

    await make_video(user.video, 2, size="160x120")
    await make_speech(user.audio, 2)
    program, hold, render = tmp_path / "ffmpeg", tmp_path / "hold", tmp_path / "render"
    program.write_text(HELD.format(hold=hold, render=render, ffmpeg=found_ffmpeg()))
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    (tmp_path / "house").mkdir()
    hold.touch()
    async with house(tmp_path / "house", hear, boot_seconds=0.1, idle_after=60) as running:
        user.at_home(running.settings)
        async with user.submits() as job:
            await job.event("running")
            await until(render.exists)
            os.kill(pids[-1], signal.SIGKILL)
            await died(int(render.read_text()))  # it takes its engine along
            hold.unlink()
            await job.event("retrying")
            ran = await job.ended()
    assert ran.code == 0, ran
    assert len(set(pids)) == 2
    assert [event["missing"] for event in ran.all("checked")][-1] == []


async def test_a_queued_task_shows_its_position(user: User, place: Place) -> None:
    engine = Joining(held=True)
    async with place.hub() as hub, place.worker(engine):
        (user.folder / "other.wav").write_bytes(b"other words")
        async with user.submits() as first:
            await first.event("running", status="synthesizing")
            async with user.runs(
                *(part.replace("speech", "other").replace("out", "out2") for part in user.command())
            ) as second:
                queued = await second.event("running", status="queued")
                assert queued["position"] == 1
                engine.go_on.set()
                assert ((await first.ended()).code, (await second.ended()).code) == (0, 0)
        await until(lambda: held(hub) == [])
        assert user.left() == {"out.mp4", "out2.mp4", "other.wav"}
