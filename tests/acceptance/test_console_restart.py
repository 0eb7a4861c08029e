"""What the console goes on with after the daemon was stopped or killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from aiohttp import web

from tests.acceptance.test_console import Caller, calling
from tests.acceptance.test_console_sources import MOVIE, internet, queued, served  # noqa: F401 - a fixture
from tests.acceptance.test_console_waiting import AUDIO, VIDEO, announce, ask_for, seen, send, state
from tests.support.browser.console_scene import samples
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import RunningDaemon, daemon
from tests.support.programs.our_peers import Joining, Place, until
from wakestream.adapters.cli.i18n.catalog import in_chinese
from wakestream.adapters.daemon.console import storage as delivery
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.streams.outbox.facts import Answer, Submitting

MARKS = "*" + delivery.ENDING


class Page:
    """The calls of a page of a daemon's process."""

    def __init__(self, running: RunningDaemon) -> None:
        self.running = running
        self.bearer: dict[str, str] = {}

    async def enter(self) -> Page:
        """Get a session."""
        _, link = await self.running.ask("POST", "/console/links", {})
        _, session = await self.running.ask("POST", "/console/session", link)
        self.bearer = {"Authorization": f"Bearer {session['session']}"}
        return self

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
        """One call: its status and its JSON."""
        return await self.running.ask(method, path, body, self.bearer)

    async def upload(self, kind: str, name: str, data: bytes) -> str:
        """A file's id, once it is there."""
        _, plain = await self.ask("POST", "/console/uploads", {"kind": kind, "name": name, "size": len(data)})
        status, _ = await self.ask("PUT", f"/console/uploads/{plain['id']}", data)
        assert status == 200
        return str(plain["id"])


async def test_a_result_whose_copy_a_stop_interrupts_is_copied_once_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, audio = await samples(tmp_path)
    mine = tmp_path / "mine"
    mine.mkdir()
    begun, copy = asyncio.Event(), delivery.copy_new
    loop = asyncio.get_running_loop()

    async with calling(tmp_path) as caller:
        stopping = caller.home.daemon.console._stopping

        def slow(source: BinaryIO, partial: Path, wanted: Callable[[], bool]) -> bool:
            loop.call_soon_threadsafe(begun.set)
            stopping.wait()
            return copy(source, partial, wanted)

        assert (await caller.ask("PUT", "/console/settings", {"output_folder": str(mine)}))[0] == 200
        await caller.home.gpu_on()
        caller.home.engine.go_on.set()
        monkeypatch.setattr(delivery, "copy_new", slow)
        await caller.start(await caller.upload("video", video), await caller.upload("audio", audio))
        await begun.wait()
        await caller.home.stop_daemon()
        assert list(mine.iterdir()) == []
        monkeypatch.setattr(delivery, "copy_new", copy)
        for _ in range(2):
            await caller.home.start_daemon()
            await until(lambda: not list((caller.home.state / "console" / "results").glob(MARKS)))
            await caller.home.stop_daemon()
        assert [path.name for path in mine.iterdir()] == ["interview - narration.mp4"]


async def test_a_result_is_copied_also_if_a_power_cut_took_the_mark_of_its_job(tmp_path: Path) -> None:
    video, audio = await samples(tmp_path)
    mine = tmp_path / "mine"
    mine.mkdir()
    async with calling(tmp_path) as caller:
        results = caller.home.state / "console" / "results"
        assert (await caller.ask("PUT", "/console/settings", {"output_folder": str(mine)}))[0] == 200
        await caller.start(await caller.upload("video", video), await caller.upload("audio", audio))
        await caller.home.stop_daemon()
        for mark in results.glob(MARKS):
            mark.unlink()
        caller.home.engine.go_on.set()
        await caller.home.start_daemon()
        await caller.home.gpu_on()
        await until(lambda: not list(results.glob(MARKS)))
        assert [path.name for path in mine.iterdir()] == ["interview - narration.mp4"]


async def restarted(caller: Caller) -> None:
    """The daemon starts again; the caller has a new session."""
    await caller.home.stop_daemon()
    await caller.home.start_daemon()
    caller.bearer = {"Authorization": f"Bearer {caller.home.daemon.console.sessions.new_session()}"}


async def until_job(caller: Caller, job: str = "ws-1") -> None:
    """Wait until a job is in the outbox."""
    jobs = caller.home.daemon.outbox.state.jobs
    await until(lambda: job in jobs)
    await seen(caller, lambda found: found["waiting"] == [])


@pytest.mark.usefixtures("internet")
async def test_copies_that_the_daemon_makes_go_on_after_a_restart_and_their_job_starts(tmp_path: Path) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Length": str(len(MOVIE)), "Content-Type": "video/mp4"})
        await stream.prepare(request)
        await stream.write(MOVIE[:1000])
        asked.set()
        await go_on.wait()
        await stream.write(MOVIE[1000:])
        return stream

    voice = tmp_path / "a.wav"
    voice.write_bytes(b"RIFF\0\0\0\0WAVE" + b"a" * 1000)
    async with calling(tmp_path) as caller, served(answer) as url:
        _, video = await queued(caller, f"{url}/clip.mp4")
        audio = await caller.upload("audio", voice)
        status, _ = await caller.ask("POST", "/console/jobs", {"id": "ws-1", "video": video["id"], "audio": audio})
        assert status == 202
        await asked.wait()
        asked.clear()
        await restarted(caller)
        (job,) = (await state(caller))["waiting"]
        assert [(one["file"], one["state"]) for one in job["inputs"]] == [("clip.mp4", "coming"), ("a.wav", "here")]
        await asked.wait()
        go_on.set()
        await until_job(caller)
        assert sorted(path.read_bytes() for path in caller.kept if path.suffix == ".mp4") == [MOVIE]
        await restarted(caller)
        assert (await state(caller))["waiting"] == []


