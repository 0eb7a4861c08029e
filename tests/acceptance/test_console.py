"""The console's calls as a program makes them: who is let in, what is refused and how, and what stays on the disk."""

import asyncio
import errno
import os
import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.support.browser.console_scene import House, house, samples
from tests.support.browser.studio import REMIX, Studio, png
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon
from tests.support.programs.our_peers import until
from wakestream.adapters.daemon.api import requests, routes
from wakestream.adapters.daemon.api.routes import submitted
from wakestream.adapters.daemon.console import storage, uploads
from wakestream.adapters.daemon.console.app import PAGES
from wakestream.adapters.daemon.console.upload_validation import file_name
from wakestream.adapters.testing.replay_runner import run_log
from wakestream.streams.recording.recording import read_log


class Caller:
    """One who holds a session."""

    def __init__(self, home: House, session: aiohttp.ClientSession) -> None:
        self.home, self.session = home, session
        self.bearer = {"Authorization": f"Bearer {home.daemon.console.sessions.new_session()}"}
        self.owner = {"Authorization": f"Bearer {home.token}"}

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """One call: its status and its JSON."""
        data = body if isinstance(body, bytes) else None if body is None else orjson.dumps(body)
        sent = self.bearer | headers
        async with self.session.request(method, self.home.url + path, data=data, headers=sent) as response:
            return response.status, orjson.loads(await response.read())

    async def upload(self, kind: str, path: Path, name: str = "") -> str:
        """A file's id, once it is there."""
        data = path.read_bytes()
        asked = {"kind": kind, "name": name or path.name, "size": len(data)}
        status, plain = await self.ask("POST", "/console/uploads", asked)
        assert status == 201, plain
        status, plain = await self.ask("PUT", f"/console/uploads/{plain['id']}", data)
        assert (status, plain["complete"]) == (200, True), plain
        return str(plain["id"])

    async def start(self, video: str, audio: str, job: str = "ws-1") -> str:
        """A job of two files."""
        status, plain = await self.ask("POST", "/console/jobs", {"id": job, "video": video, "audio": audio})
        assert status == 201, plain
        return str(plain["id"])

    async def outcome(self, job: str = "ws-1") -> str:
        """How the job ended."""
        async with (
            asyncio.timeout(100),
            self.session.get(f"{self.home.url}/api/jobs/{job}/events", headers=self.owner) as response,
        ):
            text = (await response.read()).decode()
        return text.rstrip().rsplit("event: ", 1)[1].partition("\n")[0]

    @property
    def kept(self) -> list[Path]:
        """The files of uploads on the disk."""
        found = os.walk(self.home.state / "console" / "uploads")  # which takes it that a folder goes meanwhile
        return sorted(Path(folder, name) for folder, _, names in found for name in names)


@asynccontextmanager
async def calling(folder: Path) -> AsyncIterator[Caller]:
    """A house and one who calls."""
    async with house(folder) as home, aiohttp.ClientSession() as session:
        yield Caller(home, session)


PATHS = [
    ("GET", "/console/live"), ("GET", "/console/costs"), ("GET", "/console/log"), ("POST", "/console/uploads"),
    ("PUT", "/console/uploads/x"),
]  # fmt: skip


