"""The daemon's API for programs: no program takes the space, the places or the turns of others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from tests.acceptance.test_console_sources import internet as internet
from tests.acceptance.test_console_sources import served
from tests.acceptance.test_replicate_api import ABC, PARTS
from tests.acceptance.test_replicate_api import api as api
from tests.acceptance.test_replicate_api import scene as scene
from tests.support.programs.any_kind_scene import Scene
from tests.support.programs.our_peers import until
from tests.support.programs.replicate_scene import Programs, programs
from tests.support.programs.webhook_scene import Shop
from wakestream.adapters.daemon import program
from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.console import copies
from wakestream.adapters.daemon.replicate import api as replicate_api
from wakestream.adapters.daemon.replicate import files, predictions, streams
from wakestream.adapters.net import silent_callers, webhooks
from wakestream.adapters.net.connection_limits import LEAST


async def test_files_of_a_program_that_do_not_come_do_not_delay_those_of_others(api: Programs, internet: None) -> None:
    never, asked = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if "slow" in request.path:
            asked.set()
            await never.wait()
        return web.Response(body=b"abc")

    async with served(answer) as url:
        for number in range(copies.AT_ONCE + 1):
            await api.create(input={"first": f"{url}/slow{number}.bin"})
        await asked.wait()
        api.token = api.tokens.add("other")
        made = await api.create(input={"first": f"{url}/a.bin"})
        assert (await api.ended(made["id"]))["status"] == "succeeded"
        never.set()


async def test_failures_of_a_program_do_not_push_out_those_of_others(
    api: Programs, internet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "GONE_KEPT", 2)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=404)

    async with served(answer) as url:
        made, own = await api.create(input={"first": f"{url}/a.txt"}), api.token
        assert (await api.ended(made["id"]))["status"] == "failed"
        api.token = api.tokens.add("other")
        for number in range(3):
            await api.ended((await api.create(input={"first": f"{url}/{number}.txt"}))["id"])
        assert len((await api.ask("GET", "/v1/predictions"))[1]["results"]) == 2
        assert (await api.ask("GET", f"/v1/predictions/{made['id']}", token=own))[0] == 200


async def test_old_outputs_make_room_for_new_files(api: Programs) -> None:
    first = await api.create(input={"first": f"data:,{'a' * 1000}"})
    assert (await api.ended(first["id"]))["output"]
    api.daemon.console.holdings.uploads.quota = api.daemon.console.holdings.uploads.used + 500
    second = await api.create(input={"first": f"data:,{'b' * 1000}"})
    assert (await api.ended(second["id"]))["output"]
    gone = await api.ended(first["id"])
    assert (gone["status"], gone["output"], gone["data_removed"]) == ("succeeded", None, True)


async def test_old_outputs_make_room_for_a_file_of_the_internet(api: Programs, internet: None) -> None:
    first, go_on = await api.create(input={"first": f"data:,{'a' * 1000}"}), asyncio.Event()
    assert (await api.ended(first["id"]))["output"]
    api.daemon.console.holdings.uploads.quota = api.daemon.console.holdings.uploads.used + 500

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"b" * 100)
        await go_on.wait()
        await response.write(b"b" * 900)
        return response

    def shown() -> list[tuple[int, int]]:
        waiting = api.daemon.console.calls.waiting.all_plain()
        return [(file["sent"], file["size"]) for job in waiting for file in job["inputs"]]

    async with served(answer) as url:
        second = await api.create(input={"first": f"{url}/b.bin"})
        await until(lambda: shown() == [(100, 1000)])
        assert (await api.ended(first["id"]))["output"]
        go_on.set()
        assert (await api.ended(second["id"]))["output"]
    assert (await api.ended(first["id"]))["data_removed"]


@asynccontextmanager
async def sending(
    api: Programs, call: str, body: bytes, length: int
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A call that announces so many bytes, sends these, and breaks off at the end of the block."""
    url = URL(api.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"{call} HTTP/1.1\r\nHost: {url.authority}\r\nAuthorization: Bearer {api.token}\r\n"
    head += f"Content-Type: multipart/form-data; boundary=a\r\nContent-Length: {length}\r\n\r\n"
    writer.write(head.encode() + body)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def test_an_upload_takes_the_space_of_outputs_only_as_its_bytes_come(api: Programs) -> None:
    made = await api.create(input={"first": f"data:,{'a' * 5000}"})
    assert (await api.ended(made["id"]))["output"]
    uploads = api.daemon.console.holdings.uploads
    uploads.quota, begun = uploads.used + 2_000_000, PARTS.partition(b"abc")[0] + b"x" * 600_000
    async with sending(api, "POST /v1/files", begun, uploads.quota - 2000):
        await until(lambda: any(not each.complete for each in uploads._known.values()))
    await until(lambda: all(each.complete for each in uploads._known.values()))
    assert (await api.ended(made["id"]))["output"]
    async with sending(api, "POST /v1/files", begun, uploads.quota + 1) as (answer, _), asyncio.timeout(100):
        assert b" 413 " in await answer.readline()
    assert (await api.ended(made["id"]))["output"]


async def test_metadata_that_come_in_pieces_after_the_file_outlive_a_restart(scene: Scene) -> None:
    whole, stored = PARTS % (b'"' + b"b" * 500 + b'"'), {"metadata": {"a": "b" * 500}}
    async with (
        scene.place.hub(),
        programs(scene) as api,
        sending(api, "POST /v1/files", b"", len(whole)) as (answer, writer),
    ):
        for byte in whole:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        async with asyncio.timeout(100):
            assert b" 201 " in await answer.readline()
    async with programs(scene, token=api.token) as again:
        [file] = (await again.ask("GET", "/v1/files"))[1]["results"]
        assert file.items() >= stored.items()


async def test_large_calls_of_a_program_are_read_a_few_at_a_time(
    api: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, begun = requests.json_object, list[web.Request]()

    def counted(request: web.Request) -> Any:
        begun.append(request)
        return read(request)

    monkeypatch.setattr(requests, "json_object", counted)
    large, call = {"version": "join", "input": {"first": f"data:,{'a' * 100_000}"}}, "POST /v1/predictions"
    async with AsyncExitStack() as stack:
        for _ in range(replicate_api.AT_ONCE):
            await stack.enter_async_context(sending(api, call, b"{", 100_000))
        await until(lambda: len(begun) == replicate_api.AT_ONCE)
        waiting = asyncio.create_task(api.ask("POST", "/v1/predictions", large))
        for token in (api.token, api.tokens.add("other")):
            body = large if token != api.token else {"version": "join", "input": ABC}
            assert (await api.ask("POST", "/v1/predictions", body, token=token))[0] == 201
        assert not waiting.done()
    async with asyncio.timeout(100):
        assert (await waiting)[0] == 201


async def test_a_search_whose_text_does_not_come_is_refused(api: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_BODY_WITHIN", 0.05)
    async with sending(api, "QUERY /v1/models", b"", 10) as (answer, _), asyncio.timeout(100):
        assert b" 408 " in await answer.readline()


@pytest.mark.parametrize("part", [b"content", b"metadata"])
async def test_a_form_that_comes_a_byte_at_a_time_is_refused(
    api: Programs, monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    monkeypatch.setattr(files, "SILENCE", 0.1)
    begun = b'--a\r\nContent-Disposition: form-data; name="%s"\r\n\r\n' % part
    async with sending(api, "POST /v1/files", begun, 100_000) as (answer, writer), asyncio.timeout(100):
        line = asyncio.create_task(answer.readline())
        while not line.done():
            writer.write(b"a")
            await asyncio.wait([line], timeout=0.01)
        assert b" 408 " in await line


async def test_streams_take_no_place_of_calls_with_a_token(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent_callers, "PER_ADDRESS", 64)
    scene.engine.go_on.clear()
    async with scene.gpu(), AsyncExitStack() as stack:
        api = await stack.enter_async_context(programs(scene))
        made = await api.create(input=ABC)
        for _ in range(LEAST + 1):
            await stack.enter_async_context(api.session.get(made["urls"]["stream"]))
        async with aiohttp.ClientSession() as api.session:
            assert (await api.ask("GET", "/v1/models"))[0] == 200


async def test_the_streams_of_a_token_are_limited_and_take_no_place_of_others(
    api: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "FOLLOWERS", 2)
    api.scene.engine.go_on.clear()
    made, other = await api.create(input=ABC), api.tokens.add("other")
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(api.session.get(made["urls"]["stream"]))
        status, plain = await api.ask("GET", made["urls"]["stream"])
        assert (status, "2 event streams" in plain["detail"]) == (429, True)
        _, others = await api.ask("POST", "/v1/predictions", {"version": "join", "input": ABC}, token=other)
        stream = await stack.enter_async_context(api.session.get(others["urls"]["stream"]))
        assert stream.status == 200
    api.scene.engine.go_on.set()
    async with asyncio.timeout(100):
        while (await api.ask("GET", made["urls"]["stream"]))[0] != 200:
            pass


async def test_callers_behind_a_proxy_take_no_places_of_each_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silent_callers, "PER_ADDRESS", 64)
    proxy = ip_network("127.0.0.1")
    async with scene.place.hub(), programs(scene, proxies=(proxy,)) as api, AsyncExitStack() as stack:
        for _ in range(LEAST + 1):
            session = await stack.enter_async_context(aiohttp.ClientSession())
            with suppress(aiohttp.ClientError):
                answer = await session.get(f"{api.url}/v1/models", headers={"X-Forwarded-For": "192.0.2.1"})
                await answer.read()
        assert (await api.ask("GET", "/v1/models", **{"X-Forwarded-For": "192.0.2.2"}))[0] == 200


async def test_programs_at_one_address_take_no_places_of_each_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silent_callers, "PER_ADDRESS", 20)
    made: list[silent_callers.SilentCallers] = []

    def kept(**options: Any) -> silent_callers.SilentCallers:
        made.append(silent_callers.SilentCallers(**options))
        return made[0]

    monkeypatch.setattr(program, "SilentCallers", kept)
    async with scene.place.hub(), programs(scene) as api, AsyncExitStack() as stack:
        tokens = [api.token] * 22 + [api.tokens.add("other")]
        for token in tokens:
            api.session = await stack.enter_async_context(aiohttp.ClientSession())
            assert (await api.ask("GET", "/v1/models", token=token))[0] == 200
        assert dict(made[0]._limits._known) == {"token shop": 20, "token other": 1}


async def test_many_calls_that_begin_at_once_are_all_answered(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent_callers, "PER_ADDRESS", 256)
    async with scene.place.hub(), programs(scene) as api, AsyncExitStack() as stack:
        url, request = URL(api.url), f"GET /v1/account HTTP/1.0\r\nAuthorization: Bearer {api.token}\r\n\r\n"
        ends = []
        for _ in range(100):
            end = stack.enter_context(socket.create_connection((url.host, url.port)))
            end.sendall(request.encode())
            end.setblocking(False)
            ends.append(end)
        async with asyncio.timeout(100):
            for end in ends:
                assert b" 200 " in await asyncio.get_running_loop().sock_recv(end, 100)


async def test_a_daemon_that_stops_ends_the_streams(scene: Scene) -> None:
    scene.engine.go_on.clear()
    async with scene.gpu(), aiohttp.ClientSession() as session:
        async with programs(scene) as api:
            made = await api.create(input=ABC)
            stream = await session.get(made["urls"]["stream"])
        async with asyncio.timeout(100):
            assert b"event: done" not in await stream.read()


async def test_a_head_request_for_a_stream_is_refused_since_its_body_would_be_the_next_answer(api: Programs) -> None:
    made = await api.create(input=ABC)
    async with api.session.head(made["urls"]["stream"]) as answer:
        assert answer.status == 405
    assert (await api.ask("GET", "/v1/account"))[0] == 200


async def test_calls_that_wait_take_no_place_of_an_event_stream(api: Programs) -> None:
    feed = api.daemon.outbox.feed
    before = feed.followers()
    api.scene.engine.go_on.clear()
    headers = {"Authorization": f"Bearer {api.token}", "Prefer": "wait=30"}
    body = {"version": "join", "input": ABC}
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(api.session.post(f"{api.url}/v1/predictions", json=body, headers=headers))
        await until(lambda: any(job.startswith("ws-") for job in api.daemon.outbox.state.jobs))
        assert feed.followers() == before
        api.scene.engine.go_on.set()
        (await call).close()


async def test_a_receiver_that_does_not_answer_delays_no_webhook_of_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "ANSWER_WITHIN", 600.0)
    async with (
        scene.gpu(),
        Shop().open() as shop,
        Shop(None).open() as silent,
        programs(scene, webhook_hosts=("127.0.0.1",)) as api,
    ):
        for _ in range(webhooks.AT_ONCE + 1):
            await api.create(input=ABC, webhook=silent.url)
        await silent.hears(webhooks.AT_ONCE)
        api.token = api.tokens.add("other")
        made = await api.create(input=ABC, webhook=shop.url)
        assert (await shop.hears()).news["id"] == made["id"]
        assert len(silent.calls) == webhooks.AT_ONCE
