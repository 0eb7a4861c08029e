"""A worker that does jobs by itself: a real hub, our own depot, and a client that goes."""

from pathlib import Path

from tests.support.programs.depot_scene import depot_of
from tests.support.programs.leaving_client import client
from tests.support.programs.our_peers import Joining, Place, gpu_online, until


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
