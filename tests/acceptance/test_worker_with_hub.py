"""A real worker at a real hub, over real WebSockets, with a client beside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from websockets.asyncio.client import connect

from tests.support.log_lines import logged
from tests.support.programs.hub_bench import AUDIO, PAYLOAD, VIDEO
from tests.support.programs.hub_scene import Peer
from tests.support.programs.our_peers import SECRET, Joining, Place, gpu_online, until


@asynccontextmanager
async def registered(place: Place, **said: object) -> AsyncIterator[Peer]:
    """A peer of the hub."""
    async with connect(place.hub_url) as socket:
        peer = Peer(socket)
        await peer.get()
        assert (await peer.ask(type="register", **said))["type"] == "registered"
        yield peer


async def test_a_queued_job_gets_online_and_its_result_through_the_hub(place: Place) -> None:
    files = place.folder / "worker" / "files"
    files.mkdir(parents=True)
    async with place.hub(), registered(place, key=place.keys["client"]) as client:
        await client.send(type="gpu.job.submit", request_id="job-1", payload=PAYLOAD)
        await client.first("gpu.power.offline")
        for ref in (VIDEO, AUDIO):
            (files / f"{ref.hash}{ref.ext}").write_bytes(b"x")
        async with place.worker(Joining()) as running:
            online = await client.first("gpu.power.online")
            assert (online["data"]["gpu"], online["data"]["url"]) == ("gpu", running.address)
            result = await client.first("gpu.job.result")
            assert (result["request_id"], result["result"]["status"]) == ("job-1", "done")
            assert not {"error", "key", "sender_fd"} & {name for name, value in result.items() if value is not None}
            assert running.store.result(result["result"]["task_id"]).read_bytes() == b"xx"


async def test_a_worker_with_a_clients_key_is_refused_and_serves_http(place: Place) -> None:
    place.keys["worker"] = place.keys["client"]
    with logged("ERROR") as lines:
        async with place.hub(), place.worker(Joining()) as running, aiohttp.ClientSession() as session:
            await until(lambda: any("--role worker" in line for line in lines))
            async with session.get(f"{running.address}/api/heygem/health") as reply:
                assert reply.status == 200
    assert place.keys["client"] not in "".join(lines)


async def test_an_upload_of_a_deployed_client_counts_as_a_use_of_the_gpu_at_our_hub(place: Place) -> None:
    monitor_says = {"role": "gpu_monitor", "token": place.keys["monitor"], "gpus": ["gpu"]}
    async with place.hub() as hub, place.worker(Joining()) as running, registered(place, **monitor_says) as monitor:
        await gpu_online(hub)
        form = aiohttp.FormData({"hash": "made up"})
        form.add_field("file", b"film", filename="film.mp4")
        async with (
            aiohttp.ClientSession(headers={"Authorization": SECRET}) as session,
            session.post(f"{running.address}/api/heygem/upload_file", data=form) as reply,
        ):
            assert reply.status == 200
        await monitor.first("gpu.task.active")
        await monitor.send(type="gpu.task.query", request_id="q1", gpu="gpu", drain=True)
        answer = await monitor.first("gpu.task.query.response")
        assert (answer["active_count"], answer["has_recent_active"]) == (0, True)