@pytest.mark.usefixtures("internet")
async def test_a_copy_that_failed_says_why_after_a_restart_and_can_be_made_again(tmp_path: Path) -> None:
    is_there = False

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=MOVIE, content_type="video/mp4") if is_there else web.Response(status=404)

    voice = tmp_path / "a.wav"
    voice.write_bytes(b"RIFF")
    async with calling(tmp_path) as caller, served(answer) as url:
        job = {"id": "ws-1", "audio": await caller.upload("audio", voice)}
        for restarts in (False, True):
            _, video = await queued(caller, f"{url}/clip.mp4")
            await caller.ask("POST", "/console/jobs", {**job, "video": video["id"]})
            found = await seen(caller, lambda found: found["waiting"][0]["inputs"][0]["failed"] is not None)
            failed = found["waiting"][0]["inputs"][0]["failed"]
            if restarts:
                await restarted(caller)
        (one, _) = (await state(caller))["waiting"][0]["inputs"]
        assert (one["state"], one["failed"], failed["code"]) == ("lost", failed, "source_status")
        is_there = True
        _, video = await queued(caller, one["source"], accepts=one["accepts"])
        status, _ = await caller.ask("POST", "/console/jobs", {**job, "video": video["id"]})
        assert status in (201, 202)
        await until_job(caller)


async def test_after_a_kill_a_job_waits_for_the_file_of_its_page_and_goes_on_when_that_is_sent(
    user: User, place: Place
) -> None:
    async with place.hub(), place.worker(Joining()):
        video = {"kind": "video", "name": "clip.mp4", "size": 5000}
        async with daemon(user) as first:
            page = await Page(first).enter()
            audio = await page.upload("audio", user.audio.name, user.audio.read_bytes())
            for job in ("ws-1", "ws-2"):
                _, plain = await page.ask("POST", "/console/uploads", video)
                wanted = {"id": job, "video": plain["id"], "audio": audio}
                assert (await page.ask("POST", "/console/jobs", wanted))[0] == 202
            await first.kill()
        async with daemon(user) as again:
            page = await Page(again).enter()
            _, ids = await page.ask("GET", "/console/ids")
            assert ids["open"] == ["ws-1", "ws-2"]
            _, plain = await page.ask("POST", "/console/uploads", video)
            wanted = {"id": "ws-1", "video": plain["id"], "audio": audio}
            assert (await page.ask("POST", "/console/jobs", wanted))[0] == 202
            assert (await page.ask("PUT", f"/console/uploads/{plain['id']}", user.video.read_bytes()))[0] == 200
            assert (await again.outcome("ws-1"))["event"] == "done"
            assert (await page.ask("DELETE", "/console/jobs/ws-2"))[0] == 200
            await again.kill()
        async with daemon(user) as last:
            _, ids = await (await Page(last).enter()).ask("GET", "/console/ids")
            assert ids["open"] == []


async def test_a_refused_job_keeps_its_reason_until_it_is_dismissed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(tmp_path) as caller:
        video, audio = await announce(caller, "video", VIDEO), await announce(caller, "audio", AUDIO)
        assert await ask_for(caller, video, audio) == 202
        assert await send(caller, video, VIDEO) == 200
        monkeypatch.setattr(caller.home.daemon.outbox.state, "open_most", 0)
        assert await send(caller, audio, AUDIO) == 200
        await restarted(caller)
        (job,) = (await state(caller))["waiting"]
        assert job["refused"]["code"] == "queue_full"
        assert (await caller.ask("DELETE", "/console/jobs/ws-1"))[0] == 200
        assert caller.kept == []
        await restarted(caller)
        assert (await state(caller))["waiting"] == []


async def test_a_job_whose_last_file_comes_while_the_daemon_stops_is_started_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(tmp_path) as caller:
        video, audio = await announce(caller, "video", VIDEO), await announce(caller, "audio", AUDIO)
        assert await ask_for(caller, video, audio) == 202
        assert await send(caller, video, VIDEO) == 200

        async def stopping(box: Outbox, job: Submitting) -> Answer:
            return Answer(0, 503, "", "stopping", "the daemon is stopping; try again when it runs")

        with monkeypatch.context() as patch:
            patch.setattr(Outbox, "submit", stopping)
            assert await send(caller, audio, AUDIO) == 200
            await caller.home.stop_daemon()
        await restarted(caller)
        await until_job(caller)


async def test_a_broken_record_of_a_waiting_job_stops_nothing(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        broken = caller.home.state / "console" / "waiting" / "ws-1.json"
        for content in (b"", b"{", b"[]", b'{"id": "ws-1"}'):
            broken.write_bytes(content)
            await restarted(caller)
            assert (await state(caller))["waiting"] == []
        assert broken.exists()


async def test_the_faults_of_a_table_are_in_the_language_of_the_page(user: User, place: Place) -> None:
    async with place.hub(), daemon(user) as running:
        page = await Page(running).enter()
        english = "two columns have this name; rename one"
        for lang, why in (("en", english), ("zh", in_chinese(english))):
            path = f"/console/rows?kind=lipsync&name=rows.csv&lang={lang}"
            _, found = await page.ask("POST", path, b"video,audio,audio\na.mp4,a.wav,b.wav\n")
            assert found == {"faults": [{"line": 1, "column": "audio", "why": why}], "more": 0}
