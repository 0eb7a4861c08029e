"""A depot that is overloaded, has lost or spoiled files, or whose clock is wrong, and wrong clocks of the others.

With the real programs. A proxy before the depot gives the answers; its disk is damaged after the files were stored.
"""

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from blake3 import blake3

from tests.support.faults.depot_home import Home, ended, home_with_depot
from tests.support.programs.plain_server import answering

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="the worker is found in /proc")]

PUT = r"^(POST|PATCH) /files/"
GET = r"^GET \S*/file\?"


class Door:
    """Passes calls on to the depot. So many of the next ones as are `left`, PUT or GET, get 503 with `Retry-After`."""

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self.port, self.session = port, session
        self.left = {PUT: 0, GET: 0}
        self.seen: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        call = f"{request.method} {request.path_qs}"
        body = await request.read()
        self.seen.append(call)
        for calls, left in self.left.items():
            if left and re.search(calls, call):
                self.left[calls] -= 1
                return web.Response(status=503, headers={"Retry-After": "1"}, text="overloaded")
        headers = {name: value for name, value in request.headers.items() if name != "Transfer-Encoding"}
        async with self.session.request(
            request.method, f"http://127.0.0.1:{self.port}{request.path_qs}", data=BytesIO(body), headers=headers
        ) as response:
            content = await response.read()
            kept = {name: value for name, value in response.headers.items() if name != "Transfer-Encoding"}
            return web.Response(status=response.status, headers=kept, body=content or None)


@asynccontextmanager
async def door_of(home: Home) -> AsyncIterator[Door]:
    """A proxy that reads the calls of the depot."""
    line = home.house.lines["depot"]
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        door = Door(line.target, session)
        async with answering(door.answer) as url:
            line.aim(int(url.rpartition(":")[2]))
            yield door


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with home_with_depot(tmp_path) as here:
        yield here


@pytest.fixture
async def door(home: Home) -> AsyncIterator[Door]:
    async with door_of(home) as door:
        yield door


def kept(home: Home, path: Path | None = None) -> list[Path]:
    """The files on the depot's disk: the one with this content, or those that are no inputs of the job."""
    inputs = {blake3(each.read_bytes()).hexdigest() for each in (home.job.video, home.job.audio)}
    name = blake3(path.read_bytes()).hexdigest() if path is not None else ""
    files = (home.house.folder / "depot" / "files").iterdir()
    return [each for each in files if (each.stem == name if name else each.stem not in inputs)]


# Overloaded for a while


async def test_a_depot_that_is_overloaded_for_a_while_is_asked_again_in_each_transfer(home: Home, door: Door) -> None:
    door.left = {PUT: 3, GET: 3}
    with home.held():
        await home.stores()
        assert not door.left[PUT]
        await home.notes("start")
        assert not door.left[GET]
        door.left[PUT] = 3
    await home.delivered()
    assert not door.left[PUT]
    door.left[GET] = 3
    await home.finishes()
    assert not door.left[GET]
    home.accounts()


# Lost or spoiled


async def test_inputs_that_the_depot_has_lost_or_spoiled_are_sent_again_by_their_pc(home: Home, door: Door) -> None:
    door.left[GET] = 10**6
    await home.stores()
    [lost], [spoiled] = kept(home, home.job.video), kept(home, home.job.audio)
    lost.unlink()
    spoiled.write_bytes(bytes(spoiled.stat().st_size))
    door.left[GET] = 0
    door.seen.clear()
    await home.finishes()
    assert sum(call.startswith("POST /files/") for call in door.seen) == 3  # both, and the result
    home.accounts()


async def test_a_result_that_the_depot_has_spoiled_never_becomes_a_file_and_the_job_says_so(
    home: Home, door: Door
) -> None:
    with home.held():
        await home.stores()
    await home.delivered()
    [path] = kept(home)
    path.write_bytes(bytes(path.stat().st_size))
    async with home.pc() as pc:
        end = await ended(pc, home)
        assert (end["event"], end["code"]) == ("failed", "damaged"), end
        assert not home.job.output.exists()
        status, answer = await pc.ask("POST", f"/api/jobs/{home.job.id}/retry", {})
        assert status < 300, answer
        again = str(answer["id"])
        assert (await ended(pc, home, again))["event"] == "done"
    home.accounts()


# Clocks

CLOCK = """import os, sys, time
who, by = os.environ["KILL_RUN_CLOCK"].split(":")
if sys.orig_argv[3:4] == [who]:
    right = time.time
    time.time = lambda: right() + float(by)
    open(os.path.join(os.path.dirname(__file__), f"used-{who}"), "w").close()
"""


@asynccontextmanager
async def clocks_off(folder: Path, **seconds: int) -> AsyncIterator[Home]:
    """The programs, of which these have a clock that is wrong by so many seconds."""
    (folder / "clock").mkdir()
    (folder / "clock" / "sitecustomize.py").write_text(CLOCK)
    own = {
        "monitor" if who == "worker" else who: {"PYTHONPATH": str(folder / "clock"), "KILL_RUN_CLOCK": f"{who}:{by}"}
        for who, by in seconds.items()
    }
    async with home_with_depot(folder, own=own) as home:
        yield home
    assert {path.name for path in (folder / "clock").glob("used-*")} == {f"used-{who}" for who in seconds}


async def test_a_depot_whose_clock_is_wrong_by_twenty_minutes_is_left_out(tmp_path: Path) -> None:
    async with clocks_off(tmp_path, depot=1200) as home, home.pc() as pc:
        await home.submit(pc)
        assert (await ended(pc, home))["event"] == "done"
        assert "by this depot's clock" in (await pc.until("note", home.job.id))["text"]
        home.accounts()


@pytest.mark.parametrize("by", [1200, -1200])
async def test_clocks_of_worker_and_pc_that_are_wrong_by_twenty_minutes_end_no_job(tmp_path: Path, by: int) -> None:
    async with clocks_off(tmp_path, worker=by, daemon=-by) as home, home.pc() as pc:
        await home.submit(pc)
        assert (await ended(pc, home))["event"] == "done"
        assert (await pc.until("delivered", home.job.id))["gpu"]
        home.accounts()


@pytest.mark.parametrize("by", [1200, -1200])
async def test_a_hub_whose_clock_is_wrong_by_twenty_minutes_is_said_and_its_job_waits(tmp_path: Path, by: int) -> None:
    async with clocks_off(tmp_path, hub=by) as home, home.pc() as pc:
        await home.submit(pc)
        assert "by this depot's clock" in (await pc.until("note", home.job.id))["text"]
        side = "behind" if by > 0 else "ahead of"
        assert f"s {side} the hub's; set it right" in (await pc.until("retrying", home.job.id))["why"]
        assert not home.noted("start")