async def test_requests_without_a_session_and_of_other_hosts_and_origins_are_refused(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        for method, path in PATHS:
            for wrong in ("", "Bearer wrong", f"Bearer {2**40}.{'0' * 64}", "Bearer 9\xfc.\xfc"):
                status, plain = await caller.ask(method, path, Authorization=wrong)
                assert (status, plain["code"]) == (401, "unauthorized"), (method, path)
        for method, path in [("GET", "/"), *PATHS, ("POST", "/console/session"), ("GET", "/api/health")]:
            for host in ("evil.example", "127.0.0.1:1"):
                status, plain = await caller.ask(method, path, Host=host)
                assert (status, plain["code"]) == (421, "foreign_host"), (method, path)
            for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
                status, plain = await caller.ask(method, path, Origin=origin)
                assert (status, plain["code"]) == (403, "foreign_origin"), (method, path)
        host = f"localhost:{caller.home.url.rpartition(':')[2]}"
        ours = {"Host": host, "Origin": f"http://{host}", **caller.owner}
        assert (await caller.ask("GET", "/api/health", **ours))[0] == 200


async def test_the_page_allows_nothing_but_its_own_files(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller, caller.session.get(caller.home.url + "/") as response:
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert (policy.count("blob:"), "media-src 'self' blob:" in policy) == (1, True)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        text = await response.text()
        assert "<script>" not in text
        assert "style=" not in text
        assert "http" not in text.replace("http-equiv", "")
        tag = {"If-None-Match": response.headers["ETag"]}
        async with caller.session.get(caller.home.url + "/", headers=tag) as again:
            assert again.status == 304
        async with caller.session.get(caller.home.url + "/app.js") as script:
            assert script.content_type == "text/javascript"


async def test_a_link_works_once_and_its_session_ends_when_the_daemon_frees_the_port(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        code = caller.home.daemon.console.sessions.new_link()
        nobody = {"Authorization": ""}
        status, plain = await caller.ask("POST", "/console/session", {"code": code}, **nobody)
        assert status == 200
        assert (await caller.ask("POST", "/console/session", {"code": code}, **nobody))[0] == 401
        session = {"Authorization": f"Bearer {plain['session']}"}
        assert (await caller.ask("GET", "/console/history", **session))[0] == 200
        ticket, link = (
            caller.home.daemon.console.sessions.ticket("ws-1"),
            caller.home.daemon.console.sessions.new_link(),
        )
        url = caller.home.url
        await caller.home.stop_daemon()
        stolen = await heard_at(url, caller, session)  # by another program that has taken the port
        assert stolen == session["Authorization"]
        await caller.home.start_daemon()
        assert caller.home.url == url
        for method, path in (*PATHS, ("POST", "/console/links"), ("GET", "/console/history")):
            assert (await caller.ask(method, path, Authorization=stolen))[0] == 401
        assert (await caller.ask("POST", "/console/session", {}, Authorization=stolen))[0] == 401
        assert (await caller.ask("POST", "/console/session", {"code": link}, **nobody))[0] == 401
        assert (await caller.ask("GET", f"/console/results/ws-1?ticket={ticket}"))[0] == 401
        assert b"key" not in (caller.home.state / "console.json").read_bytes()


async def heard_at(url: str, caller: Caller, headers: dict[str, str]) -> str:
    """What a program that listens in the daemon's place is shown by the page."""
    shown: list[str] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        shown.extend(line.partition(": ")[2] for line in head.splitlines() if line.startswith("Authorization: "))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", int(url.rpartition(":")[2])):
        assert (await caller.ask("GET", "/console/history", **headers))[0] == 200
    return shown[0]


OF_PROGRAMS = [
    ("GET", "/api/health"), ("GET", "/api/jobs"), ("POST", "/api/jobs"), ("GET", "/api/jobs/ws-1"),
    ("POST", "/api/jobs/ws-1/cancel"), ("POST", "/api/jobs/ws-1/retry"), ("POST", "/api/retry"),
    ("GET", "/api/jobs/ws-1/events"), ("GET", "/api/events"),
    ("GET", "//api/health"), ("GET", "/console/../api/health"),
]  # fmt: skip


async def test_a_session_does_not_open_the_programs_api(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        assert (await caller.ask("GET", "/console/history"))[0] == 200
        for method, path in OF_PROGRAMS:
            assert (await caller.ask(method, path, {}))[0] in (401, 404), (method, path)


async def test_uploads_over_a_limit_or_that_do_not_fit_are_refused_before_they_are_sent(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        asked = {"kind": "video", "name": "a.mp4", "size": 20 * 10**9}
        status, plain = await caller.ask("POST", "/console/uploads", asked)
        assert (status, plain["code"], plain["size"], plain["most"]) == (413, "quota", 20 * 10**9, 50_000_000)
        assert "20.0 GB" in plain["error"]
        assert "50.0 MB" in plain["error"]
        status, _ = await caller.ask("POST", "/console/uploads", {**asked, "size": 30_000_000})
        assert status == 201
        status, plain = await caller.ask("POST", "/console/uploads", {**asked, "size": 30_000_000})
        assert (status, plain["code"], plain["room"]) == (413, "full", 20_000_000)
        for bad in ({"size": 0}, {"size": True}, {"size": "1"}, {"kind": "text"}, {"name": 7}, {"name": "a.exe"}):
            status, plain = await caller.ask("POST", "/console/uploads", {**asked, "size": 5, **bad})
            assert 400 <= status < 500, bad
            assert plain["error"]
        for announced, code in UNFIT:
            status, plain = await caller.ask("POST", "/console/uploads", {"size": 5, **announced})
            assert (status // 100, plain["code"]) == (4, code), announced
        status, plain = await caller.ask("POST", "/console/uploads", {"size": 5, "kind": "file", "name": "a.PNG"})
        assert (status, plain["slot"]) == (201, "lipsync.file")
        assert caller.kept == []


async def test_a_file_of_another_size_than_announced_leaves_nothing(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        asked = {"kind": "video", "name": "a.mp4", "size": 1000}
        for data in (bytes(999), bytes(1001)):
            _, plain = await caller.ask("POST", "/console/uploads", asked)
            status, refused = await caller.ask("PUT", f"/console/uploads/{plain['id']}", data)
            assert (status, refused["code"]) == (400, "other_size")
            assert (await caller.ask("PUT", f"/console/uploads/{plain['id']}", data))[0] == 404
        assert caller.kept == []


async def test_a_full_disk_is_reported_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with calling(tmp_path) as caller:
        _, plain = await caller.ask("POST", "/console/uploads", {"kind": "audio", "name": "a.wav", "size": 5})
        monkeypatch.setattr(uploads, "write_all", full)
        status, refused = await caller.ask("PUT", f"/console/uploads/{plain['id']}", b"12345")
        assert (status, refused["code"]) == (507, "no_space")
        assert "the disk is full" in refused["error"]
        assert caller.kept == []


async def test_a_done_job_leaves_only_its_result_under_the_users_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "COMPARED", 0)  # its inputs are not kept for a comparison
    video, audio = await samples(tmp_path, 1.0)
    async with calling(tmp_path) as caller:
        await caller.home.gpu_on()
        caller.home.engine.go_on.set()
        odd = '../"Ünï"\u202e 😀\r\n.mp4'
        await caller.start(await caller.upload("video", video, odd), await caller.upload("audio", audio))
        assert await caller.outcome() == "done"
        await until(lambda: caller.kept == [])
        _, ticket = await caller.ask("POST", "/console/jobs/ws-1/ticket")
        async with caller.session.get(f"{caller.home.url}{ticket['url']}&download=1") as response:
            said = response.headers["Content-Disposition"]
            plain, _, encoded = said.partition("; filename*=UTF-8''")
            assert plain == 'attachment; filename="__n__ _ - narration.mp4"'
            assert encoded == "_%C3%9Cn%C3%AF_%20%F0%9F%98%80%20-%20narration.mp4"
            assert "\u202e" not in said
        ranged = {"Range": "bytes=0-99"}
        async with caller.session.get(caller.home.url + ticket["url"], headers=ranged) as response:
            assert (response.status, len(await response.read())) == (206, 100)
            assert response.content_type == "video/mp4"
        for address in ("/console/results/ws-1", "/console/results/ws-2" + ticket["url"].partition("ws-1")[2]):
            async with caller.session.get(caller.home.url + address) as response:
                assert response.status == 401
        assert (await caller.ask("DELETE", "/console/results/ws-1"))[0] == 200
        async with caller.session.get(caller.home.url + ticket["url"]) as response:
            assert response.status == 410
        _, past = await caller.ask("GET", "/console/history?text=😀")
        assert past["jobs"][0]["inputs"][0]["file"] == '"Ünï" 😀.mp4'
        for text, found in (("narration", 1), ("NARRATION ünï", 1), ("ws-1", 0), ("ws", 0)):
            assert (await caller.ask("GET", f"/console/history?text={text}"))[1]["matching"] == found, text
        assert past["jobs"][0]["result"] == {"here": False, "size": past["jobs"][0]["result"]["size"], "ours": True}


async def done_remix(caller: Caller, folder: Path, *, ours: bool = True) -> dict[str, Any]:
    """The card of a job of the kind `remix` with all its outputs, once it is done."""
    picture = folder / "cat.png"
    picture.write_bytes(png())
    results = caller.home.state / "console" / "results" if ours else folder
    made = {slot.name: str(results / f"ws-mix.{slot.name}{slot.accepts[0]}") for slot in REMIX.outputs}
    asked = requests.submitted_job(
        {"id": "ws-mix", "kind": "remix", "inputs": {"picture": str(picture)}, "outputs": made}
    )
    await submitted(caller.home.daemon.outbox, asked)
    await caller.home.gpu_on(Studio())
    assert await caller.outcome("ws-mix") == "done"
    _, past = await caller.ask("GET", "/console/history")
    card: dict[str, Any] = past["jobs"][0]
    return card


async def test_each_result_of_a_job_is_served_so_that_nothing_in_it_can_run(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        card = await done_remix(caller, tmp_path, ours=False)
        assert [card["kind"], *(one["file"] for one in card["inputs"])] == ["remix", "cat.png"]
        assert {one["name"]: one["shown"] for one in card["outputs"]} == {
            "video": "video", "audio": "audio", "image": "image", "text": "text", "data": "json",
            "model": "", "page": "", "drawing": "",
        }  # fmt: skip
        assert all(one["here"] and one["size"] for one in card["outputs"])
        assert card["result"]["size"] == sum(one["size"] for one in card["outputs"])
        _, ticket = await caller.ask("POST", "/console/jobs/ws-mix/ticket")
        types = {}
        for one in card["outputs"]:
            async with caller.session.get(f"{caller.home.url}{ticket['url']}&name={one['name']}") as response:
                assert len(await response.read()) == one["size"]
                types[one["name"]] = response.headers["Content-Type"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Content-Security-Policy"].endswith("; sandbox")
                saved = response.headers.get("Content-Disposition", "")
                assert saved.startswith("attachment") == (not one["shown"]), one
        assert types == {
            "video": "video/mp4", "audio": "audio/wav", "image": "image/png", "text": "text/plain; charset=utf-8",
            "data": "application/json", **dict.fromkeys(("model", "page", "drawing"), "application/octet-stream"),
        }  # fmt: skip
        async with caller.session.get(caller.home.url + ticket["url"]) as response:
            assert response.content_type == "video/mp4", "the main one"
        for name, status in (("../cat", 404), ("nothing", 404)):
            async with caller.session.get(f"{caller.home.url}{ticket['url']}&name={name}") as response:
                assert response.status == status
        assert (await caller.ask("DELETE", "/console/results/ws-mix"))[0] == 409, "it was not started on the page"
        (tmp_path / "ws-mix.text.txt").unlink()
        async with caller.session.get(f"{caller.home.url}{ticket['url']}&name=text") as response:
            assert response.status == 410


async def test_all_results_of_a_job_of_the_page_are_removed_together(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        card = await done_remix(caller, tmp_path)
        assert card["result"]["ours"]
        assert card["outputs"][1]["file"] == "cat - audio.wav"
        results = caller.home.state / "console" / "results"
        await caller.home.daemon.console.holdings.tidy()
        assert len(list(results.iterdir())) == len(REMIX.outputs), "the job is known, so they stay"
        assert (await caller.ask("DELETE", "/console/results/ws-mix"))[0] == 200
        assert list(results.iterdir()) == []
        assert (await caller.ask("DELETE", "/console/results/ws-mix"))[0] == 410
        assert (await caller.ask("POST", "/console/jobs/ws-mix/ticket"))[0] == 410


async def test_a_result_that_a_later_job_reads_is_not_removed(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        await done_remix(caller, tmp_path)
        await caller.home.gpu_off()
        results = caller.home.state / "console" / "results"
        later = {"id": "ws-later", "kind": "remix", "outputs": {"video": str(tmp_path / "later.mp4")}}
        asked = requests.submitted_job({**later, "inputs": {"picture": str(results / "ws-mix.image.png")}})
        await submitted(caller.home.daemon.outbox, asked)
        status, plain = await caller.ask("DELETE", "/console/results/ws-mix")
        assert (status, plain["code"]) == (409, "in_use")
        assert len(list(results.iterdir())) == len(REMIX.outputs)


async def test_a_result_has_the_ending_of_its_content(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        await caller.home.gpu_on(Studio())
        job = {"id": "ws-paint", "kind": "paint", "inputs": {}, "params": {"prompt": "a cat"}}
        for wrong in ("../x", ".p/g", 7, "png"):
            status, plain = await caller.ask("POST", "/console/jobs", {**job, "outputs": {"image": wrong}})
            assert (status, plain["field"]) == (400, "outputs.image")
        status, _ = await caller.ask("POST", "/console/jobs", {**job, "outputs": {"image": ".jpg"}})
        assert status == 201
        assert await caller.outcome("ws-paint") == "done"
        _, past = await caller.ask("GET", "/console/history")
        [made] = past["jobs"][0]["outputs"]
        assert (made["file"], made["shown"]) == ("paint.png", "image")
        _, ticket = await caller.ask("POST", "/console/jobs/ws-paint/ticket")
        async with caller.session.get(f"{caller.home.url}{ticket['url']}&download") as response:
            assert response.content_type == "image/png"
            assert 'filename="paint.png"' in response.headers["Content-Disposition"]


async def test_pages_and_the_users_programs_have_event_streams_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "FOLLOWERS", 3)  # one is the daemon itself, which looks after files
    async with calling(tmp_path) as caller, AsyncExitStack() as streams:

        async def opened(path: str, headers: dict[str, str]) -> int:
            response = await streams.enter_async_context(
                caller.session.get(caller.home.url + path, headers=headers, timeout=aiohttp.ClientTimeout())
            )
            return response.status

        assert [await opened("/console/live", caller.bearer) for _ in range(3)] == [200] * 3
        assert [await opened("/api/events", caller.owner) for _ in range(3)] == [200, 200, 503]
        assert await opened("/console/live", caller.bearer) == 200


async def test_a_result_is_fetched_when_all_of_it_was_downloaded(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        await caller.home.gpu_on(Studio())
        for job in ("one", "two"):
            asked = {"id": job, "kind": "paint", "inputs": {}, "params": {"prompt": job}, "outputs": {"image": ".png"}}
            assert (await caller.ask("POST", "/console/jobs", asked))[0] == 201
            assert await caller.outcome(job) == "done"
        unfetched = caller.home.daemon.console.holdings.unfetched
        await until(lambda: unfetched == {"one", "two"})
        url = caller.home.url + (await caller.ask("POST", "/console/jobs/one/ticket"))[1]["url"]
        for address, ranged in ((url, {}), (f"{url}&download", {"Range": "bytes=0-0"})):
            async with caller.session.get(address, headers=ranged) as response:
                assert await response.read()
        async with caller.session.head(f"{url}&download") as response:
            assert response.status == 200
        assert unfetched == {"one", "two"}
        async with caller.session.get(f"{url}&download") as response:
            assert await response.read()
        await until(lambda: unfetched == {"two"})
        archive = caller.home.url + (await caller.ask("POST", "/console/archives", {"jobs": ["two"]}))[1]["url"]
        async with caller.session.get(archive) as response:
            assert await response.read()
        await until(lambda: unfetched == set())


UNFIT: list[tuple[dict[str, Any], str]] = [
    ({"kind": "file", "name": "README"}, "no_ending"),
    ({"kind": "file", "name": "a.p-g"}, "no_ending"),
    ({"kind": "file", "name": "a.png", "accepts": [".srt"]}, "unsupported"),
    ({"kind": "video", "name": "a.png"}, "unsupported"),
    ({"kind": "file", "name": "a.png", "accepts": "image"}, "bad_request"),
    ({"kind": "file", "name": "a.png", "accepts": [7]}, "bad_request"),
    ({"kind": "file", "name": "a.png", "slot": 7}, "bad_request"),
    ({"kind": "image", "name": "a.png"}, "bad_request"),
]


async def test_inputs_of_a_failed_job_stay_until_the_space_is_needed(tmp_path: Path) -> None:
    _, audio = await samples(tmp_path, 1.0)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    async with calling(tmp_path) as caller:
        await caller.home.gpu_on()
        caller.home.engine.go_on.set()
        await caller.start(await caller.upload("video", broken), await caller.upload("audio", audio))
        assert await caller.outcome() == "failed"
        assert len(caller.kept) == 4
        status, again = await caller.ask("POST", "/console/jobs/ws-1/retry", {})
        assert (status, again["retry_of"]) == (201, "ws-1")
        assert await caller.outcome(again["id"]) == "failed"
        big = {"kind": "video", "name": "a.mp4", "size": 49_999_900}
        status, plain = await caller.ask("POST", "/console/uploads", big)
        assert status == 201, plain
        assert caller.kept == []


async def test_other_files_under_the_id_of_a_job_are_refused_and_leave_its_names_alone(tmp_path: Path) -> None:
    video, audio = await samples(tmp_path, 1.0)
    async with calling(tmp_path) as caller:
        audio_id = await caller.upload("audio", audio)
        await caller.start(await caller.upload("video", video), audio_id)
        names = caller.home.state / "console" / "results" / f"{file_name('ws-1')}.json"
        before = names.read_bytes()
        other = {"id": "ws-1", "video": await caller.upload("video", video, "other.mp4"), "audio": audio_id}
        status, plain = await caller.ask("POST", "/console/jobs", other)
        assert (status, plain["code"]) == (409, "conflict")
        assert names.read_bytes() == before


async def test_the_status_pages_of_hub_and_worker_show_state_and_no_secrets(tmp_path: Path) -> None:
    video, audio = await samples(tmp_path, 1.0)
    async with calling(tmp_path) as caller:
        await caller.home.gpu_on()
        await caller.start(await caller.upload("video", video), await caller.upload("audio", audio), "secret-job")
        server = caller.home.hub_server
        await until(lambda: any(gpu.leases for gpu in server.state.gpus.values()))
        hub = server.url.replace("ws://", "http://").replace("/dsp", "/")
        worker = next(gpu.url for gpu in server.state.gpus.values())
        english, chinese = (
            {"Accept-Language": "en-US,en;q=0.9,zh;q=0.5"},
            {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"},
        )
        for address, languages, wanted in (
            (hub, english, "online · "), (hub, chinese, "已就绪 · "), (hub, {}, "none seen yet"),
            (f"{worker}/", english, "At work"), (f"{worker}/", chinese, "进行中"),
        ):  # fmt: skip
            async with caller.session.get(address, headers=languages) as response:
                text = await response.text()
                assert response.status == 200
                assert wanted in text
                assert "script" not in text
                assert "default-src 'none'" in response.headers["Content-Security-Policy"]
                for secret in (*caller.home.place.keys.values(), "secret-job", "interview", "narration"):
                    assert secret not in text


async def test_pages_over_the_limit_are_refused_until_another_page_closes(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        live = f"{caller.home.url}/console/live"
        async with AsyncExitStack() as stack:
            for _ in range(PAGES):
                response = await stack.enter_async_context(caller.session.get(live, headers=caller.bearer))
                assert response.status == 200
            status, plain = await caller.ask("GET", "/console/live")
            assert (status, plain["code"]) == (503, "too_many_pages")
            assert (await caller.ask("GET", "/console/history"))[0] == 200
        while True:
            async with caller.session.get(f"{live}?once", headers=caller.bearer) as response:
                text = await response.text()
            if response.status == 200:
                break
        assert text.startswith("event: state\ndata: {")
        assert text.count("event: ") == 1


async def test_many_changes_read_the_sizes_of_all_results_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with calling(tmp_path) as caller:
        console = caller.home.daemon.console
        sizes: list[int] = []
        monkeypatch.setattr(console.holdings.uploads, "_extra", lambda: sizes.append(1) or 0)
        for _ in range(50):
            console.calls.changed()
        await until(lambda: bool(sizes))
        assert len(sizes) == 1


async def test_questions_use_the_connection_of_the_jobs_and_are_not_recorded(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        async with caller.session.get(f"{caller.home.url}/console/live", headers=caller.bearer) as page:
            while b"event: gpu" not in await page.content.readline():
                pass
            assert (await caller.ask("GET", "/api/kinds", **caller.owner))[0] == 200
            assert len(caller.home.hub_server.state.clients) == 1
        async with caller.session.get(f"{caller.home.url}/console/log", headers=caller.bearer) as response:
            log = read_log((await response.read()).splitlines(keepends=True))
    assert {row.label for row in log.rows} == {"connected", "register", "registered", "up"}


async def test_a_truncated_timeline_replays(tmp_path: Path) -> None:
    video, audio = await samples(tmp_path, 1.0)
    async with calling(tmp_path) as caller:
        caller.home.daemon.console._timeline._kept = 120
        await caller.home.gpu_on()
        caller.home.engine.go_on.set()
        for number in range(6):
            given = video.with_name(f"v{number}.mp4")
            given.write_bytes(video.read_bytes() + bytes(number))
            await caller.start(await caller.upload("video", given), await caller.upload("audio", audio), f"ws-{number}")
            assert await caller.outcome(f"ws-{number}") == "done"
        async with caller.session.get(f"{caller.home.url}/console/log", headers=caller.bearer) as response:
            log = read_log((await response.read()).splitlines(keepends=True))
    assert len(log.rows) <= 120
    jobs = {row.job for row in log.rows if row.label == "job.accept"}
    assert "ws-5" in jobs
    assert "ws-0" not in jobs
    trial = await asyncio.to_thread(run_log, log)
    assert (trial.trouble, [str(found) for found in trial.replayed.divergences]) == (None, [])


async def test_the_browser_opens_with_no_secret_on_its_command_line(user: User) -> None:
    user.environment |= {"API_SERVER_URL": "http://127.0.0.1:9", "WAKESTREAM_KEY": "any-key-0123456789"}
    told, browser = user.folder / "told", user.folder / "browser"
    browser.write_text('#!/bin/sh\ncat "${1#file://}" > told.new\nprintf "%s\\n" "$1" >> told.new\nmv told.new told\n')
    browser.chmod(0o755)
    async with daemon(user, "--open", BROWSER=f"{browser} %s") as api:
        assert (await user.run("console", "--install", XDG_DATA_HOME=str(user.folder))).code == 0
        entry = (user.folder / "applications" / "wakestream.desktop").read_text()
        installed = shlex.split(entry.partition("Exec=")[2].partition("\n")[0])[3:]
        assert installed[:2] == ["console", "--open"]
        for command in ((), installed):
            if command:
                assert (await user.run(*command, BROWSER=f"{browser} %s")).code == 0
            await until(told.exists)
            page, _, address = told.read_text().rstrip().rpartition(">")
            assert "#link=" not in address
            code = page.partition("#link=")[2].partition('"')[0]
            status, plain = await api.ask("POST", "/console/session", {"code": code}, {"Authorization": ""})
            assert status == 200, plain
            told.unlink()


async def test_the_link_is_printed_on_request_and_never_logged(user: User) -> None:
    user.environment |= {"API_SERVER_URL": "http://127.0.0.1:9", "WAKESTREAM_KEY": "any-key-0123456789"}
    async with daemon(user, "--console-quota", "2GB") as api:
        assert api.running.process.stdout is not None
        said = (await api.running.process.stdout.readline()).decode()
        assert said.startswith(f"web console: {api.address.url}/ (")
        assert "#link=" not in said
        ran = await user.run("console")
        assert ran.code == 0, ran.err
        url, _, code = ran.out.strip().partition("/#link=")
        assert url == api.address.url
        status, plain = await api.ask("POST", "/console/session", {"code": code}, {"Authorization": ""})
        assert status == 200, plain
        answer = await api.ask("GET", "/console/history", None, {"Authorization": f"Bearer {plain['session']}"})
        assert answer == (200, {"jobs": [], "matching": 0})
    ran = await user.run("console")
    assert ran.code == 4
    assert "no daemon runs" in ran.err


async def test_the_costs_are_those_of_the_hub_without_an_open_page(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        status, plain = await caller.ask("GET", "/console/costs")
        assert (status, plain["hub"], plain["costs"]["jobs"]) == (200, "up", [])
        await caller.home.hub_off()
        caller.home.daemon.console.costs.outdate()
        status, plain = await caller.ask("GET", "/console/costs")
        assert (status, plain["hub"], plain["costs"]["jobs"]) == (200, "down", [])
        assert plain["why"]


async def test_a_hub_without_this_question_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wakestream.streams.hub.hub.HUB_STATUS", "of a later version")
    async with calling(tmp_path) as caller:
        assert await caller.ask("GET", "/console/costs") == (200, {
            "hub": "old", "why": "this hub does not report its status; it is older than this program", "spent": {},
            "open": {},
        })  # fmt: skip
