"""The daemon's API for programs: what it refuses, whom it lets in, and what outlives a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData, web
from yarl import URL

from tests.acceptance.test_console_sources import PUBLIC, served
from tests.acceptance.test_console_sources import internet as internet
from tests.support.programs.any_kind_scene import KINDS, Scene
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon, state_of
from tests.support.programs.here import Here
from tests.support.programs.our_peers import Place, until
from tests.support.programs.replicate_scene import Programs, asleep, programs
from tests.support.programs.webhook_scene import Shop
from wakestream.adapters.config import settings
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.daemon.program import DaemonConfig, running_daemon
from wakestream.adapters.daemon.replicate import api as replicate_api
from wakestream.adapters.daemon.replicate.tokens import Tokens
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
    async with scene.gpu(), programs(scene) as found:
        yield found


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"version": "0123456789abcdef", "input": {}}, "version"),
    ({"input": {}}, "version"),
    ({"version": "join"}, "input"),
    ({"version": "join", "input": {}}, "input.first"),
    ({"version": "join", "input": {"first": "data:,a", "times": "two"}}, "input.times"),
    ({"version": "join", "input": {"first": "data:,a", "times": 10}}, "input.times"),
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
]


async def test_wrong_input_is_refused_with_its_field(api: Programs) -> None:
    for body, field in WRONG:
        status, plain = await api.ask("POST", "/v1/predictions", body)
        assert (status, [each["field"] for each in plain["invalid_fields"]]) == (422, [field]), plain
        assert (await api.ask("GET", "/v1/predictions"))[1]["results"] == [], body
        assert (api.scene.engine.works, api.daemon.console.holdings.uploads.used) == ([], 0), body


async def test_a_file_at_an_inner_address_is_refused(api: Programs) -> None:
    for url in ("http://127.0.0.1/a.png", "http://[::1]:8399/v1/files/a"):
        status, plain = await api.ask("POST", "/v1/predictions", {"version": "join", "input": {"first": url}})
        field = plain["invalid_fields"][0]["field"]
        assert (status, plain["code"], field) == (422, "source_not_public", "input.first"), url


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


async def test_a_file_that_does_not_come_is_a_failure_with_a_webhook(scene: Scene, internet: None) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=404)

    async with (
        scene.gpu(),
        Shop().open() as shop,
        served(answer) as url,
        programs(scene, webhook_hosts=("127.0.0.1",)) as api,
    ):
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


NO_FILE: list[tuple[str, bytes]] = [
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
]


async def test_a_form_without_a_file_is_refused(api: Programs) -> None:
    for content, body in NO_FILE:
        headers = {"Authorization": f"Bearer {api.token}", "Content-Type": content}
        async with api.session.post(f"{api.url}/v1/files", data=body, headers=headers) as response:
            assert (response.status, (await response.json())["status"]) == (422, 422), content
        assert api.daemon.console.holdings.uploads.used == 0, content


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


async def test_tokens_that_cannot_be_used_are_refused_with_what_to_do(api: Programs) -> None:
    path = api.scene.folder / "daemon" / "tokens.json"
    before = path.read_bytes()
    later, broken, wrong = b'{"tokens": [], "v": 2}', b'{"tokens": [{', b'{"tokens": [1]}'
    for content, advice in ((later, "use that version"), (broken, "restore"), (wrong, "restore")):
        path.write_bytes(content)
        status, plain = await api.ask("GET", "/v1/models")
        assert (status, advice in plain["detail"], path.read_bytes()) == (503, True, content)
        with pytest.raises(SettingsError, match=advice):
            Tokens(path.parent).add("other")
        assert path.read_bytes() == content
    path.write_bytes(before)
    assert (await api.ask("GET", "/v1/models"))[0] == 200


async def test_a_path_with_an_encoded_slash_needs_a_token(api: Programs) -> None:
    url = URL(f"{api.url}/v1/files/a%2Fstream", encoded=True)
    for token, status in (("none", 401), (api.token, 404)):
        for method in ("GET", "DELETE"):
            async with api.session.request(method, url, headers={"Authorization": f"Bearer {token}"}) as response:
                assert response.status == status


async def test_the_streams_of_a_removed_token_are_closed_to_new_readers(api: Programs) -> None:
    made = await api.create(input=ABC)
    await api.ended(made["id"])
    other = api.tokens.add("other")
    name = next(token.name for token in api.tokens.all() if token.name != "other")
    api.tokens.remove(name)
    assert (await api.ask("GET", made["urls"]["stream"], token=other))[0] == 401


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


async def test_a_prediction_is_cancelled_at_its_deadline_and_what_is_no_time_is_refused(api: Programs) -> None:
    api.scene.engine.go_on.clear()
    body = {"version": "join", "input": ABC}
    status, plain = await api.ask("POST", "/v1/predictions", body, **{"Cancel-After": "0.05s"})
    assert status == 201
    assert (await api.ended(plain["id"]))["status"] == "canceled"
    for wrong in (f"{'9' * 308}s{'9' * 308}s", "367d", "0s", "1 day"):
        status, plain = await api.ask("POST", "/v1/predictions", body, **{"Cancel-After": wrong})
        assert (status, plain["invalid_fields"][0]["field"]) == (422, "Cancel-After"), wrong


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
        async with asyncio.timeout(100):
            while "cost" not in metrics:
                metrics = (await api.ended(made["id"]))["metrics"]
        assert (metrics["cost"] > 0, metrics["currency"]) == (True, "EUR")


async def test_webhooks_tell_the_start_the_log_and_the_end(scene: Scene) -> None:
    async with scene.gpu(), Shop().open() as shop, programs(scene, webhook_hosts=("127.0.0.1",)) as api:
        scene.engine.go_on.clear()
        await api.create(input={**ABC, "times": 2})
        await scene.engine.began.wait()  # the next one waits for the GPU
        every = ["start", "logs", "output", "completed"]
        await api.create(input=ABC, webhook=shop.url, webhook_events_filter=every)
        await shop.hears()
        scene.engine.go_on.set()
        async with asyncio.timeout(100):
            while not any(call.news["status"] == "succeeded" and call.news["output"] for call in shop.calls):
                await shop.hears(len(shop.calls) + 1)
        said = [call.news for call in shop.calls]
    assert {each["status"] for each in said} >= {"starting", "succeeded"}
    assert any(each["logs"] for each in said)


@asynccontextmanager
async def owed(scene: Scene) -> AsyncIterator[tuple[Shop, str, dict[str, Any]]]:
    """A receiver that was down when a prediction ended, the program's token, and the prediction."""
    shop = Shop()
    async with scene.gpu():
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


