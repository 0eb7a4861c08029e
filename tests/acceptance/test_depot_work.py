"""A worker that does jobs by itself: a real hub, our own depot, and a client that goes."""

import asyncio
import os
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults.fault_proxy import Fault, fault_proxy
from tests.support.ports import free_port
from tests.support.programs.client_scene import User
from tests.support.programs.depot_scene import depot_of
from tests.support.programs.leaving_client import client
from tests.support.programs.our_peers import SECRET, Joining, Place, gpu_online, until
from wakestream.adapters.depot.store import LINKS
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import RunningWorker, running_worker
from wakestream.streams.hub import late_jobs


async def test_a_job_is_done_while_its_client_is_away_and_its_result_is_there_when_the_gpu_is_off(
    place: Place, tmp_path: Path
) -> None:
    async with place.hub() as hub, depot_of(place, hub):
        async with client(place, tmp_path) as pc:
            await pc.store("j", video=b"v" * 3_000_000, audio=b"a" * 1000)
        assert not hub.state.jobs["j"].gpu
        async with place.worker(Joining()) as worker:
            await until(lambda: "j" in hub.state.delivered)
            assert not any(gpu.leases for gpu in hub.state.gpus.values())
            calls = worker.server.calls
            assert calls.transfers.moved == {"fetched": 3_001_000, "delivered": 3_001_000}
        async with client(place, tmp_path) as pc:
            assert await pc.results("j") == [b"v" * 3_000_000 + b"a" * 1000]
            await until(lambda: not hub.state.delivered)


async def test_a_depot_that_is_away_at_the_fetch_or_at_the_delivery_is_waited_for(place: Place, tmp_path: Path) -> None:
    engine = Joining(held=True)
    async with place.hub() as hub:
        async with depot_of(place, hub), client(place, tmp_path) as pc:
            await pc.store("j", video=b"v" * 3_000_000, audio=b"a" * 1000)
        async with place.worker(engine) as worker:
            await gpu_online(hub)
            async with depot_of(place, hub):
                await until(lambda: bool(worker.queue.state.busy))
            engine.go_on.set()
            await until(lambda: not worker.queue.state.busy)
            async with depot_of(place, hub):
                await until(lambda: "j" in hub.state.delivered)
                async with client(place, tmp_path) as pc:
                    assert [len(content) for content in await pc.results("j")] == [3_001_000]


async def test_a_worker_that_is_stopped_at_any_step_goes_on_after_its_start(place: Place, tmp_path: Path) -> None:
    engine = Joining(held=True)
    async with place.hub() as hub, depot_of(place, hub):
        async with client(place, tmp_path) as pc:
            await pc.store("j", video=b"v" * 3_000_000, audio=b"a" * 1000)
        async with place.worker(engine) as worker:
            await until(lambda: bool(worker.queue.state.busy))
        engine.go_on.set()
        async with place.worker(engine):
            await until(lambda: "j" in hub.state.delivered)
        async with client(place, tmp_path) as pc:
            assert [len(content) for content in await pc.results("j")] == [3_001_000]


def machine(place: Place, gpu: str, engine: Joining, hub: str) -> AbstractAsyncContextManager[RunningWorker]:
    """A GPU machine of this name, with a disk of its own."""
    config = WorkerConfig(place.folder / gpu, engine, SECRET, port=0, gpu=gpu, key=place.keys["worker"])
    return running_worker(config, lambda register: Link(hub, register))


@pytest.mark.parametrize("back", ["before", "after"])
async def test_a_gpu_that_was_cut_off_and_is_back_when_another_has_its_job_changes_nothing(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: str
) -> None:
    monkeypatch.setattr(late_jobs, "LOST_AFTER", 0.5)
    one, two = Joining(held=True), Joining(held=True)
    async with place.hub() as hub, depot_of(place, hub), fault_proxy(int(hub.url.split(":")[2][:5])) as line:
        async with client(place, tmp_path) as pc:
            await pc.store("j", video=b"v" * 300_000, audio=b"a" * 1000)
        async with machine(place, "a", one, line.url("ws", "/dsp")) as first:
            await until(lambda: bool(first.queue.state.busy))
            line.refuse()
            line.break_all()
            await until(lambda: not hub.state.jobs["j"].gpu)
            async with machine(place, "b", two, hub.url) as second:
                await until(lambda: bool(second.queue.state.busy))
                one.go_on.set()
                await until(lambda: not first.queue.state.busy)
                if back == "after":
                    two.go_on.set()
                    await until(lambda: "j" in hub.state.delivered)
                line.heal()
                await until(lambda: hub.state.gpus["a"].online)
                two.go_on.set()
                await until(lambda: "j" in hub.state.delivered)
                delivered = hub.state.delivered["j"]
                await until(lambda: not any(gpu.leases for gpu in hub.state.gpus.values()))
                assert not hub.state.jobs
        assert hub.state.delivered["j"] == delivered
        async with client(place, tmp_path) as pc:
            assert await pc.results("j") == [b"v" * 300_000 + b"a" * 1000]


async def test_an_upload_whose_permission_ends_in_the_middle_goes_on_with_another(
    user: User, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.video.write_bytes(os.urandom(3_000_000))
    port, ahead, given = free_port(), [0.0], list[float]()
    async with place.hub() as hub, fault_proxy(port) as line:
        store: Any = hub.depot._store
        permission = store.permission

        def permit(owner: str, job: str, now: float) -> dict[str, str]:
            given.append(now)
            permitted: dict[str, str] = permission(owner, job, now + ahead[0])
            return permitted

        monkeypatch.setattr(store, "permission", permit)
        monkeypatch.setattr(store, "_clock", lambda: time.time() + ahead[0])
        line.set(up=Fault(rate=1_000_000))
        async with depot_of(place, hub, port=port, public_url=line.url()) as depot:
            monkeypatch.setattr(depot.server.calls.verifier, "_clock", lambda: time.time() + ahead[0])
            submit = asyncio.create_task(
                user.run("submit", "clip.mp4", "speech.wav", "-o", "out.mp4", "--plain", "--leave", "--job-id", "j")
            )
            await line.until(lambda line: line.passed["up"] > 1_000_000)
            ahead[0] = LINKS + 120.0
            line.break_all()
            said = await submit
            assert said.code == 0, said
            assert "The files are in the depot" in said.out
            assert len(given) >= 2
            assert line.passed["up"] < 5_000_000
            async with place.worker(Joining()):
                await until(lambda: "j" in hub.state.delivered)
