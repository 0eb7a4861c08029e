"""What the console goes on with after the daemon was stopped or killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import orjson
import pytest

from tests.acceptance.test_console import calling
from tests.support.browser.console_scene import samples
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import RunningDaemon, daemon
from tests.support.programs.our_peers import Joining, Place, until
from wakestream.adapters.daemon.console import delivery

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


async def started(page: Page, user: User, job: str = "ws-1") -> str:
    """A job of the user's two files, started on the page."""
    video = await page.upload("video", user.video.name, user.video.read_bytes())
    audio = await page.upload("audio", user.audio.name, user.audio.read_bytes())
    status, plain = await page.ask("POST", "/console/jobs", {"id": job, "video": video, "audio": audio})
    assert status == 201, plain
    return job


async def test_a_result_whose_copy_a_stop_interrupts_is_copied_once_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, audio = await samples(tmp_path)
    mine = tmp_path / "mine"
    mine.mkdir()
    begun, write = asyncio.Event(), delivery._write
    loop = asyncio.get_running_loop()

    def slow(result: Path, partial: Path, stops: Callable[[], bool]) -> None:
        loop.call_soon_threadsafe(begun.set)
        while not stops():
            time.sleep(0.01)
        write(result, partial, stops)

    async with calling(tmp_path) as caller:
        assert (await caller.ask("PUT", "/console/settings", {"output_folder": str(mine)}))[0] == 200
        await caller.home.gpu_on()
        caller.home.engine.go_on.set()
        monkeypatch.setattr(delivery, "_write", slow)
        await caller.start(await caller.upload("video", video), await caller.upload("audio", audio))
        await begun.wait()
        await caller.home.stop_daemon()
        assert list(mine.iterdir()) == []
        monkeypatch.setattr(delivery, "_write", write)
        for _ in range(2):
            await caller.home.start_daemon()
            await until(lambda: not list((caller.home.state / "console" / "results").glob(MARKS)))
            await caller.home.stop_daemon()
        assert [path.name for path in mine.iterdir()] == ["interview - narration.mp4"]


async def test_after_a_kill_a_result_that_could_not_be_copied_is_copied_once(
    user: User, place: Place, tmp_path: Path
) -> None:
    mine, state = tmp_path / "mine", tmp_path / "state"
    state.mkdir()
    user.environment["WAKESTREAM_DAEMON"] = str(state)
    (state / "preferences.json").write_bytes(orjson.dumps({"output_folder": str(mine)}))  # a disk that is not there
    results, failed = state / "console" / "results", msgspec.json.encode(delivery._Plan())
    async with place.hub(), place.worker(Joining()):
        user.environment |= place.client_settings()
        async with daemon(user) as first:
            job = await started(await Page(first).enter(), user)
            assert (await first.outcome(job))["event"] == "done"
            await until(lambda: [mark.read_bytes() for mark in results.glob(MARKS)] == [failed])
            await first.kill()
        mine.mkdir()
        for _ in range(2):
            async with daemon(user) as again:
                await until(lambda: not list(results.glob(MARKS)))
                await again.kill()
        assert [path.name for path in mine.iterdir()] == ["clip - speech.mp4"]
