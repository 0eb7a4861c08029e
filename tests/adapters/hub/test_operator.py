"""The parts of the operator's page: sessions, who may use it, its files, and what it shows."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from websockets.datastructures import Headers
from websockets.http11 import Request

from tests.support.programs.our_peers import until
from wakestream.adapters.hub.invites import Invites
from wakestream.adapters.hub.licenses import LicenseBook, LicenseError, key_mark
from wakestream.adapters.hub.operator import access, desk, planning
from wakestream.adapters.hub.operator.access import Access, Caller, Sessions, is_same_origin
from wakestream.adapters.hub.operator.actions import Actions
from wakestream.adapters.hub.operator.operator import FOLDER, OperatorPage
from wakestream.adapters.net.connection_limits import Proxies
from wakestream.adapters.net.static_files import SAFE, files_of
from wakestream.adapters.runtime import child_processes
from wakestream.adapters.telemetry.logs import LONGEST, RecentLog
from wakestream.streams.hub.state import HubState

PACKAGE = "wakestream.adapters.hub.operator"


# Sessions


def test_a_session_is_valid_for_twelve_hours_and_ends_when_it_is_left() -> None:
    now = 1000.0
    open_ = Sessions(lambda: now)
    token, session = open_.begin("license", "mark")
    assert open_.find(token) == session
    assert open_.find(token + "x") is None
    assert open_.find("\ud800") is None
    now += access.LASTS
    assert open_.find(token) is None
    other, _ = open_.begin("license", "mark")
    open_.end(other)
    open_.end("unknown")
    assert open_.find(other) is None


def test_sessions_are_bounded_and_the_oldest_goes() -> None:
    open_ = Sessions(lambda: 0.0)
    tokens = [open_.begin("license", "mark")[0] for _ in range(access.MOST + 1)]
    assert len(set(tokens)) == len(tokens)
    assert [token for token in tokens if open_.find(token) is None] == tokens[:1]


# From where


def request(path: str = "/operator/live", **headers: str) -> Request:
    return Request(path, Headers({name.replace("_", "-"): value for name, value in headers.items()}))


PLAIN = Access(Proxies(), lambda: None)
TLS = Access(Proxies(), lambda: ["hub.example", "*.fleet.example", "10.0.0.5"])
BEHIND = Access(Proxies([ipaddress.ip_network("127.0.0.1")]), lambda: None)


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:8765", "LOCALHOST:9000", "[::1]:8765", "127.0.0.1"])
def test_without_tls_the_page_is_for_this_machine(host: str) -> None:
    caller = PLAIN.caller("127.0.0.1", request(Host=host))
    assert caller == Caller(host.lower(), f"http://{host.lower()}", secure=True)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil", "", "[", "192.168.1.5:8765"],
)
def test_another_name_for_this_machine_is_refused(host: str) -> None:
    assert PLAIN.caller("127.0.0.1", request(Host=host)) is None


def test_over_the_network_without_tls_no_key_is_taken() -> None:
    caller = PLAIN.caller("192.168.1.9", request(Host="192.168.1.5:8765", X_Forwarded_Proto="https"))
    assert caller is not None
    assert not caller.secure


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("hub.example", True), ("HUB.example:8765", True), ("a.fleet.example", True), ("localhost:8765", True),
        ("10.9.9.9:8765", True), ("[fe80::1]:8765", True), ("evil.example", False), ("a.b.fleet.example", False),
        ("fleet.example", False), ("", False),
    ],
)  # fmt: skip
def test_with_tls_the_host_is_an_address_or_a_name_of_the_certificate(host: str, ours: bool) -> None:
    caller = TLS.caller("192.168.1.9", request(Host=host))
    assert caller == (Caller(host.lower(), f"https://{host.lower()}", secure=True) if ours else None)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Host": "hub.example", "X_Forwarded_Proto": "https"}, ("https://hub.example", True)),
        (
            {"Host": "127.0.0.1:1", "X_Forwarded_Proto": "https", "X_Forwarded_Host": "a, hub.example"},
            ("https://hub.example", True),
        ),
        ({"Host": "hub.example", "X_Forwarded_Proto": "https, http"}, ("http://hub.example", False)),
        ({"Host": "hub.example", "X_Forwarded_Proto": "http"}, ("http://hub.example", False)),
    ],
)  # fmt: skip
def test_a_named_proxy_tells_how_the_browser_came(headers: dict[str, str], expected: tuple[str, bool]) -> None:
    caller = BEHIND.caller("127.0.0.1", request(**headers))
    assert caller is not None
    assert (caller.origin, caller.secure) == expected


def test_a_proxy_that_was_not_named_is_not_believed() -> None:
    assert PLAIN.caller("127.0.0.1", request(Host="hub.example", X_Forwarded_Proto="https")) is None


@pytest.mark.parametrize(
    ("origin", "same"),
    [
        ("http://localhost:8765", True), ("HTTP://Localhost:8765", True), ("http://localhost:3000", False),
        ("https://localhost:8765", False), ("null", False), ("http://evil.example", False), (None, False),
    ],
)  # fmt: skip
def test_only_pages_of_this_origin_may_connect(origin: str | None, same: bool) -> None:
    headers = {"Host": "localhost:8765", **({"Origin": origin} if origin is not None else {})}
    caller = PLAIN.caller("127.0.0.1", request(**headers))
    assert caller is not None
    assert is_same_origin(caller, request(**headers)) == same


def test_two_origins_are_none() -> None:
    headers = Headers({"Host": "localhost:1"})
    headers["Origin"] = "http://localhost:1"
    headers["Origin"] = "http://evil.example"
    caller = PLAIN.caller("127.0.0.1", Request("/operator/live", headers))
    assert caller is not None
    assert not is_same_origin(caller, Request("/operator/live", headers))


# Files


@pytest.mark.parametrize(
    "path",
    [
        "/operator/../licenses.json", "/operator/..%2f..%2flicenses.json", "/operator/static/app.js",
        "/operator//app.js", "/operator/app.js/", "/operator/./app.js", "/operator/%61pp.js",
        "/operator/\\..\\desk.py", "/operator/desk.py",
        "/operator/app.js\0", "/operator/APP.JS",
    ],
)  # fmt: skip
def test_no_path_leads_to_another_file(path: str) -> None:
    answer = OperatorPage().answer(path, Request(path, Headers()))
    assert answer.status_code == 404
    assert answer.headers["Content-Security-Policy"] == SAFE["Content-Security-Policy"]


def test_the_page_and_each_of_its_files_is_given_with_its_type_and_a_policy_without_inline_scripts() -> None:
    page = OperatorPage()
    assert page.answer("/operator", Request("/operator", Headers())).headers["Location"] == FOLDER
    for name in ("", *files_of(PACKAGE)):
        answer = page.answer(FOLDER + name, Request(FOLDER + name, Headers()))
        assert answer.status_code == 200
        assert int(answer.headers["Content-Length"]) == len(answer.body)
        assert "script-src 'self';" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        known = Headers({"If-None-Match": answer.headers["ETag"]})
        assert page.answer(FOLDER + name, Request(FOLDER + name, known)).status_code == 304


def test_the_page_is_small_has_no_inline_script_and_every_file_is_named_by_another() -> None:
    texts = {name: body.decode() for name, body in files_of(PACKAGE).items()}
    assert sum(map(len, texts.values())) < 100_000
    html = texts["index.html"]
    assert re.findall(r"<script(?![^>]* src=)|\son\w+=|style=", html) == []
    for name in texts.keys() - {"index.html", "kinds-zh.json"}:  # the console has the kinds
        assert any(name in text for other, text in texts.items() if other != name), name
    acting = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "new Function")
    scripts = {name: text for name, text in texts.items() if name.endswith(".js")}
    assert [(name, word) for name, text in scripts.items() for word in acting if word in text] == []
    assert [name for name, text in texts.items() if "localStorage" in text] == ["words.js"]  # the language, no session


def words() -> dict[str, list[str]]:
    texts = files_of(PACKAGE)
    lines = {name: texts[f"words-{name}.js"].decode() for name in ("en", "zh")}
    return {name: [part.rpartition('"')[2] for part in text.split('": "')[:-1]] for name, text in lines.items()}


def test_both_languages_have_all_texts_with_the_same_names_in_them() -> None:
    assert words()["en"] == words()["zh"]
    texts = files_of(PACKAGE)
    pairs = [re.findall(r'"([\w.]+)": "((?:[^"\\]|\\.)*)"', texts[f"words-{one}.js"].decode()) for one in ("en", "zh")]
    named = [{key: sorted(re.findall(r"\{(\w+)\}", text)) for key, text in found} for found in pairs]
    assert named[0] == named[1]


def test_every_text_that_the_page_names_exists() -> None:
    texts = {name: body.decode() for name, body in files_of(PACKAGE).items()}
    own = "".join(text for name, text in texts.items() if not name.startswith("words"))
    asked = set(re.findall(r'\bt\("([\w.]+)"', own)) | set(re.findall(r'data-t(?:-\w+)?="([\w.]+)"', own))
    assert len(asked) > 60
    assert asked - set(words()["en"]) == set()


# What it shows and does


@pytest.fixture
def book(tmp_path: Path) -> LicenseBook:
    return LicenseBook(tmp_path)


@pytest.fixture
def actions(book: LicenseBook, tmp_path: Path) -> Actions:
    return Actions(book, Invites(tmp_path), now=lambda: 1000.0)


def test_licenses_are_found_by_words_and_listed_in_parts(actions: Actions, book: LicenseBook) -> None:
    for number in range(120):
        book.issue("client", f"Person p{number}z", 0.0)
    worker, _ = book.issue("worker", "", 0.0, ["studio"])
    found = actions.call("licenses", {}, "by", "hub")
    assert (len(found["rows"]), found["found"], found["all"]) == (100, 121, 121)
    assert found["rows"][0]["id"] == worker.id
    assert "hash" not in found["rows"][0]
    assert len(actions.call("licenses", {"most": 1000}, "by", "hub")["rows"]) == 121
    assert len(actions.call("licenses", {"most": -1}, "by", "hub")["rows"]) == 100
    assert [row["note"] for row in actions.call("licenses", {"search": "person CLIENT p119z"}, "by", "h")["rows"]] == [
        "Person p119z"
    ]
    for search in ("studio", worker.id[:5], "worker"):
        assert worker.id in [row["id"] for row in actions.call("licenses", {"search": search}, "by", "h")["rows"]]


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("issue", {"role": "king"}, "there is no role 'king'"),
        ("issue", {"role": "client", "note": "a\nb"}, "a note is one line of 200 characters at most"),
        ("issue", {"role": "client", "note": "x" * 201}, "a note is one line of 200 characters at most"),
        ("issue", {"role": "client", "gpus": ["studio"]}, "cannot be limited to a GPU"),
        ("issue", {"role": "worker", "gpus": [" studio"]}, "a GPU's name has"),
        ("issue", {"role": "worker", "gpus": "studio"}, '"gpus" must be a list of names'),
        ("issue", {"role": 5}, '"role" must be a text'),
        ("revoke", {"id": "0000"}, "no license has an id that begins with that"),
        ("revoke", {}, "no license has an id that begins with that"),
        ("invite", {"role": "king"}, "there is no role 'king'"),
        ("qr", {"code": "ZZZZ-ZZZZ"}, "this code was used or is too old"),
        ("format the disk", {}, "there is no call 'format the disk'"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_refused_with_the_reason(
    actions: Actions, name: str, given: dict[str, object], why: str
) -> None:
    with pytest.raises(LicenseError, match=re.escape(why)):
        actions.call(name, given, "by", "hub")


def test_a_code_says_what_to_type_and_vanishes_when_it_is_used(actions: Actions, tmp_path: Path) -> None:
    made = actions.call("invite", {"role": "worker", "gpus": ["studio"]}, "by", "hub.example:8765")["invite"]
    assert made["command"] == f"wakestream join hub.example:8765 {made['code']}"
    assert [one["code"] for one in actions.pending("hub.example")] == [made["code"]]
    invites = Invites(tmp_path)
    (invite,) = invites.valid(1000.0)
    invites.redeem(invite, 1000.0, "there")
    assert actions.pending("hub.example") == []


def test_the_hubs_public_address_counts_more_than_the_browsers(book: LicenseBook, tmp_path: Path) -> None:
    actions = Actions(book, Invites(tmp_path), "wss://hub.example:8765/dsp", lambda: 1000.0)
    made = actions.call("invite", {"role": "client"}, "by", "127.0.0.1:1")["invite"]
    assert made["command"] == f"wakestream join hub.example:8765 {made['code']}"


def test_a_key_is_valid_until_it_is_revoked_or_replaced(book: LicenseBook) -> None:
    license_, key = book.issue("admin", "", 0.0)
    book.refresh()
    assert book.has_admin
    assert book.is_valid(key_mark(key), 10.0)
    book.rotate(license_.id, 10.0, old_for=5.0)
    book.refresh()
    assert (book.is_valid(key_mark(key), 14.0), book.is_valid(key_mark(key), 15.0)) == (True, False)
    book.revoke(license_.id, 16.0)
    book.refresh()
    assert not book.is_valid(key_mark(key), 11.0)
    assert not book.has_admin
    assert not book.is_valid("unknown", 0.0)


def test_an_empty_hub_can_be_shown() -> None:
    state = desk.state_of(HubState(), 1000.0, lambda _: "")
    assert (state["gpus"], state["leases"], state["licenses"]) == ([], [], [])
    assert state["peers"] == {"client": 0, "worker": 0, "monitor": 0, "other": 0}
    costs = desk.costs_of(HubState(), 1000.0)
    assert (costs["days"], costs["forecast"], costs["today"]) == ([], None, "1970-01-01")
    assert costs["totals"] == {"today": {"on_s": 0}, "month": {"on_s": 0}}


# Its log


def test_log_lines_are_kept_redacted_cut_and_in_order() -> None:
    log = RecentLog(3)
    secret = f"ws_admin_{'a' * 40}"
    with log.kept():
        logger.debug("too little")
        for number in range(3):
            logger.info("line {}", number)
        first = log.since(0)
        logger.warning("a key: {}\nand \x1b[31mmore", secret)
        logger.error("x" * 3000)
    logger.info("after the end")
    assert [line["text"] for line in first] == ["line 0", "line 1", "line 2"]
    warned, failed = log.since(first[-1]["n"])
    assert (warned["level"], failed["level"]) == ("WARNING", "ERROR")
    assert secret not in warned["text"]
    assert "\n" not in warned["text"]
    assert "\x1b" not in warned["text"]
    assert len(failed["text"]) == LONGEST + 1
    assert len(log.since(0)) == 3


def test_a_secret_at_the_cut_is_not_shown_in_part() -> None:
    log = RecentLog()
    with log.kept():
        logger.info("{} ws_admin_{}", "x" * (LONGEST - 15), "b" * 52)
    assert "bbb" not in log.since(0)[0]["text"]


def history(days: int) -> dict[str, Any]:
    """Four lonely jobs a day at one GPU."""
    jobs = [n for hour in (2, 8, 14, 20) for n in (3600 * hour, 120, 0)]
    gpus = {"studio": {"slots": 1, "boots": [90]}}
    place = {"patience": 60.0, "min_gain": 5.0, "surplus_after": 90.0, "ahead": 1}
    return {"place": place, "fits": [["studio"]], "gpus": gpus, "days": [[20_000 + day, jobs] for day in range(days)]}


def test_other_settings_are_simulated_once_there_are_enough_jobs() -> None:
    gpus = [{"gpu": "studio", "price_per_hour": 2.0, "idle_after_s": 1800}]
    assert planning.plan_of(gpus, history(6)) == {"enough": False}
    assert planning.plan_of(gpus, {**history(0), "gpus": {}}) == {"enough": False}
    assert planning.plan_of([], {**history(12), "gpus": {}, "fits": [[]]}) == {"enough": False}, "all were forgotten"
    told = planning.plan_of(gpus, history(12))
    assert (told["recommended"]["setting"], told["jobs"], told["enough"]) == ("idle", 48, True)


async def test_a_process_of_its_own_simulates_and_ends_when_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processes: list[Process] = []
    start = child_processes.start

    async def started(*argv: Any, **how: Any) -> Process:
        processes.append(await start(*argv, **how))
        return processes[-1]

    monkeypatch.setattr(child_processes, "start", started)
    gpus = [{"gpu": "studio", "price_per_hour": 2.0, "idle_after_s": 1800}]
    assert await planning.planned(gpus, history(12)) == planning.plan_of(gpus, history(12))
    waiting = asyncio.create_task(planning.planned(gpus, history(12)))
    await until(lambda: len(processes) == 2)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert [process.returncode is not None for process in processes] == [True, True]
    with pytest.raises(ValueError, match="KeyError"):
        await planning.planned(gpus, {})
