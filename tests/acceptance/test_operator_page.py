"""The operator's page at a real hub, over real sockets: login, what it shows and does, and attacks."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from loguru import logger
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from tests.support.log_lines import logged
from tests.support.programs.hub_scene import FirstHandshake
from tests.support.programs.operator_scene import Operator, Scene, raw, request
from tests.support.programs.our_peers import until
from wakestream.adapters.client.pair import pair
from wakestream.adapters.hub import admission
from wakestream.adapters.hub.admission import TRIES
from wakestream.adapters.hub.operator import desk
from wakestream.adapters.hub.operator.access import LASTS as SESSION
from wakestream.adapters.net.pairing import code_from
from wakestream.adapters.net.tls import client_context
from wakestream.streams.protocol import messages as m


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "hub")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "EVERY", 0.02)
    monkeypatch.setattr(admission, "AGAIN", 3600.0)  # no further try is free while a test lasts


async def welcome(page: Operator) -> dict[str, Any]:
    return await page.next("welcome", "refused")


async def refused(scene: Scene, key: str) -> dict[str, Any]:
    async with scene.operator(first={"type": "login", "key": key}) as page:
        return await page.next("refused", "welcome")


# Login


@pytest.mark.parametrize("tls", [False, True])
async def test_an_admin_key_opens_the_page_and_the_session_opens_it_again(scene: Scene, tls: bool) -> None:
    async with scene.hub(tls=tls):
        async with scene.operator(tls=tls) as page:
            said = await welcome(page)
            assert (said["license"], said["until"]) == (scene.admin.id, scene.now + SESSION)
            assert page.seen[0] == {"type": "hello", "secure": True, "admins": True}
        session = {"type": "enter", "session": said["session"]}
        async with scene.operator(tls=tls, first=session) as page, scene.operator(tls=tls, first=session) as other:
            assert (await welcome(page))["session"] == said["session"]
            assert (await welcome(other))["session"] == said["session"]
            await page.send({"type": "leave"})
            with pytest.raises(ConnectionClosed):
                await page.next("nothing")
            assert (await other.next("refused"))["code"] == "no_session"  # another tab of the same session
        async with scene.operator(tls=tls, first=session) as page:
            assert (await welcome(page))["code"] == "no_session"


@pytest.mark.parametrize("role", ["client", "worker", "monitor"])
async def test_a_key_of_another_role_is_no_admin_key(scene: Scene, role: str) -> None:
    _, key = scene.book.issue(role, "", scene.now)
    async with scene.hub():
        assert await refused(scene, key) == {"type": "refused", "code": "no_admin", "role": role}


@pytest.mark.parametrize("key", ["x", "", " ", "ws_admin_" + "a" * 52, "é" * 100, "\u202e"])
async def test_a_wrong_key_is_refused_and_is_in_no_log(scene: Scene, key: str) -> None:
    with logged("TRACE") as lines:
        async with scene.hub():
            assert (await refused(scene, key))["code"] in ("wrong_key", "bad_message")
            assert await welcome_with(scene, f"  {scene.key}\n")
    said = "".join(lines)
    assert len(key) < 2 or key not in said
    assert scene.key not in said


async def welcome_with(scene: Scene, key: str) -> bool:
    return (await refused(scene, key))["type"] == "welcome"


async def test_many_wrong_keys_have_to_wait_and_the_right_one_does_not(scene: Scene) -> None:
    async with scene.hub():
        codes = [(await refused(scene, f"wrong-{number}"))["code"] for number in range(TRIES + 1)]
        assert codes == [*["wrong_key"] * TRIES, "too_many_keys"]
        assert scene.server is not None
        assert scene.server.refused["page_wrong_key"] == TRIES
        last = await refused(scene, "wrong")
        assert 0 < last["wait"] <= admission.AGAIN
        assert await welcome_with(scene, scene.key)


async def test_a_thousand_logins_at_once_do_not_stop_the_hub(scene: Scene) -> None:
    async with scene.hub(), asyncio.timeout(100), scene.operator() as page:
        await welcome(page)

        async def attempt(number: int) -> str:
            try:
                return str((await refused(scene, f"guess-{number}"))["code"])
            except (InvalidHandshake, ConnectionClosed, OSError, TimeoutError) as error:
                return type(error).__name__

        found = await asyncio.gather(*(attempt(number) for number in range(1000)))
        assert found.count("wrong_key") <= TRIES
        assert "welcome" not in found
        assert (await page.call("licenses"))["all"] == 1
        assert scene.server is not None
        assert scene.server.connections == 0


async def test_a_session_ends_with_its_time_and_with_the_hub(scene: Scene) -> None:
    async with scene.hub():
        async with scene.operator() as page:
            session = {"type": "enter", "session": (await welcome(page))["session"]}
            scene.now += SESSION
            assert (await page.next("refused"))["code"] == "no_session"
        async with scene.operator(first=session) as page:
            assert (await welcome(page))["code"] == "no_session"
        async with scene.operator() as page:
            session = {"type": "enter", "session": (await welcome(page))["session"]}
    async with scene.hub(), scene.operator(first=session) as page:
        assert (await welcome(page))["code"] == "no_session"


@pytest.mark.parametrize("how", ["revoke", "rotate", "own page"])
async def test_a_page_ends_when_its_license_or_key_does(scene: Scene, how: str) -> None:
    async with scene.hub(), scene.operator() as page, scene.operator() as other:
        session = {"type": "enter", "session": (await welcome(page))["session"]}
        await welcome(other)
        if how == "revoke":
            scene.book.revoke(scene.admin.id, scene.now)
        elif how == "rotate":
            scene.book.rotate(scene.admin.id, scene.now, old_for=0.0)
        else:
            await page.send({"type": "call", "id": 1, "name": "revoke", "with": {"id": scene.admin.id}})
        for one in (page, other):
            assert (await one.next("refused"))["code"] == "revoked"
        async with scene.operator(first=session) as again:
            assert (await welcome(again))["code"] == "revoked"
        assert (await refused(scene, scene.key))["code"] == "revoked"


async def test_a_hub_without_an_admin_license_says_so(scene: Scene) -> None:
    scene.book.revoke(scene.admin.id, scene.now)
    async with scene.hub(), scene.page() as page:
        assert await page.next("hello") == {"type": "hello", "secure": True, "admins": False}


async def test_without_tls_over_the_network_no_key_is_taken(scene: Scene) -> None:
    proxies = (ipaddress.ip_network("127.0.0.1"),)
    async with scene.hub(proxies=proxies):
        headers = {"Host": "hub.example", "Origin": "http://hub.example", "X-Forwarded-Proto": "http"}
        async with connect(f"ws://127.0.0.1:{scene.port}/operator/live", additional_headers=headers, proxy=None) as at:
            page = Operator(at)
            assert not (await page.next("hello"))["secure"]
            assert await page.next("refused") == {"type": "refused", "code": "not_secure"}
        headers |= {"Origin": "https://hub.example", "X-Forwarded-Proto": "https"}
        async with connect(f"ws://127.0.0.1:{scene.port}/operator/live", additional_headers=headers, proxy=None) as at:
            assert (await Operator(at).next("hello"))["secure"]


NO_PAGE_SENDS: list[Any] = [
    [], "x", 5, {}, {"type": "login"}, {"type": "login", "key": 5}, {"type": "enter", "session": []},
    {"type": "call", "key": "x"}, {"type": "login", "key": "x" * desk.LONGEST},
]  # fmt: skip


async def test_a_message_that_no_page_sends_ends_the_connection(scene: Scene) -> None:
    async with scene.hub():
        for message in NO_PAGE_SENDS:
            async with scene.page() as page:
                await page.send(message)
                assert (await page.next("refused"))["code"] == "bad_message", message
                with pytest.raises(ConnectionClosed):
                    await page.next("nothing")


async def test_bytes_that_are_no_json_and_calls_that_do_not_exist_change_nothing(scene: Scene) -> None:
    async with scene.hub(), scene.operator() as page, scene.operator() as other:
        await welcome(page)
        await welcome(other)
        for given in ({"name": 5}, {"name": "issue", "with": []}, {"name": None, "with": {"role": "admin"}}):
            await page.send({"type": "call", "id": 7, **given})
            assert "error" in await page.next("answer", id=7)
        await page.socket.send(b"\xff\x00 no json")
        assert (await page.next("refused"))["code"] == "bad_message"
        assert (await other.call("licenses"))["all"] == 1


async def test_a_silent_page_is_closed_and_only_so_many_may_be_open(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "PAGES", 1)
    async with scene.hub():
        async with scene.operator() as page, scene.operator() as other:
            kinds = [(await welcome(one))["type"] for one in (page, other)]
            assert sorted(kinds) == ["refused", "welcome"]
        monkeypatch.setattr(desk, "WITHIN", 0.05)
        async with scene.page() as page:
            await page.next("hello")
            with pytest.raises(ConnectionClosed):
                await page.next("nothing")


# What it shows


async def test_the_state_has_gpus_leases_jobs_by_license_peers_and_money(scene: Scene) -> None:
    async with scene.hub(days=20), scene.work() as work, scene.operator() as page:
        monitor = await work.monitor("studio", "lab")
        await work.worker("studio")
        await work.client("alice", "job-1", "job-2")
        monitor.send(m.PowerState(gpu="lab", state="off"))
        await welcome(page)
        state = await page.until(
            "state", lambda one: one["all_leases"] == 2 and {gpu["phase"] for gpu in one["gpus"]} == {"online", "off"}
        )
        studio = next(gpu for gpu in state["gpus"] if gpu["gpu"] == "studio")
        assert (studio["price_per_hour"], studio["others"]) == (1.2, 2)
        assert sorted(lease["job"] for lease in state["leases"]) == ["job-1", "job-2"]
        (row,) = state["licenses"]
        assert (row["waiting"], row["running"]) == (0, 2)
        assert state["notes"][row["license"]] == "alice"
        assert state["peers"] == {"client": 1, "worker": 1, "monitor": 1, "other": 0}
        assert {(one.get("gpu"), one["period"]) for one in state["budgets"]} == {
            (None, "day"), (None, "month"), ("lab", "month"),
        }  # fmt: skip
        costs = await page.until("costs", lambda _: True)
        assert len(costs["days"]) > 10
        assert costs["forecast"]["month"] > 0


async def test_the_page_shows_the_costs_that_the_command_shows(scene: Scene) -> None:
    from wakestream.adapters.client.hub_query import ask_hub
    from wakestream.adapters.config.settings import Secret, Settings

    async with scene.hub(days=20) as hub, scene.operator() as page:
        told = await ask_hub(Settings(hub_url=hub.url, key=Secret(scene.key)), costs=True)
        assert told.costs is not None
        costs = (await page.next("costs"))["value"]
        assert costs == {name: told.costs[name] for name in ("today", "totals", "days", "forecast")}


async def test_the_log_is_live_and_has_no_key_in_it(scene: Scene) -> None:
    async with scene.hub(), scene.operator() as page:
        await welcome(page)
        logger.warning("someone sent {} and <b>text</b>", scene.key, stage="test")
        lines = await page.until("log", lambda found: any(line["text"].startswith("someone") for line in found))
        line = next(line for line in lines if line["text"].startswith("someone"))
        assert (line["level"], line["text"]) == ("WARNING", "someone sent *** and <b>text</b>")


async def test_a_page_hears_of_a_hub_without_news(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "BEAT", 0.05)
    async with scene.hub(), scene.operator() as page:
        for _ in range(3):
            await page.next("beat")


# What it does


async def test_an_issued_key_works_is_shown_once_and_is_in_no_log(scene: Scene) -> None:
    async with scene.hub() as hub, scene.operator() as page:
        await welcome(page)
        made = await page.call("issue", role="worker", note="<script>alert(1)</script>", gpus=["studio"])
        assert made["license"]["gpus"] == ["studio"]
        listed = await page.call("licenses")
        assert [row["note"] for row in listed["rows"]] == ["<script>alert(1)</script>", "the operator"]
        lines = await page.until("log", lambda found: any("was issued on the page" in line["text"] for line in found))
        assert (
            made["key"]
            not in orjson.dumps([lines, listed, *(one for one in page.seen if one["type"] != "answer")]).decode()
        )
        async with connect(hub.url, proxy=None) as worker:
            await worker.send(
                orjson.dumps({"type": "register", "role": "worker", "token": made["key"], "gpu": "studio"}).decode()
            )
            while (said := orjson.loads(await worker.recv()))["type"] != "registered":
                assert said["type"] == "connected"
            await page.call("revoke", id=made["license"]["id"])
            await worker.wait_closed()
        assert (await page.call("licenses"))["rows"][0]["revoked"] == scene.now


async def test_a_license_of_the_command_line_appears_on_the_page(scene: Scene) -> None:
    async with scene.hub(), scene.operator() as page:
        await welcome(page)
        await page.next("book")
        scene.book.issue("client", "from the terminal", scene.now)
        await page.next("book")
        assert (await page.call("licenses", search="terminal"))["found"] == 1


async def test_an_invited_machine_joins_and_its_code_vanishes(scene: Scene) -> None:
    async with scene.hub(tls=True) as hub, scene.operator(tls=True) as page:
        await welcome(page)
        made = await page.call("invite", role="client", note="bob")
        command = made["invite"]["command"]
        assert command == f"wakestream join 127.0.0.1:{hub.port} {made['invite']['code']}"
        assert made["svg"].startswith("<svg")
        assert (await page.call("qr", code=made["invite"]["code"]))["svg"] == made["svg"]
        await page.until("invites", lambda found: [one["code"] for one in found] == [made["invite"]["code"]])
        _, _, host, code = command.split()
        assert (await pair(host, code_from(code))).role == "client"
        await page.until("invites", lambda found: found == [])
        assert (await page.call("licenses", search="bob"))["found"] == 1


async def test_a_damaged_license_file_is_said_and_the_page_goes_on(scene: Scene) -> None:
    async with scene.hub(), scene.operator() as page:
        await welcome(page)
        before = scene.book.path.read_bytes()
        scene.book.path.write_text("{")
        assert "is damaged" in await page.call("licenses")
        assert "is damaged" in await page.call("issue", role="client")
        assert scene.book.path.read_text() == "{"
        scene.book.path.write_bytes(before)
        assert (await page.call("licenses"))["all"] == 1


# Attacks


async def answer(scene: Scene, *parts: Any, **how: Any) -> tuple[int, bytes]:
    said = await raw(scene.port, request(*parts, **how))
    return int(said.split(maxsplit=2)[1]), said


async def test_another_sites_name_for_this_hub_gets_nothing(scene: Scene) -> None:
    async with scene.hub():
        for path in ("/operator/", "/operator/app.js", "/operator/live", "/operator"):
            status, said = await answer(scene, path, scene.port, host="evil.example")
            assert status == 421
            assert b"<html" not in said
        assert scene.server is not None
        assert scene.server.refused["foreign_host"] == 4


ELSEWHERE: list[str | None] = ["http://evil.example", "https://127.0.0.1", "null", None, "file://"]


async def test_a_page_of_another_site_cannot_connect(scene: Scene) -> None:
    async with scene.hub():
        for origin in ELSEWHERE:
            with pytest.raises(InvalidStatus) as broke:
                async with scene.page(origin=origin):
                    pass
            assert broke.value.response.status_code == 403, origin


OTHER_METHODS: list[str] = ["POST", "PUT", "HEAD", "OPTIONS", "DELETE"]


async def test_only_get_is_answered(scene: Scene) -> None:
    async with scene.hub():
        for method in OTHER_METHODS:
            status, said = await answer(scene, "/operator/", scene.port, method=method)
            assert status in (400, 405), method
            assert b"<html" not in said, method


async def test_a_body_is_refused_before_it_arrives(scene: Scene) -> None:
    async with scene.hub():
        for more in ("Content-Length: 1000000000", "Transfer-Encoding: chunked"):
            said = await raw(scene.port, request("/operator/live", scene.port, more, method="POST"))
            assert b" 200 " not in said  # closed at once, while the body is still to come


async def test_a_head_that_never_ends_is_cut_and_others_are_served(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    within = FirstHandshake(0.2)
    monkeypatch.setattr(admission, "_OPEN_WITHIN", within)
    async with scene.hub():
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(b"GET /operator/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        await until(lambda: within.used)
        status, _ = await answer(scene, "/operator/", scene.port)
        assert status == 200
        assert b"<html" not in await reader.read()
        writer.close()


async def test_no_other_file_is_given(scene: Scene) -> None:
    async with scene.hub():
        status, said = await answer(scene, "/operator/../licenses.json", scene.port)
        assert status == 404
        assert scene.admin.hash.encode() not in said


async def test_the_page_comes_with_its_headers_and_says_where_it_is(scene: Scene) -> None:
    async with scene.hub(tls=True) as hub:
        context = client_context(scene.folder / "hub.pem")
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port, ssl=context)
        writer.write(request("/operator/?key=swordfish", hub.port))
        said = (await reader.read()).decode()
        writer.close()
        assert said.startswith("HTTP/1.1 200 OK")
        assert "require-trusted-types-for 'script'" in said
        assert re.search(r"^X-Frame-Options: DENY\r$", said, re.MULTILINE)
        assert "swordfish" not in said


async def test_other_settings_are_simulated_once_for_all_pages_and_only_while_one_looks(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    done = asyncio.Event()

    async def planned(*_: object) -> dict[str, Any]:
        seen.append("begin")
        try:
            await done.wait()
        finally:
            seen.append("end")
        return {"enough": False}

    monkeypatch.setattr(desk, "planned", planned)
    async with scene.hub():
        for _ in range(3):
            async with scene.operator() as page:
                await page.next("state")
                await until(lambda: seen[-1:] == ["begin"])
            await until(lambda: seen[-1:] == ["end"])
        assert seen == ["begin", "end"] * 3
        async with scene.operator() as page, scene.operator() as other:
            await other.next("state")
            await until(lambda: seen[-1:] == ["begin"])
            done.set()
            assert (await page.next("plan"))["value"] == (await other.next("plan"))["value"] == {"enough": False}
        async with scene.operator() as page:
            await page.next("plan")
        assert seen == ["begin", "end"] * 4
