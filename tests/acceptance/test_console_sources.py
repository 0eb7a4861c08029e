"""Files that the daemon copies for the console: from a path on this machine, or from a URL."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.acceptance.test_console import Caller, calling
from tests.acceptance.test_console_waiting import seen, state
from tests.support.browser.studio import png
from wakestream.adapters.daemon.console import copies
from wakestream.adapters.daemon.console import copies as sources
from wakestream.adapters.net import public_addresses

PUBLIC = "127.0.0.2"
"""Counts as an address of the internet in these tests."""

MOVIE = b"\0\0\0\x20ftypisom" + b"m" * 300_000


@pytest.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    """One who calls."""
    async with calling(tmp_path) as one:
        yield one


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address `PUBLIC` counts as public."""
    with socket.socket() as one:
        try:
            one.bind((PUBLIC, 0))
        except OSError:
            pytest.skip(f"{PUBLIC} is no address here")
    monkeypatch.setattr(public_addresses, "is_public", lambda address: str(address) == PUBLIC)


@asynccontextmanager
async def served(answer: Any, host: str = PUBLIC) -> AsyncIterator[str]:
    """A web server that answers each request with `answer(request)`; its address."""
    app = web.Application()
    app.router.add_get("/{name:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0)
    await site.start()
    try:
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def copy(caller: Caller, source: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """Ask for a copy, and wait until its source is open; a refusal has the status 4xx."""
    status, plain = await queued(caller, source, **more)
    id_ = plain.get("id")
    async with asyncio.timeout(100):
        while status == 201 and not plain.get("size"):
            _, plain = await caller.ask("GET", f"/console/copies/{id_}")
            if "failed" in plain:
                return 400, plain["failed"]
            await asyncio.sleep(0.01)
    return status, plain


async def queued(caller: Caller, source: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """Ask for a copy."""
    asked = {"kind": "video", "accepts": ["video"], "slot": "lipsync.video", "source": source, **more}
    return await caller.ask("POST", "/console/copies", asked)


async def copied(caller: Caller, id_: str) -> dict[str, Any]:
    """The end of a copy."""
    async with asyncio.timeout(100):
        while True:
            status, plain = await caller.ask("GET", f"/console/copies/{id_}")
            assert status == 200, plain
            if plain.get("complete") or "failed" in plain:
                return plain
            await asyncio.sleep(0.02)


async def test_a_file_is_copied_from_its_path_and_a_job_waits_for_it(caller: Caller, tmp_path: Path) -> None:
    path = tmp_path / "my clip.mp4"
    path.write_bytes(MOVIE)
    status, plain = await copy(caller, f'"{path}"')
    assert (status, plain["name"], plain["size"]) == (201, "my clip.mp4", len(MOVIE))
    voice = tmp_path / "a.wav"
    voice.write_bytes(b"RIFF\0\0\0\0WAVE" + b"a" * 1000)
    audio = await caller.upload("audio", voice)
    status, _ = await caller.ask("POST", "/console/jobs", {"id": "ws-1", "video": plain["id"], "audio": audio})
    assert status in (201, 202)
    assert (await copied(caller, plain["id"]))["complete"]
    await seen(caller, lambda found: [job["id"] for job in found["jobs"]] == ["ws-1"])
    assert path.read_bytes() == MOVIE
    assert any(kept.read_bytes() == MOVIE for kept in caller.kept)


async def test_a_file_url_is_a_path_and_may_name_this_machine(caller: Caller, tmp_path: Path) -> None:
    path = tmp_path / "ä 50%20b.png"
    path.write_bytes(png())
    for url in (path.as_uri(), path.as_uri().replace("file://", "file://localhost")):
        status, plain = await copy(caller, url, kind="file", accepts=["image"])
        assert (status, plain["name"]) == (201, "ä 50%20b.png")
        assert (await copied(caller, plain["id"]))["complete"]


ELSEWHERE = (
    "file://server/share/clip.mp4", "file:////server/share/clip.mp4", "\\\\server\\share\\clip.mp4",
    "//server/share/clip.mp4", "\\/server/share/clip.mp4", "FILE://Server/clip.mp4",
)  # fmt: skip


async def test_a_path_of_another_computer_is_refused_before_that_is_asked(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(path: object) -> str:
        raise AssertionError(f"{path} was looked at")

    monkeypatch.setattr(sources, "_ON_WINDOWS", True)
    monkeypatch.setattr(sources.os.path, "realpath", asked)
    for source in ELSEWHERE:
        status, plain = await copy(caller, source)
        assert (status, plain["code"], plain["host"].lower()) == (400, "source_network", "server"), source


async def test_a_path_reads_no_other_files_than_media(caller: Caller, tmp_path: Path) -> None:
    hidden = tmp_path / ".ssh"
    hidden.mkdir()
    for name, data in (
        (".ssh/id.mp4", MOVIE), ("secret.txt", b"secret"), ("key.mp4", b"-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("empty.mp4", b""),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
    inside = caller.home.state / "console" / "a.mp4"
    inside.write_bytes(MOVIE)
    for name in (".ssh/id.mp4", "secret.txt", "key.mp4", "empty.mp4"):
        status, plain = await copy(caller, str(tmp_path / name), kind="file", accepts=[])
        assert (status, plain["code"]) == (400, "source_not_media"), name
    status, plain = await copy(caller, str(inside))
    assert plain["code"] == "source_not_media"
    for wrong, code in (
        (str(tmp_path / "none.mp4"), "source_unreadable"), (str(tmp_path / ("a" * 300) / "a.mp4"), "source_unreadable"),
        ("clip.mp4", "source_relative"), ("", "source_source"),
        ("x" * 5000, "source_source"), ("ftp://example.org/a.mp4", "source_url"), ("gopher://x/a.mp4", "source_url"),
    ):  # fmt: skip
        status, plain = await copy(caller, wrong)
        assert (status, plain["code"]) == (400, code), plain
    assert caller.kept == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
async def test_a_pipe_a_folder_and_a_link_to_a_secret_are_refused_at_once(caller: Caller, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "secret.txt")
    for name, code in (("pipe", "unreadable"), ("folder", "unreadable"), ("link", "not_media")):
        status, plain = await copy(caller, str(tmp_path / f"{name}.mp4"))
        assert (status, plain["code"]) == (400, f"source_{code}")
    status, plain = await copy(caller, "~no-such-user/clip.mp4")
    assert (status, plain["code"]) == (400, "source_relative")


@pytest.mark.usefixtures("internet")
async def test_a_file_is_downloaded_from_a_url(caller: Caller) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/old":
            raise web.HTTPFound("/new/clip%20one.mp4?x=1")
        return web.Response(body=MOVIE, content_type="video/mp4")

    async with served(answer) as url:
        status, plain = await copy(caller, f"{url}/old")
        assert (status, plain["name"], plain["size"]) == (201, "clip one.mp4", len(MOVIE))
        assert (await copied(caller, plain["id"]))["complete"]
        assert [kept.read_bytes() for kept in caller.kept if kept.suffix == ".mp4"] == [MOVIE]


@pytest.mark.usefixtures("internet")
async def test_a_url_that_leads_to_this_machine_is_refused(caller: Caller) -> None:
    asked: list[str] = []

    async def secret(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.Response(body=MOVIE, content_type="video/mp4")

    async with served(secret, "127.0.0.1") as inside:
        port = inside.rpartition(":")[2]
        hosts = ("127.0.0.1", "localhost", "2130706433", "0.0.0.0", "[::1]")  # noqa: S104 - nothing is bound to it
        targets = [f"http://{host}:{port}/a.mp4" for host in hosts]
        targets += [f"http://{host}:{port}/a.mp4" for host in ("１２７.0.0.1", "127。0。0。1", "⑫⑦.0.0.1")]  # noqa: RUF001
        targets += [f"http://[::ffff:127.0.0.1]:{port}/a.mp4", "http://10.0.0.1/a.mp4", "http://169.254.169.254/a.mp4"]

        async def answer(request: web.Request) -> web.StreamResponse:
            raise web.HTTPFound(targets[int(request.query["to"])])

        async with served(answer) as url:
            for at, target in enumerate(targets):
                for source in (target, f"{url}/?to={at}"):
                    status, plain = await copy(caller, source)
                    # Some resolvers do not read the number as an address, and find nothing.
                    codes = {"source_not_public"} | ({"source_unreachable"} if "2130706433" in target else set())
                    assert (status, plain["code"] in codes) == (400, True), (source, plain)
    assert asked == []


@pytest.mark.usefixtures("internet")
async def test_a_wrong_answer_of_a_server_is_named(caller: Caller) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/page":
                return web.Response(text="<html>", content_type="text/html")
            case "/loop":
                raise web.HTTPFound("/loop")
            case "/file":
                raise web.HTTPFound("file:///etc/passwd.mp4")
            case "/missing.mp4":
                raise web.HTTPNotFound
            case "/stream.mp4":
                stream = web.StreamResponse()
                stream.enable_chunked_encoding()
                await stream.prepare(request)
                return stream
        return web.Response(body=b"x", content_type="text/plain")

    async with served(answer) as url:
        for path, code in (
            ("page", "source_page"), ("loop", "source_redirects"), ("file", "source_url"),
            ("missing.mp4", "source_status"), ("stream.mp4", "source_length"), ("notes.txt", "unsupported"),
        ):  # fmt: skip
            status, plain = await copy(caller, f"{url}/{path}")
            assert (status // 100, plain["code"]) == (4, code), plain
        status, plain = await copy(caller, f"{url.replace('http://', 'http://me:secret@')}/a.mp4")
        assert plain["code"] == "source_url"
    status, plain = await copy(caller, f"{url}/a.mp4")  # it does not listen any more
    assert plain["code"] == "source_unreachable"
    assert caller.kept == []


@pytest.mark.usefixtures("internet")
async def test_a_download_is_limited_by_the_quota_and_can_be_stopped_and_fail(caller: Caller) -> None:
    going = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        size = 10**12 if request.path == "/huge.mp4" else len(MOVIE)
        stream = web.StreamResponse(headers={"Content-Length": str(size), "Content-Type": "video/mp4"})
        await stream.prepare(request)
        await stream.write(MOVIE[:1000])
        if request.path == "/broken.mp4":
            assert request.transport is not None
            request.transport.abort()
            return stream
        going.set()
        await asyncio.Event().wait()
        return stream

    async with served(answer) as url:
        status, plain = await copy(caller, f"{url}/huge.mp4")
        assert (status, plain["code"]) == (400, "quota")
        going.clear()
        status, plain = await copy(caller, f"{url}/slow.mp4")
        await going.wait()
        assert (await caller.ask("DELETE", f"/console/copies/{plain['id']}"))[0] == 200
        assert (await state(caller))["used"] == 0
        going.clear()
        video, audio = [(await copy(caller, f"{url}/slow{at}.mp4", kind="file", accepts=[]))[1]["id"] for at in (1, 2)]
        await going.wait()
        status, _ = await caller.ask("POST", "/console/jobs", {"id": "ws-1", "video": video, "audio": audio})
        assert status == 202
        await caller.ask("POST", "/console/act", {"act": "cancel", "jobs": ["ws-1"]})
        for id_ in (video, audio):  # no job needs them now
            assert (await caller.ask("DELETE", f"/console/copies/{id_}"))[0] == 404
        status, plain = await queued(caller, f"{url}/broken.mp4")
        assert (await copied(caller, plain["id"]))["failed"]["code"] == "broken"
    assert caller.kept == []


@pytest.mark.usefixtures("internet")
async def test_a_url_is_opened_in_its_turn_and_the_number_of_waiting_copies_is_limited(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "MOST", 5)
    opened, go_on = asyncio.Queue[str](), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        opened.put_nowait(request.path)
        await go_on.wait()
        headers = {"Content-Disposition": 'attachment; filename="holiday.mov"'}
        return web.Response(body=MOVIE, content_type="video/quicktime", headers=headers)

    async with served(answer) as url:
        ids = []
        for at in range(5):
            status, plain = await queued(caller, f"{url}/clip{at}?x=1")
            assert (status, plain["name"], plain["size"]) == (201, f"clip{at}", 0)
            ids.append(plain["id"])
        status, plain = await queued(caller, f"{url}/clip6")
        assert (status, plain["code"], plain["count"]) == (429, "many_copies", 5)
        found = sorted([await opened.get() for _ in range(copies.AT_ONCE)])
        assert found == ["/clip0", "/clip1", "/clip2"]
        voice = caller.home.place.folder / "a.wav"
        voice.write_bytes(b"RIFF")
        audio = await caller.upload("audio", voice)
        status, _ = await caller.ask("POST", "/console/jobs", {"id": "ws-1", "video": ids[4], "audio": audio})
        assert (status, opened.empty()) == (202, True)
        assert (await caller.ask("DELETE", f"/console/copies/{ids[3]}"))[0] == 200
        go_on.set()
        assert (await copied(caller, ids[4]))["name"] == "holiday.mov"
        assert sorted([await opened.get()]) == ["/clip4"]
        (job,) = (await seen(caller, lambda found: bool(found["jobs"])))["jobs"]
        assert [one["file"] for one in job["inputs"]] == ["holiday.mov", "a.wav"]


def test_only_addresses_of_the_internet_are_public() -> None:
    public = ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")
    private = (
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",  # noqa: S104
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "fec0::1", "::7f00:1", "::ffff:0:7f00:1",
    )  # fmt: skip
    assert [one for one in public if not public_addresses.is_public(ipaddress.ip_address(one))] == []
    assert [one for one in private if public_addresses.is_public(ipaddress.ip_address(one))] == []
