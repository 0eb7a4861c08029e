"""`GET progress?wait=…` of the real worker: a job gets a change at once, whatever is between the two."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.engines.real_servers import until
from tests.support.engines.through_worker import SECRET, Desk, worker_of
from tests.support.programs.any_kind_scene import Joining
from wakestream.adapters.worker.http import server
from wakestream.adapters.worker.http import waits as w
from wakestream.operators import Policy

SELDOM = Policy(poll_every=600.0)


class House:
    """A worker, its user, and an engine that goes on when it may."""

    def __init__(self, folder: Path, engine: Joining, desk: Desk) -> None:
        self.file, self.engine, self.desk = folder / "a.bin", engine, desk
        self.file.write_bytes(b"abc")

    def job(self, policy: Policy = SELDOM) -> asyncio.Task[Any]:
        return asyncio.create_task(self.desk.run("reverse", {"first": self.file}, {"whole": "b.bin"}, policy))

    async def progress(self, **query: str) -> Any:
        """The answer to a call for the only task."""
        task = self.engine.works[0].id
        url, headers = f"{self.desk.workers.resolve(None)}/api/heygem/progress", {"Authorization": f"Bearer {SECRET}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(url, params={"task_id": task, **query}) as answer,
        ):
            body = await answer.json()
        return body["data"] or body["msg"]


async def truth(value: bool) -> bool:
    return value


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    engine = Joining()
    engine.go_on.clear()
    async with worker_of(engine, folder / "desk") as desk:
        yield House(folder, engine, desk)


async def test_a_job_hears_of_each_change_and_of_its_end_without_a_poll(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        job = here.job()
        await here.engine.began.wait()
        await until(lambda: truth(50.0 in here.desk.percents))
        here.engine.go_on.set()
        assert (await job)["whole"].read_bytes() == b"cba"


async def test_where_something_ends_each_wait_the_job_polls(tmp_path: Path) -> None:
    async with house(tmp_path) as here:
        here.desk.workers.wait_timeout = aiohttp.ClientTimeout(total=0.02)
        job = here.job(Policy(poll_every=0.01))
        await here.engine.began.wait()
        await until(lambda: truth(here.desk.workers.waiting > 0))
        here.engine.go_on.set()
        assert (await job)["whole"].read_bytes() == b"cba"


async def test_an_old_worker_is_polled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FEATURES", tuple(word for word in server.FEATURES if word != "wait"))
    async with house(tmp_path) as here:
        here.engine.go_on.set()
        assert (await here.job(Policy(poll_every=0.01)))["whole"].read_bytes() == b"cba"


async def test_a_wait_ends_by_its_time_at_once_where_all_places_are_taken_and_never_begins_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as here:
        job = here.job(Policy(poll_every=0.05))  # its own call may end while all places are taken
        await here.engine.began.wait()
        while (first := await here.progress())["percent"] != 50.0:
            pass
        again = await here.progress(wait="0.01", seen=first["version"])
        assert again == first
        monkeypatch.setattr(w, "MOST", 0)
        assert "version" not in await here.progress(wait="25", seen=first["version"])
        monkeypatch.undo()
        for text in ("soon", "-1", "nan"):
            assert "send seconds, such as 25" in await here.progress(wait=text)
        here.engine.go_on.set()
        await job
        ended = await here.progress()
        assert (await here.progress(wait="25", seen=ended["version"]))["status"] == "done"


async def test_a_worker_that_stops_answers_the_calls_that_wait() -> None:
    waits, report = w.Waits(), {"task_id": "one", "status": "queued", "queue_position": 1}
    async with asyncio.timeout(100):
        first = await waits.report({}, lambda: report)
        asked = {"wait": "25", "seen": first["version"]}
        waiting = asyncio.create_task(waits.report(asked, lambda: report))
        await asyncio.wait([waiting], timeout=0.01)
        assert not waiting.done()
        await waits.close(web.Application())
        assert await waiting == await waits.report(asked, lambda: report) == report
