"""A disk that is really full, under each program in turn: a clear answer, nothing promised lost, then it goes on."""

import asyncio
import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.engines.pair import lipsync
from tests.support.faults.programs_in_one_loop import bounded
from tests.support.faults.small_disk import SmallDisk, small_disk
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon
from tests.support.programs.our_peers import SECRET, Joining, Place, gpu_online, until
from wakestream.adapters.disk.journal import open_journal
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.power import CommandPower
from wakestream.adapters.telemetry.recorder import recording
from wakestream.operators.model.errors import NoSpace
from wakestream.operators.model.ports import LinkUp
from wakestream.streams.hub import hub
from wakestream.streams.hub.events import Fact
from wakestream.streams.protocol import messages as m

JOIN = """
import sys
go_on, video, audio, output = sys.argv[1:]
print("10%", flush=True)
open(go_on, "rb").read(1)
open(output, "wb").write(open(video, "rb").read() + open(audio, "rb").read())
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted


@pytest.fixture
def user(tmp_path: Path) -> User:
    folder = tmp_path / "user"
    folder.mkdir()
    return User(folder)


@contextlib.asynccontextmanager
async def hub_on(place: Place, folder: Path) -> AsyncIterator[HubServer]:
    async with (
        open_journal(folder / "hub.sqlite3", Fact, program="hub") as journal,
        open_hub(HubConfig(LicenseBook(place.folder / "hub")), journal) as running,
    ):
        place.hub_url = running.url
        yield running


class Caller:
    """A client that submits by hand, and keeps the answers."""

    def __init__(self, place: Place) -> None:
        self.told: list[Any] = []
        self.link = Link(place.hub_url, lambda: m.Register(key=place.keys["client"]))
        self.link.events.subscribe(self.told.append)

    async def heard(self, kind: type, count: int = 1) -> None:
        await until(lambda: sum(isinstance(each, kind) for each in self.told) >= count)

    def promised(self) -> set[str]:
        return {each.request_id for each in self.told if isinstance(each, m.Ack | m.Offline)}


@bounded
async def test_a_hub_with_a_full_disk_replies_once_there_is_space(disk: SmallDisk, tmp_path: Path) -> None:
    place = Place(tmp_path / "place")
    async with hub_on(place, disk.path):
        caller = Caller(place)
        await caller.heard(LinkUp)
        caller.link.send(m.Submit(request_id="before", payload={"n": "x"}))
        await caller.heard(m.Offline)
        disk.fill()
        names = [f"job-{number}" for number in range(40)]
        for name in names:
            caller.link.send(m.Submit(request_id=name, payload={"n": "x" * 3000}))
        await until(lambda: disk.free == 0)
        before = caller.promised()
        assert before <= {"before", *names}
        disk.make_room()
        await until(lambda: caller.promised() == {"before", *names})
        await caller.link.close()
    async with open_journal(disk.path / "hub.sqlite3", Fact, program="hub") as journal:
        assert set(hub.DECIDER.recover(journal.read()).jobs) == {"before", *names}


@bounded
async def test_a_hub_killed_on_a_full_disk_keeps_all_confirmed_jobs(disk: SmallDisk, tmp_path: Path) -> None:
    place = Place(tmp_path / "place")
    async with hub_on(place, disk.path):
        caller = Caller(place)
        await caller.heard(LinkUp)
        disk.fill(leave=200_000)
        for number in range(40):
            caller.link.send(m.Submit(request_id=f"job-{number}", payload={"n": "x" * 20_000}))
        await until(lambda: len(caller.promised()) > 3 and disk.free < 20_000)
        await caller.link.close()
    promised = caller.promised()
    assert len(promised) < 40
    disk.make_room()
    async with open_journal(disk.path / "hub.sqlite3", Fact, program="hub") as journal:
        assert promised <= set(hub.DECIDER.recover(journal.read()).jobs)


def worker_on(disk: SmallDisk, place: Place) -> None:
    """The worker's folder lies on that disk."""
    (disk.path / "worker").mkdir()
    (place.folder / "worker").symlink_to(disk.path / "worker")


async def send(url: str, body: bytes) -> tuple[int, dict[str, Any]]:
    form = aiohttp.FormData({"hash": hashlib.md5(body, usedforsecurity=False).hexdigest(), "ext": ".mp4"})
    form.add_field("file", body, filename="a.mp4")
    headers = {"Authorization": f"Bearer {SECRET}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{url}/api/heygem/upload_file", data=form) as reply,
    ):
        return reply.status, await reply.json()