async def test_the_log_of_a_prediction_outlives_restarts_before_and_after_its_end(scene: Scene) -> None:
    scene.engine.go_on.clear()
    async with scene.gpu():
        async with programs(scene) as api:
            id_, token = (await api.create(input=ABC))["id"], api.token
            feed = api.daemon.outbox.feed
            await until(lambda: any(item.kind == "running" for item in feed.of_job(id_)))
            before = (await api.ask("GET", f"/v1/predictions/{id_}"))[1]["logs"].splitlines()[:-1]
        async with programs(scene, token=token) as api:
            scene.engine.go_on.set()
            feed = api.daemon.outbox.feed
            await until(lambda: any(item.kind == "done" for item in feed.of_job(id_)))  # stores the lines before it
            ended = await api.ended(id_)
        async with programs(scene, token=token) as api:
            after = await api.ended(id_)
            status, streamed = await api.ask("GET", URL(after["urls"]["stream"]).raw_path_qs)
    logs = ended["logs"].splitlines()
    assert len(before) > 2
    assert logs[: len(before)] == before
    assert len(logs) > len(before)
    assert after["logs"] == ended["logs"]
    assert status == 200
    assert all(f"data: {line}" in streamed for line in logs)


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


HUB = {"API_SERVER_URL": "http://127.0.0.1:9", "WAKESTREAM_KEY": "any-key-0123456789"}


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.7:0"])
def test_other_addresses_need_tls_or_a_flag(user: User, here: Here, address: str) -> None:
    refused = here(user, "daemon", "--api", address, **HUB)
    assert refused.code == 2
    assert "--api-tls" in refused.err
    assert "--api-insecure" in refused.err


def test_a_certificate_that_cannot_be_used_is_refused_by_its_flag(user: User, here: Here) -> None:
    refused = here(user, "daemon", "--api", "127.0.0.1:0", "--api-tls", "no.pem", **HUB)
    assert (refused.code, refused.err.partition(": ")[2][:18]) == (2, "--api-tls: no.pem ")
