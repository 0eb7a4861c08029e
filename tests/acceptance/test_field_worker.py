"""The tests' field worker has the habits that other tests rely on."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.support.field.text_worker import field_text_worker
from tests.support.field.worker import FieldWorker, cache_key, field_worker, md5, rendered
from wakestream.adapters.net.acceptor import accept_no_more

VIDEO, AUDIO = b"video", b"audio"
PAIR = {"audio_hash": md5(AUDIO), "audio_ext": ".wav", "video_hash": md5(VIDEO), "video_ext": ".mp4"}
JOB = {"type": "gpu.job.submit", "task_type": "heygem_submit", "request_id": "r1", "key": "k", "sender_fd": 7}


@pytest.fixture
async def hub_url() -> AsyncIterator[str]:
    """A hub that says no more than that its peer is registered."""

    async def listen(socket: ServerConnection) -> None:
        await socket.send('{"type": "registered"}')
        await socket.wait_closed()

    async with serve(listen, "127.0.0.1", 0, close_timeout=0.2) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await accept_no_more(server)


def stock(worker: FieldWorker) -> None:
    worker.keep(VIDEO, ".mp4")
    worker.keep(AUDIO, ".wav")


async def test_a_pair_is_rendered_twice_while_it_renders_and_found_by_its_key_afterwards() -> None:
    async with field_worker("s3", held=True) as worker, aiohttp.ClientSession() as http:
        stock(worker)
        api, auth = f"{worker.url}/api/heygem", {"Authorization": "s3"}

        async def submit() -> dict[str, object]:
            async with http.post(f"{api}/submit", json=PAIR, headers=auth) as reply:
                return dict((await reply.json())["data"])

        first, second = await submit(), await submit()
        assert first["task_id"] != second["task_id"]
        assert len(str(first["task_id"])) == 16
        worker.finish()
        await worker.until_rendering(2)
        worker.finish()
        await worker.until(lambda: all(task.ended for task in worker.tasks.values()))
        third = await submit()
        assert third["task_id"] == cache_key(PAIR["audio_hash"], PAIR["video_hash"])
        assert third["cached"] is True
        async with http.get(f"{api}/download", params={"task_id": str(third["task_id"])}, headers=auth) as reply:
            assert await reply.read() == rendered(AUDIO, VIDEO)
        assert len(worker.renders) == 2


async def test_a_made_up_hash_is_stored_under_the_real_one_and_every_reply_has_cors() -> None:
    async with field_worker() as worker, aiohttp.ClientSession() as http:
        form = aiohttp.FormData({"hash": "made-up", "ext": ".wav"})
        form.add_field("file", AUDIO, filename="a.wav")
        async with http.post(f"{worker.url}/api/heygem/upload_file", data=form) as reply:
            assert (await reply.json())["data"]["hash"] == md5(AUDIO)
            assert reply.headers["Access-Control-Allow-Origin"] == "*"
        async with http.options(f"{worker.url}/api/heygem/submit") as reply:
            assert (reply.status, await reply.read()) == (200, b"")
        async with http.get(f"{worker.url}/api/heygem/nothing") as reply:
            assert (reply.status, (await reply.json())["code"]) == (404, 404)


async def test_the_progress_socket_sends_at_once_and_closes_after_the_end() -> None:
    async with asyncio.timeout(100), field_worker("s3", held=True) as worker, aiohttp.ClientSession() as http:
        stock(worker)
        task = worker.add((f"{PAIR['audio_hash']}.wav", f"{PAIR['video_hash']}.mp4"), "t1")
        await worker.until_rendering()
        async with http.ws_connect(f"{worker.url}/ws/progress/{task.id}?token=s3") as socket:
            assert (await socket.receive_json())["data"]["status"] == "processing"
            worker.finish()
            assert (await socket.receive_json())["data"]["status"] == "done"
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        async with http.ws_connect(f"{worker.url}/ws/progress/{task.id}") as socket:
            assert (await socket.receive_json())["code"] == 401


@pytest.mark.parametrize("batch", [False, True])
async def test_it_answers_a_hub_copy_at_once_and_a_repeat_never(batch: bool, hub_url: str) -> None:
    async with asyncio.timeout(100), field_worker(held=True) as worker:
        stock(worker)
        async with worker.at_hub(hub_url) as line:
            await line.until(lambda: len(line.said) >= 2)
            assert [frame["type"] for frame in line.said] == ["register", "gpu.power.online"]
            job = JOB | {"payload": PAIR}
            for _ in range(2):
                await worker._hear({"type": "gpu.job.dispatch.batch", "data": {"jobs": [job]}} if batch else job)
            results = [frame for frame in line.said if frame["type"] == "gpu.job.result"]
            assert [(frame["error"], frame["result"]["task_id"]) for frame in results] == [(False, "r1")]
            assert worker.queue()["processing"] + worker.queue()["queued"] == 1


async def test_the_text_worker_registers_without_naming_a_gpu(hub_url: str) -> None:
    async with field_text_worker(hub_url) as worker:
        assert worker.line is not None
        line = worker.line
        await line.until(lambda: len(line.said) >= 1)
        await worker._hear({"type": "url", "url": "https://a.invalid/b", "key": "k"})
        await line.until(lambda: len(line.said) >= 2)
        assert line.said == [
            {"type": "register", "role": "worker"},
            {"type": "result", "key": "k", "content": "text of https://a.invalid/b"},
        ]
