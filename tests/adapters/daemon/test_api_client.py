"""The client of the daemon's API finds a daemon again that has started again."""

import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from wakestream.adapters.daemon import discovery
from wakestream.adapters.daemon.api_client import DaemonUnreachable, open_daemon_client


class Daemon:
    """Answers to its present token only."""

    def __init__(self) -> None:
        self.token = "first"

    async def answer(self, request: web.Request) -> web.Response:
        """All calls are the same to it."""
        if request.headers["Authorization"] != f"Bearer {self.token}":
            return web.json_response({"code": "unauthorized", "error": "no"}, status=401)
        plain: dict[str, Any] = {"program": "daemon", "jobs": [], "matching": 0}
        return web.json_response(plain)


async def test_a_daemon_that_started_again_at_the_same_port_is_asked_with_its_new_token(tmp_path: Path) -> None:
    daemon, app = Daemon(), web.Application()
    app.router.add_get("/{path:.*}", daemon.answer)
    async with TestServer(app) as server, open_daemon_client(tmp_path) as client:
        url = str(server.make_url("")).rstrip("/")
        with discovery.announced(tmp_path, discovery.Address(url, "first", os.getpid())):
            assert await client.jobs("open", 10) == ([], 0)
        daemon.token = "second"
        with pytest.raises(DaemonUnreachable):  # its file is not written yet
            await client.jobs("open", 10)
        with discovery.announced(tmp_path, discovery.Address(url, "second", os.getpid())):
            assert await client.jobs("open", 10) == ([], 0)
            daemon.token = "third"
            with pytest.raises(DaemonUnreachable):
                await client.jobs("open", 10)


async def test_a_stream_that_ends_at_once_is_not_opened_in_a_loop(tmp_path: Path) -> None:
    opened = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal opened
        opened += request.path == "/api/events"
        return web.json_response({"program": "daemon"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server, open_daemon_client(tmp_path) as client:
        client.patience = 0.6
        address = discovery.Address(str(server.make_url("")).rstrip("/"), "token", os.getpid())
        with (
            discovery.announced(tmp_path, address),
            pytest.raises(DaemonUnreachable, match="its stream of events ends at once"),
        ):
            assert [event async for event in client.events()] == []
    assert 2 <= opened <= 4


async def test_a_stream_older_than_the_patience_is_opened_again_when_it_breaks(tmp_path: Path) -> None:
    opened = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal opened
        if request.path != "/api/jobs/job-1/events":
            return web.json_response({"program": "daemon"})
        opened += 1
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        event = "submitted" if opened == 1 else "done"
        await stream.write(f'id: {opened}\ndata: {{"event": "{event}"}}\n\n'.encode())
        return stream

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server, open_daemon_client(tmp_path) as client:
        client.patience = 0.0  # each stream is older than this
        address = discovery.Address(str(server.make_url("")).rstrip("/"), "token", os.getpid())
        with discovery.announced(tmp_path, address):
            assert [event["event"] async for event in client.events("job-1")] == ["submitted", "done"]
