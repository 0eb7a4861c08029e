"""The daemon's API for programs: what it refuses, whom it lets in, and what outlives a restart."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import FormData, web
from yarl import URL

from tests.acceptance.test_console_sources import PUBLIC, served
from tests.acceptance.test_console_sources import internet as internet
from tests.support.programs.any_kind_scene import KINDS, Scene
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon, state_of
from tests.support.programs.our_peers import Place, gpu_online, until
from tests.support.programs.replicate_scene import Programs, asleep, programs
from tests.support.programs.webhook_scene import Shop
from wakestream.adapters.config import settings
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.daemon import program
from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.console import copies
from wakestream.adapters.daemon.program import DaemonConfig, running_daemon
from wakestream.adapters.daemon.replicate import api as replicate_api
from wakestream.adapters.daemon.replicate import files, predictions, streams
from wakestream.adapters.daemon.replicate.tokens import Tokens
from wakestream.adapters.net import silent_callers, webhooks
from wakestream.adapters.net.connection_limits import LEAST
from wakestream.operators.model.engine import Kind, Slot

ABC = {"first": "data:,abc"}
PARTS = (
    b'--a\r\nContent-Disposition: form-data; name="content"\r\n\r\nabc\r\n'
    b'--a\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{"a": %s}\r\n--a--'
)
SECRET = Kind(
    "secret", (Slot("first"),), (Slot("whole", (".bin",)),),
    {"properties": {"password": {"type": "string", "format": "password"}}},
)  # fmt: skip


@pytest.fixture
def scene(tmp_path: Path, user: User) -> Scene:
    return Scene(tmp_path, Place(tmp_path, user))


@pytest.fixture
async def api(scene: Scene) -> AsyncIterator[Programs]:
    """The API of a daemon whose GPU is on."""
    scene.engine.kinds = [*KINDS, SECRET]
    async with scene.place.hub() as hub, scene.worker():
        await gpu_online(hub)
        async with programs(scene) as found:
            yield found


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"version": "0123456789abcdef", "input": {}}, "version"),
        ({"input": {}}, "version"),
        ({"version": "join"}, "input"),
        ({"version": "join", "input": {}}, "input.first"),
        ({"version": "join", "input": {"first": "data:,a", "times": "two"}}, "input.times"),
        ({"version": "join", "input": {"first": "data:,a", "times": 10}}, "input.times"),
        ({"version": "join", "input": {"first": "data:,a", "speed": 1}}, "input.speed"),
        ({"version": "join", "input": {"first": "/etc/passwd"}}, "input.first"),
        ({"version": "join", "input": {"first": "file:///etc/passwd"}}, "input.first"),
        ({"version": "join", "input": {"first": "data:image/png;base64,%"}}, "input.first"),
        ({"version": "join", "input": {"first": ["data:,a", "data:,b"]}}, "input.first"),
        ({"version": "join", "input": {"first": f"data:,{'%41' * 70_000}"}}, "input.first"),
        ({"version": "join", "input": {"first": "data:,a", "times": json.loads("[" * 900 + "]" * 900)}}, "input"),
        ({"version": "join", "inptu": {}}, "inptu"),
        ({"version": "join", "input": {}, "webhook": "ftp://shop.example"}, "webhook"),
        ({"version": "join", "input": {}, "webhook": "http://localhost:9/"}, "webhook"),
        ({"version": "join", "input": {}, "webhook": "http://169.254.169.254/"}, "webhook"),
        ({"version": "join", "input": {}, "webhook": "http://[::1]/"}, "webhook"),
        ({"version": "join", "input": {}, "webhook": f"http://{'a' * 70}.example/"}, "input.first"),
        ({"version": "join", "input": {}, "webhook_events_filter": ["end"]}, "webhook_events_filter"),
        ({"version": "join", "input": {}, "webhook_events_filter": [["end"]]}, "webhook_events_filter"),
        ({"version": "join", "input": {}, "webhook": f"https://shop.example/{'a' * 2048}"}, "webhook"),
    ],
)
async def test_wrong_input_is_refused_with_its_field(api: Programs, body: dict[str, Any], field: str) -> None:
    status, plain = await api.ask("POST", "/v1/predictions", body)
    assert (status, [each["field"] for each in plain["invalid_fields"]]) == (422, [field]), plain
    assert (await api.ask("GET", "/v1/predictions"))[1]["results"] == []
    assert api.scene.engine.works == []


@pytest.mark.parametrize("url", ["http://127.0.0.1/a.png", "http://[::1]:8399/v1/files/a"])
async def test_a_file_at_an_inner_address_is_refused(api: Programs, url: str) -> None:
    status, plain = await api.ask("POST", "/v1/predictions", {"version": "join", "input": {"first": url}})
    field = plain["invalid_fields"][0]["field"]
    assert (status, plain["code"], field) == (422, "source_not_public", "input.first")


async def test_a_file_of_the_internet_is_copied_before_the_job_begins(api: Programs, internet: None) -> None:
    go_on = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await go_on.wait()
        return web.Response(body=b"far away", content_type="text/plain")

    async with served(answer) as url:
        made = await api.create(input={"first": f"{url}/a.txt"})
        assert (made["status"], made["input"]) == ("starting", {"first": f"{url}/a.txt"})
        go_on.set()
        ended = await api.ended(made["id"])
    assert ended["output"]["log"] == "join of first"
    assert ended["output"]["whole"].startswith("data:application/octet-stream;base64,")


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


async def test_a_prediction_that_waits_for_its_file_is_cancelled(api: Programs, internet: None) -> None:
    never = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    async with served(answer) as url:
        made = await api.create(input={"first": f"{url}/a.txt"})
        status, plain = await api.ask("POST", f"/v1/predictions/{made['id']}/cancel")
        assert (status, plain["status"]) == (200, "canceled")
        assert (await api.ended(made["id"]))["status"] == "canceled"
        assert api.daemon.console.calls.waiting.jobs == {}
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


async def test_a_file_that_does_not_come_is_a_failure_with_a_webhook(scene: Scene, internet: None) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=404)

    async with scene.place.hub() as hub, scene.worker(), Shop().open() as shop, served(answer) as url:
        await gpu_online(hub)
        async with programs(scene, webhook_hosts=("127.0.0.1",)) as api:
            made = await api.create(input={"first": f"{url}/a.txt"}, webhook=shop.url)
            ended, told = await api.ended(made["id"]), await shop.hears()
            assert (ended["status"], ended["error"], ended["started_at"]) == ("failed", told.news["error"], None)
            assert "404" in ended["error"]
            assert api.daemon.console.calls.waiting.jobs == {}
            assert PUBLIC in url


async def test_a_token_opens_only_what_is_its_own(api: Programs) -> None:
    made = await api.create(input=ABC)
    file = made["input"]["first"]
    other = api.tokens.add("other", ("reverse",))
    assert (await api.ask("GET", "/v1/predictions", token="wst_wrong"))[0] == 401
    assert (await api.ask("GET", f"/v1/predictions/{made['id']}", token=other))[0] == 404
    assert (await api.ask("POST", f"/v1/predictions/{made['id']}/cancel", token=other))[0] == 404
    assert (await api.ask("GET", file, token=other))[0] == 404
    assert (await api.ask("GET", "/v1/predictions", token=other))[1]["results"] == []
    assert [each["name"] for each in (await api.ask("GET", "/v1/models", token=other))[1]["results"]] == ["reverse"]
    assert (await api.ask("POST", "/v1/models/a/join/predictions", {"input": ABC}, token=other))[0] == 404
    assert (await api.ask("POST", "/v1/predictions", {"version": "join", "input": ABC}, token=other))[0] == 422
    status, _ = await api.ask("POST", "/v1/predictions", {"version": "reverse", "input": {"first": file}}, token=other)
    assert status == 404
    api.tokens.remove("other")
    assert (await api.ask("GET", "/v1/models", token=other))[0] == 401


async def test_a_token_starts_as_many_predictions_a_day_as_it_may(api: Programs) -> None:
    few = api.tokens.add("few", per_day=1)
    assert (await api.ask("POST", "/v1/predictions", {"version": "join", "input": {}}, token=few))[0] == 422
    assert (await api.ask("POST", "/v1/predictions", {"version": "join", "input": ABC}, token=few))[0] == 201
    status, plain = await api.ask("POST", "/v1/predictions", {"version": "join", "input": ABC}, token=few)
    assert (status, plain["code"]) == (429, "day_spent")


async def test_a_video_that_cannot_be_decoded_is_refused_before_a_gpu_is_started(scene: Scene) -> None:
    film = Kind("film", (Slot("clip", ("video",)),), (Slot("whole", (".bin",)),))
    scene.engine.kinds = [film]
    async with scene.place.hub() as hub, asleep(scene, hub) as machine, programs(scene, probe=True) as api:
        body = {"version": "film", "input": {"clip": "data:video/mp4;base64,AAAA"}}
        status, plain = await api.ask("POST", "/v1/predictions", body)
        assert (status, plain["invalid_fields"][0]["field"]) == (422, "input.clip")
        assert str(scene.folder) not in plain["detail"]
        assert machine.starts == 0


async def test_a_file_beyond_the_quota_is_refused(api: Programs) -> None:
    api.daemon.console.holdings.uploads.quota = 1000
    form = FormData()
    form.add_field("content", b"x" * 2000, filename="a.bin")
    async with api.session.post(
        f"{api.url}/v1/files", data=form, headers={"Authorization": f"Bearer {api.token}"}
    ) as response:
        assert response.status == 413
    large = {"first": f"data:,{'x' * 2000}"}
    assert (await api.ask("POST", "/v1/predictions", {"version": "join", "input": large}))[0] == 413


@pytest.mark.parametrize(
    ("content", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=a", b"no part"),
        ("multipart/form-data; boundary=a", b"--a--\r\n"),
        (
            "multipart/form-data; boundary=a",
            b'--a\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n[1]\r\n--a--',
        ),
        ("multipart/form-data; boundary=a", b'--a\r\nContent-Disposition: form-data; name="content"\r\n\r\n\r\n--a--'),
        ("multipart/form-data; boundary=a", PARTS % (b"[" * 300 + b"]" * 300)),
        ("multipart/form-data; boundary=a", PARTS % (b"[" * 7000 + b"]" * 7000)),
        ("multipart/form-data; boundary=a", PARTS % b"no JSON"),
        ("multipart/form-data; boundary=a", PARTS % (b'"' + b"b" * 20_000 + b'"')),
        ("multipart/form-data; boundary=a", PARTS.replace(b'name="content"', b'name="content\0"')),
        ("multipart/form-data; boundary=a", b"--a\r\nA: b\r\n\r\n\r\n" * 20 + PARTS % b"1"),
    ],
)
async def test_a_form_without_a_file_is_refused(api: Programs, content: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {api.token}", "Content-Type": content}
    async with api.session.post(f"{api.url}/v1/files", data=body, headers=headers) as response:
        assert (response.status, (await response.json())["status"]) == (422, 422)
    assert api.daemon.console.holdings.uploads.used == 0


async def test_a_file_is_removed_when_no_prediction_needs_it_any_more(api: Programs) -> None:
    api.scene.engine.go_on.clear()
    headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "multipart/form-data; boundary=a"}
    async with api.session.post(f"{api.url}/v1/files", data=PARTS % b"1", headers=headers) as response:
        file = await response.json()
    made = await api.create(input={"first": file["urls"]["get"]})
    status, plain = await api.ask("DELETE", f"/v1/files/{file['id']}")
    assert (status, plain["code"]) == (409, "in_use")
    api.scene.engine.go_on.set()
    await api.ended(made["id"])
    assert (await api.ask("DELETE", f"/v1/files/{file['id']}"))[0] == 204
    assert (await api.ended(made["id"]))["status"] == "succeeded"


async def test_a_refused_prediction_leaves_no_file(api: Programs) -> None:
    body = {"version": "join", "input": {**ABC, "times": "two"}}
    assert (await api.ask("POST", "/v1/predictions", body))[0] == 422
    assert api.daemon.console.holdings.uploads.used == 0


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
    async with sending(api, "POST /v1/files", begun, uploads.quota + 1) as (answer, _), asyncio.timeout(30):
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
        async with asyncio.timeout(30):
            assert b" 201 " in await answer.readline()
    async with programs(scene, token=api.token) as again:
        [file] = (await again.ask("GET", "/v1/files"))[1]["results"]
        assert file.items() >= stored.items()


async def test_large_calls_of_a_program_are_read_a_few_at_a_time(api: Programs) -> None:
    large, call = {"version": "join", "input": {"first": f"data:,{'a' * 100_000}"}}, "POST /v1/predictions"
    async with AsyncExitStack() as stack:
        for _ in range(replicate_api.AT_ONCE):
            await stack.enter_async_context(sending(api, call, b"{", 100_000))
        waiting = asyncio.create_task(api.ask("POST", "/v1/predictions", large))
        for token in (api.token, api.tokens.add("other")):
            body = large if token != api.token else {"version": "join", "input": ABC}
            assert (await api.ask("POST", "/v1/predictions", body, token=token))[0] == 201
        assert not waiting.done()
    async with asyncio.timeout(30):
        assert (await waiting)[0] == 201


async def test_a_search_whose_text_does_not_come_is_refused(api: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_BODY_WITHIN", 0.05)
    async with sending(api, "QUERY /v1/models", b"", 10) as (answer, _), asyncio.timeout(30):
        assert b" 408 " in await answer.readline()


@pytest.mark.parametrize("part", [b"content", b"metadata"])
async def test_a_form_that_comes_a_byte_at_a_time_is_refused(
    api: Programs, monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    monkeypatch.setattr(files, "SILENCE", 0.1)
    begun = b'--a\r\nContent-Disposition: form-data; name="%s"\r\n\r\n' % part
    async with sending(api, "POST /v1/files", begun, 100_000) as (answer, writer), asyncio.timeout(30):
        line = asyncio.create_task(answer.readline())
        while not line.done():
            writer.write(b"a")
            await asyncio.wait([line], timeout=0.01)
        assert b" 408 " in await line


@pytest.mark.parametrize(
    ("content", "advice"),
    [(b'{"tokens": [], "v": 2}', "use that version"), (b'{"tokens": [{', "restore"), (b'{"tokens": [1]}', "restore")],
)
async def test_tokens_that_cannot_be_used_are_refused_with_what_to_do(
    api: Programs, content: bytes, advice: str
) -> None:
    path = api.scene.folder / "daemon" / "tokens.json"
    before = path.read_bytes()
    path.write_bytes(content)
    status, plain = await api.ask("GET", "/v1/models")
    assert (status, advice in plain["detail"], path.read_bytes()) == (503, True, content)
    with pytest.raises(SettingsError, match=advice):
        Tokens(path.parent).add("other")
    assert path.read_bytes() == content
    path.write_bytes(before)
    assert (await api.ask("GET", "/v1/models"))[0] == 200


async def test_streams_take_no_place_of_calls_with_a_token(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent_callers, "PER_ADDRESS", 64)
    scene.engine.go_on.clear()
    async with scene.place.hub() as hub, scene.worker(), AsyncExitStack() as stack:
        await gpu_online(hub)
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
    async with asyncio.timeout(30):
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
        async with asyncio.timeout(30):
            for end in ends:
                assert b" 200 " in await asyncio.get_running_loop().sock_recv(end, 100)


async def test_a_daemon_that_stops_ends_the_streams(scene: Scene) -> None:
    scene.engine.go_on.clear()
    async with scene.place.hub() as hub, scene.worker(), aiohttp.ClientSession() as session:
        await gpu_online(hub)
        async with programs(scene) as api:
            made = await api.create(input=ABC)
            stream = await session.get(made["urls"]["stream"])
        async with asyncio.timeout(30):
            assert b"event: done" not in await stream.read()


async def test_a_head_request_for_a_stream_is_refused_since_its_body_would_be_the_next_answer(api: Programs) -> None:
    made = await api.create(input=ABC)
    async with api.session.head(made["urls"]["stream"]) as answer:
        assert answer.status == 405
    assert (await api.ask("GET", "/v1/account"))[0] == 200


@pytest.mark.parametrize("said", [f"{'9' * 308}s{'9' * 308}s", "367d", "0s", "1 day"])
async def test_a_deadline_that_is_no_time_is_refused(api: Programs, said: str) -> None:
    body, headers = {"version": "join", "input": ABC}, {"Authorization": f"Bearer {api.token}", "Cancel-After": said}
    async with api.session.post(f"{api.url}/v1/predictions", json=body, headers=headers) as response:
        assert (response.status, (await response.json())["invalid_fields"][0]["field"]) == (422, "Cancel-After")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_path_with_an_encoded_slash_needs_a_token(api: Programs, method: str) -> None:
    url = URL(f"{api.url}/v1/files/a%2Fstream", encoded=True)
    for token, status in (("none", 401), (api.token, 404)):
        async with api.session.request(method, url, headers={"Authorization": f"Bearer {token}"}) as response:
            assert response.status == status


async def test_the_streams_of_a_removed_token_are_closed_to_new_readers(api: Programs) -> None:
    made = await api.create(input=ABC)
    await api.ended(made["id"])
    other = api.tokens.add("other")
    name = next(token.name for token in api.tokens.all() if token.name != "other")
    api.tokens.remove(name)
    assert (await api.ask("GET", made["urls"]["stream"], token=other))[0] == 401


async def test_calls_that_wait_take_no_place_of_an_event_stream(api: Programs) -> None:
    feed = api.daemon.outbox.feed
    before = feed.followers
    api.scene.engine.go_on.clear()
    headers = {"Authorization": f"Bearer {api.token}", "Prefer": "wait=30"}
    body = {"version": "join", "input": ABC}
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(api.session.post(f"{api.url}/v1/predictions", json=body, headers=headers))
        await until(lambda: any(job.startswith("ws-") for job in api.daemon.outbox.state.jobs))
        assert feed.followers == before
        api.scene.engine.go_on.set()
        (await call).close()


async def test_an_address_of_an_output_works_only_with_its_own_signature(
    api: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wakestream.adapters.daemon.replicate.predictions.INLINE", 0)
    made = await api.create(input=ABC)
    output = (await api.ended(made["id"]))["output"]
    status, content = await api.ask("GET", output["whole"], token="none")
    assert (status, content) == (200, "abc")
    for url in (output["whole"].partition("?")[0], output["whole"].replace("/whole?", "/log?")):
        assert (await api.ask("GET", url))[0] == 401
    stream = made["urls"]["stream"].partition("?")
    assert (await api.ask("GET", f"{stream[0]}?{output['whole'].partition('?')[2]}"))[0] == 401


async def test_a_wait_that_runs_out_says_starting(api: Programs) -> None:
    api.scene.engine.go_on.clear()
    body = {"version": "join", "input": ABC}
    waiting = asyncio.create_task(api.ask("POST", "/v1/predictions", body, Prefer="wait=1"))
    await api.scene.engine.began.wait()
    status, plain = await waiting
    assert (status, plain["status"], plain["output"]) == (202, "starting", None)
    assert (await api.ask("GET", f"/v1/predictions/{plain['id']}"))[1]["status"] in ("starting", "processing")


async def test_a_prediction_is_cancelled_at_its_deadline(api: Programs) -> None:
    api.scene.engine.go_on.clear()
    body = {"version": "join", "input": ABC}
    status, plain = await api.ask("POST", "/v1/predictions", body, **{"Cancel-After": "0.05s"})
    assert status == 201
    assert (await api.ended(plain["id"]))["status"] == "canceled"
    assert (await api.ask("POST", "/v1/predictions", body, **{"Cancel-After": "soon"}))[0] == 422


async def test_a_secret_is_not_shown(api: Programs) -> None:
    made = await api.create(version="secret", input={**ABC, "password": "marked-secret"})
    ended = await api.ended(made["id"])
    assert ended["status"] == "succeeded"
    assert "marked-secret" not in str(made) + str(ended)


async def test_the_list_has_pages(api: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicate_api, "PAGE", 2)
    api.scene.engine.go_on.clear()
    made = [(await api.create(input=ABC))["id"] for _ in range(5)][::-1]
    pages, url = [], "/v1/predictions"
    while url:
        _, plain = await api.ask("GET", url)
        pages.append(plain)
        url = plain["next"]
    assert [[each["id"] for each in page["results"]] for page in pages] == [made[:2], made[2:4], made[4:]]
    _, before = await api.ask("GET", pages[2]["previous"])
    assert [each["id"] for each in before["results"]] == made[2:4]
    assert pages[0]["previous"] is None


async def test_a_prediction_says_its_time_and_then_its_cost(scene: Scene) -> None:
    async with scene.place.hub() as hub, asleep(scene, hub), programs(scene) as api:
        made = await api.create(input=ABC)
        metrics = (await api.ended(made["id"]))["metrics"]
        assert 0 <= metrics["predict_time"] <= metrics["total_time"]
        async with asyncio.timeout(30):
            while "cost" not in metrics:
                metrics = (await api.ended(made["id"]))["metrics"]
        assert (metrics["cost"] > 0, metrics["currency"]) == (True, "EUR")


async def test_webhooks_tell_the_start_the_log_and_the_end(scene: Scene) -> None:
    async with scene.place.hub() as hub, scene.worker(), Shop().open() as shop:
        await gpu_online(hub)
        async with programs(scene, webhook_hosts=("127.0.0.1",)) as api:
            every = ["start", "logs", "output", "completed"]
            await api.create(input=ABC, webhook=shop.url, webhook_events_filter=every)
            async with asyncio.timeout(20):
                while not any(call.news["status"] == "succeeded" and call.news["output"] for call in shop.calls):
                    await shop.hears(len(shop.calls) + 1)
            said = [call.news for call in shop.calls]
    assert {each["status"] for each in said} >= {"starting", "succeeded"}
    assert any(each["logs"] for each in said)


async def test_a_receiver_that_does_not_answer_delays_no_webhook_of_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "ANSWER_WITHIN", 600.0)
    async with scene.place.hub() as hub, scene.worker(), Shop().open() as shop, Shop(None).open() as silent:
        await gpu_online(hub)
        async with programs(scene, webhook_hosts=("127.0.0.1",)) as api:
            for _ in range(webhooks.AT_ONCE + 1):
                await api.create(input=ABC, webhook=silent.url)
            await silent.hears(webhooks.AT_ONCE)
            api.token = api.tokens.add("other")
            made = await api.create(input=ABC, webhook=shop.url)
            assert (await shop.hears()).news["id"] == made["id"]
            assert len(silent.calls) == webhooks.AT_ONCE


@asynccontextmanager
async def owed(scene: Scene) -> AsyncIterator[tuple[Shop, str, dict[str, Any]]]:
    """A receiver that was down when a prediction ended, the program's token, and the prediction."""
    shop = Shop()
    async with scene.place.hub() as hub, scene.worker():
        await gpu_online(hub)
        async with shop.open():
            url = shop.url
        async with programs(scene, webhook_hosts=("127.0.0.1",)) as api:
            made = await api.create(input=ABC, webhook=url)
            await api.ended(made["id"])
            assert len(api.daemon.outbox.state.pending) == 1
        async with shop.open():
            yield shop, api.token, made


