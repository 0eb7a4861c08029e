"""A user who was given a license key and no secret: hub and worker give the job access, or no GPU is woken."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from aiohttp import web
from websockets.asyncio.client import connect

from tests.support.field.house import field
from tests.support.programs import plain_server
from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import SECRET, Joining, Place, held, until
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import open_hub
from wakestream.adapters.telemetry.recorder import recording
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.adapters.testing.virtual_loop import run_virtual
from wakestream.streams.hub.events import Fact
from wakestream.streams.hub.hub import Limits
from wakestream.streams.recording.recording import read_log
from wakestream.streams.replay.replay import replay

NOTHING = {"HEYGEM_API_SECRET": ""}


async def replayed(folder: Path) -> bytes:
    """The one log in this folder, which runs again as it was."""
    (log,) = folder.glob("*.jsonl")
    raw = log.read_bytes()
    again = await asyncio.to_thread(run_virtual, replay(read_log(raw.splitlines(keepends=True))))
    assert again.divergences == ()
    return raw


async def test_hub_and_worker_give_the_job_all_the_access_that_it_needs(user: User, place: Place) -> None:
    async with place.hub() as hub, place.worker(Joining()):
        user.environment |= place.client_settings() | NOTHING
        ran = await user.submit("--log-level", "DEBUG", "--record", "log")
        assert (ran.code, ran.last["event"]) == (0, "done"), ran
        assert user.out.read_bytes() == b"video" * 1000 + b"audio" * 500
        await until(lambda: held(hub) == [])
    raw = await replayed(user.folder / "log")
    assert b"eyJ" not in raw
    assert b'"capability":"[redacted]"' in raw


async def test_a_worker_of_another_hub_accepts_the_secret(user: User, place: Place) -> None:
    async with place.hub(), place.worker(Joining()):
        user.environment |= place.client_settings() | {"HEYGEM_API_SECRET": "not-the-one-of-this-worker"}
        ran = await user.submit()
        assert (ran.code, ran.last["event"]) == (0, "done"), ran


async def test_a_worker_with_a_wrong_clock_accepts_the_secret(user: User, place: Place) -> None:
    async with place.hub(), place.worker(Joining()) as worker:
        verifier = worker.server.calls.verifier
        assert verifier is not None
        verifier._clock = lambda: time.time() + 7200
        ran = await user.submit(WAKESTREAM_SECRET_HOSTS="gpu.example, 127.0.0.0/8")
        assert (ran.code, ran.last["event"]) == (0, "done"), ran
        lost = await user.submit("--total-timeout", "1s", **NOTHING)
        assert (lost.code, lost.last["event"]) == (3, "timed_out"), lost


@pytest.mark.parametrize("capable", [[], ["capability"]])
async def test_a_worker_named_by_the_hub_never_gets_the_secret(user: User, place: Place, capable: list[str]) -> None:
    shown: list[str] = []

    async def thief(request: web.Request) -> web.Response:
        shown.extend(request.headers.getall("Authorization", ()))
        if request.path.endswith("/health"):
            features = ["blake3", *capable]
            return web.json_response({"code": 0, "msg": "ok", "initialized": True, "queue": {}, "features": features})
        return web.json_response({"code": 403, "msg": "no"}, status=403)

    async with plain_server.answering(thief) as url, place.hub() as hub, connect(hub.url) as socket:
        named = {"gpu": "gpu", "url": url, "token": place.keys["worker"], "features": capable}
        await socket.send(json.dumps({"type": "register", "role": "worker", **named}))
        await socket.send(json.dumps({"type": "gpu.power.online", "status": "running"}))
        ran = await user.submit("--total-timeout", "3s")
    if capable:
        assert ran.code != 0, ran
        assert any(header.startswith("Bearer eyJ") for header in shown), "it was shown the job's capability"
    else:
        assert (ran.code, ran.last["code"]) == (2, "no_secret"), ran
        assert "WAKESTREAM_SECRET_HOSTS" in ran.last["why"]
    assert not [header for header in shown if SECRET in header], "the secret went where only the hub had pointed"


async def test_without_any_access_no_gpu_is_woken(user: User, place: Place) -> None:
    book, journal = LicenseBook(place.folder / "hub"), FakeJournal[Fact]()
    limits = Limits(capability_ttl=0)
    async with open_hub(HubConfig(book, limits=limits), journal) as hub:
        place.hub_url = hub.url
        user.environment |= place.client_settings() | NOTHING
        ran = await user.submit("--record", "log")
        assert (ran.code, ran.last["event"], ran.last["code"]) == (2, "failed", "no_secret"), ran
        assert "set HEYGEM_API_SECRET" in ran.last["why"]
        await until(lambda: held(hub) == [])
        assert not [fact for fact in journal.read() if type(fact).__name__.startswith("Job")]
    await replayed(user.folder / "log")


async def test_an_old_hub_is_not_asked_to_start_its_gpu(user: User) -> None:
    async with field(user, online=False) as (hub, _):
        (user.folder / ".env").write_text(f"API_SERVER_URL={hub.url}\n")
        ran = await user.submit(**NOTHING)
        assert (ran.code, ran.last["code"]) == (2, "no_secret"), ran
        assert hub.submits == []


async def test_the_hub_s_own_log_runs_again_and_holds_no_capability(user: User, place: Place, tmp_path: Path) -> None:
    book = LicenseBook(place.folder / "hub")
    with recording(tmp_path / "log", "hub", 0, {}) as tap:
        async with open_hub(HubConfig(book, tap=tap), FakeJournal[Fact]()) as hub:
            place.hub_url = hub.url
            async with place.worker(Joining()):
                user.environment |= place.client_settings() | NOTHING
                assert (await user.submit()).code == 0
    raw = await replayed(tmp_path / "log")
    assert b'"capability":"[redacted]"' in raw
    assert not [mark for mark in (b"eyJ", SECRET.encode(), *map(str.encode, place.keys.values())) if mark in raw]
