"""The command line beside a daemon that keeps as many jobs as it takes."""

import asyncio
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from tests.support.programs import plain_server
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon, state_of
from wakestream.adapters.daemon.api_client import DaemonRefused, open_daemon_client
from wakestream.adapters.daemon.discovery import Address, announced
from wakestream.adapters.disk.journal import open_journal
from wakestream.streams.outbox import facts as f

JOBS = 10_000


async def test_jobs_lists_the_newest_of_ten_thousand_and_counts_the_rest(user: User) -> None:
    user.environment |= {"API_SERVER_URL": "http://127.0.0.1:9", "WAKESTREAM_KEY": "any-key-0123456789"}
    user.environment["WAKESTREAM_DAEMON"] = str(user.folder.parent / "daemon")
    await _filled(user)
    async with daemon(user):
        ran = await user.run("jobs", "--json")
        assert (ran.code, ran.events[0]["id"]) == (0, f"job-{JOBS - 1}"), ran.err
        assert ran.events == sorted(ran.events, key=lambda job: -job["accepted_at"])
        assert str(JOBS - len(ran.events)) in ran.err
        ran = await user.run("jobs")
        assert (ran.code, ran.out.count("wake") + ran.out.count("submit") > 160) == (0, True), ran.err


async def _filled(user: User) -> None:
    """The journal of a daemon that took so many jobs before."""
    async with open_journal(state_of(user) / "outbox.sqlite3", f.OutboxFact, program="daemon") as journal:
        await journal.append([_accepted(user, number) for number in range(JOBS)])


def _accepted(user: User, number: int) -> f.JobAccepted:
    output = user.folder / f"a-name-as-long-as-people-give-to-their-files-{number}.mp4"
    return f.JobAccepted(
        f"job-{number}", str(user.video), str(user.audio), str(output), 5000, 1, 2500, 1, "heygem_submit", 0, number
    )


async def test_a_refusal_that_comes_in_pieces_is_read_to_its_end(tmp_path: Path) -> None:
    refusal = orjson.dumps({"error": "x" * 3_000_000, "code": "too_many_followers"})

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        status, body = ("200 OK", b'{"program": "daemon"}') if b"/api/health" in asked else ("503 No", refusal)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with announced(tmp_path, Address(url, "token", 1)):
            async with open_daemon_client(tmp_path) as client:
                await client.needed()
                with pytest.raises(DaemonRefused) as refused:
                    await anext(client.events())
                assert (refused.value.code, len(str(refused.value))) == ("too_many_followers", 3_000_000)


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_daemon_that_vanishes_between_two_jobs_leaves_the_ids_of_those_it_has(
    user: User, as_json: bool
) -> None:
    for name in ("a", "b", "c"):
        (user.folder / f"{name}.mp4").write_bytes(b"video")
        (user.folder / f"{name}.wav").write_bytes(b"audio")
    asked: list[str] = []

    async def submit(request: web.Request) -> web.Response:
        asked.append((await request.json())["id"])
        if len(asked) == 2:
            assert request.transport is not None
            request.transport.abort()
            state.unlink()
        return web.json_response({"id": asked[0], "state": "open"}, status=201)

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"program": "daemon", "connected": True})

    user.environment["WAKESTREAM_DAEMON"] = str(user.folder.parent / "daemon")
    state_of(user).mkdir()
    state = state_of(user) / "daemon.json"
    async with plain_server.answering([web.get("/api/health", health), web.post("/api/jobs", submit)]) as url:
        with announced(state_of(user), Address(url, "token", 1)):
            ran = await user.run("submit", "--pairs", ".", "--yes", *(["--json"] if as_json else []))
    assert ran.code != 0
    assert ran.out.count(asked[0]) == 1
    assert (f"1 of 3 jobs submitted, and perhaps {asked[1]}" in ran.err) is not as_json