async def test_predictions_and_their_webhooks_outlive_a_restart(scene: Scene) -> None:
    async with (
        owed(scene) as (shop, token, made),
        programs(scene, token=token, webhook_hosts=("127.0.0.1",)) as api,
    ):
        told = await shop.hears()
        again = await api.ended(made["id"])
        await until(lambda: not api.daemon.outbox.state.pending)
    assert (told.news["id"], told.news["status"]) == (made["id"], "succeeded")
    assert (again["output"], again["input"]) == (told.news["output"], made["input"])


async def test_a_webhook_of_a_program_is_not_sent_to_the_users_own_receiver(scene: Scene) -> None:
    async with owed(scene) as (shop, _, _):
        told = {"WAKESTREAM_WEBHOOK_URL": shop.url, "WAKESTREAM_WEBHOOK_SECRET": "marked-whsec-4711"}
        said = {**scene.place.client_settings(), **told}
        found = settings.load({}, environment=said, folder=scene.folder)
        async with running_daemon(DaemonConfig(scene.folder / "daemon"), found) as made:
            assert made.webhooks is not None
            assert (len(made.outbox.state.pending), made.webhooks._telling) == (1, {})
    assert shop.calls == []


async def test_the_command_line_makes_tokens_and_serves_the_api(user: User, place: Place) -> None:
    async with place.hub(), daemon(user, "--api", "127.0.0.1:0") as running:
        url = await running.running.address()
        made = await user.run("token", "add", "shop", "--kinds", "lipsync", "--max-per-day", "3")
        token = made.out.strip()
        assert made.code == 0
        headers = {"Authorization": f"Bearer {token}"}
        async with running.session.get(f"{url}/v1/account", headers=headers) as response:
            assert (response.status, (await response.json())["username"]) == (200, "shop")
        listed = await user.run("token", "list", "--json")
        assert listed.last == {
            "name": "shop",
            "made": listed.last["made"],
            "kinds": ["lipsync"],
            "max_per_day": 3,
            "today": 0,
        }
        assert token not in (state_of(user) / "tokens.json").read_text()
        assert (await user.run("token", "add", "shop")).code == 2
        assert (await user.run("token", "rm", "shop")).code == 0
        async with running.session.get(f"{url}/v1/account", headers=headers) as response:
            assert response.status == 401


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.7:0"])
async def test_other_addresses_need_tls_or_a_flag(user: User, place: Place, address: str) -> None:
    async with place.hub():
        refused = await user.run("daemon", "--api", address)
    assert refused.code == 2
    assert "--api-tls" in refused.err
    assert "--api-insecure" in refused.err


async def test_a_certificate_that_cannot_be_used_is_refused_by_its_flag(user: User, place: Place) -> None:
    async with place.hub():
        refused = await user.run("daemon", "--api", "127.0.0.1:0", "--api-tls", "no.pem")
    assert (refused.code, refused.err.partition(": ")[2][:18]) == (2, "--api-tls: no.pem ")