async def look(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/heygem/health") as reply:
        found: dict[str, Any] = await reply.json()
        return found


@bounded
async def test_a_worker_with_a_full_disk_accepts_the_file_once_there_is_space(disk: SmallDisk, tmp_path: Path) -> None:
    place = Place(tmp_path / "place")
    worker_on(disk, place)
    body = b"video" * 40_000
    async with place.hub(), place.worker(Joining()) as worker:
        disk.fill(leave=100_000)
        status, reply = await send(worker.address, body)
        assert status == 507, reply
        assert "space" in reply["msg"]
        assert list(disk.path.rglob("*.part")) == []
        disk.make_room()
        status, reply = await send(worker.address, body)
        assert status == 200, reply


@bounded
async def test_a_job_without_space_at_the_worker_waits_and_is_rendered_when_there_is_room(
    disk: SmallDisk, tmp_path: Path, user: User
) -> None:
    place = Place(tmp_path / "place")
    worker_on(disk, place)
    user.video.write_bytes(b"video" * 20_000)
    go_on = tmp_path / "go_on"
    os.mkfifo(go_on)
    engine = lipsync(sys.executable, "-c", JOIN, str(go_on))
    async with place.hub() as running, place.worker(engine) as worker:
        await gpu_online(running)
        async with user.submits(**place.client_settings()) as submit:
            await submit.event("running")
            disk.fill()
            await asyncio.to_thread(go_on.write_bytes, b".")  # as soon as the engine reads it
            waits = await submit.event("queued")
            assert waits["phase"] == "paused"
            assert [(gpu.halted, list(gpu.leases)) for gpu in running.state.gpus.values()] == [("paused", [])]
            health = await look(worker.address)
            assert (health["queue"]["queued"], "full" in health["msg"]) == (0, True), "a monitor may stop the machine"
            disk.make_room()
            await asyncio.to_thread(go_on.write_bytes, b".")
            ran = await submit.ended()
        assert ran.code == 0, ran
    assert user.out.read_bytes() == user.video.read_bytes() + user.audio.read_bytes()


@bounded
async def test_a_result_without_space_on_the_pc_arrives_later(disk: SmallDisk, tmp_path: Path, user: User) -> None:
    place = Place(tmp_path / "place")
    user.video.write_bytes(b"video" * 60_000)
    out = disk.path / "out.mp4"
    async with place.hub() as running, place.worker(Joining()):
        await gpu_online(running)
        disk.fill(leave=50_000)
        ran = await user.run("submit", "clip.mp4", "speech.wav", "-o", str(out), "--json", **place.client_settings())
        assert (ran.code, ran.last["code"]) == (1, "no_space"), ran
        assert str(disk.path) in ran.last["why"] or "space" in ran.last["why"]
        assert {path.name for path in disk.path.iterdir()} <= {"filler"} | {
            path.name for path in disk.path.iterdir() if ".part" in path.name
        }
        assert not out.exists()
        disk.make_room()
        ran = await user.run("submit", "clip.mp4", "speech.wav", "-o", str(out), "--json", **place.client_settings())
        assert ran.code == 0, ran
    assert out.read_bytes() == user.video.read_bytes() + user.audio.read_bytes()
    assert {path.name for path in disk.path.iterdir()} == {"out.mp4"}


@bounded
async def test_a_daemon_with_a_full_disk_refuses_new_jobs(disk: SmallDisk, tmp_path: Path, user: User) -> None:
    place = Place(tmp_path / "place")
    async with place.hub():
        settings = place.client_settings() | {"WAKESTREAM_DAEMON": str(disk.path / "daemon")}
        user.environment |= settings
        taken: set[str] = set()
        async with daemon(user) as running:
            status, _ = await running.submit(user, "before")
            assert status == 201
            taken.add("before")
            disk.fill(leave=40_000)
            for number in range(60):
                status, reply = await running.submit(user, f"job-{number}", output=str(user.folder / f"{number}.mp4"))
                if status == 201:
                    taken.add(f"job-{number}")
                    continue
                assert (status, reply["code"]) == (507, "no_space"), reply
                assert str(disk.path) in reply["error"]
                break
            else:
                raise AssertionError("the disk never was full")
            disk.make_room()
            status, _ = await running.submit(user, "after", output=str(user.folder / "after.mp4"))
            assert status == 201
            taken.add("after")
            await running.kill()
        async with daemon(user) as running:
            for job in taken:
                assert (await running.job(job))["state"] == "open"


@bounded
async def test_a_recording_without_space_ends_and_the_program_continues(disk: SmallDisk) -> None:
    with recording(disk.path, "hub", 0, {}) as tap:
        tap.row("in", "x", {"n": 1})
        disk.fill()
        for number in range(100):
            tap.row("in", "x", {"n": number, "filler": "x" * 1000})
        disk.make_room()
        tap.row("in", "x", {"n": 2})
    (log,) = disk.path.glob("*.jsonl")
    assert log.read_bytes().startswith(b'{"v":2')


@bounded
async def test_a_journal_that_cannot_be_created_reports_no_space(disk: SmallDisk) -> None:
    disk.fill()
    with pytest.raises(NoSpace, match="no space left"):
        async with open_journal(disk.path / "j.sqlite3", Fact, program="hub"):
            pass
    disk.make_room()
    async with open_journal(disk.path / "j.sqlite3", Fact, program="hub") as journal:
        await asyncio.sleep(0)
        assert list(journal.read()) == []


@bounded
async def test_a_monitor_with_a_full_disk_stops_its_machine(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(disk.path))
    say = (sys.executable, "-c", "import sys; print(sys.argv[1], flush=True)")
    power = CommandPower((*say, "started"), (*say, "stopped"), (*say, "running"))
    for _ in range(2):
        disk.fill()
        assert (await power.inspect()).state == "running"
        await power.stop()
        disk.make_room()
        assert (await power.inspect()).state == "running"
