"""What an engine has so far: from the worker to programs, and only while a program looks."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from tests.support.browser.studio import png
from tests.support.engines.through_worker import SECRET, Desk, worker_of
from tests.support.programs import plain_server
from tests.support.programs.any_kind_scene import Joining, Scene
from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import Place, gpu_online, until
from tests.support.programs.replicate_scene import Programs, programs
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.daemon import previews as fetched
from wakestream.adapters.engines import Command
from wakestream.adapters.engines.command import Program, programs_of
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.adapters.runtime.tasks import end
from wakestream.adapters.worker.http import previews as shown
from wakestream.adapters.worker.http import server
from wakestream.adapters.worker.preview_file import is_complete
from wakestream.operators.model.engine import MAX_PREVIEW, TEXT, Frame, Kind, Line, Made, Preview, Slot, Work
from wakestream.operators.model.errors import WorkerUnreachable

SAY = Kind("say", (Slot("first"),), (Slot("text", (".txt",)),))
"""A kind whose only output is a text: all of its input."""

Says = asyncio.Queue[Preview | None]


def text(said: str) -> Preview:
    return Preview(TEXT, said.encode())


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon soon looks again at a job that has no worker yet."""
    monkeypatch.setattr(fetched, "AGAIN", 0.1)


class Drawing(Command):
    """Programs, and the works that they got."""

    def __init__(self, programs: Sequence[Program]) -> None:
        super().__init__(programs, limit=60.0)
        self.works: list[Work] = []

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        self.works.append(work)
        async with aclosing(super().render(work)) as items:
            async for item in items:
                yield item


class House:
    """A worker at a work that shows what the test gives it."""

    def __init__(self, engine: Joining | Drawing, says: Says, desk: Desk) -> None:
        self.engine, self.says, self.desk = engine, says, desk

    @asynccontextmanager
    async def stream(self, session: aiohttp.ClientSession) -> AsyncIterator[aiohttp.ClientResponse]:
        url = f"{self.desk.workers.resolve(None)}/api/heygem/previews"
        params, headers = {"task_id": self.engine.works[0].id}, {"Authorization": f"Bearer {SECRET}"}
        async with asyncio.timeout(100), session.get(url, params=params, headers=headers) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            yield response


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[House]:
    engine = Joining()
    says = engine.shows()
    first = tmp_path / "a.bin"
    first.write_bytes(b"abc")
    async with worker_of(engine, tmp_path / "desk") as desk:
        job = asyncio.create_task(desk.run("reverse", {"first": first}, {"whole": "b.bin"}))
        await engine.began.wait()
        yield House(engine, says, desk)
        says.put_nowait(None)
        assert (await job)["whole"].read_bytes() == b"cba"


async def events(response: aiohttp.ClientResponse) -> AsyncGenerator[dict[str, Any], None]:
    async for line in response.content:
        if line.startswith(b"data: "):
            yield orjson.loads(line[6:])


async def test_a_reader_gets_at_most_two_previews_a_second_and_the_end(here: House) -> None:
    clock = asyncio.get_running_loop().time
    async with aiohttp.ClientSession() as session:
        began = clock()
        async with here.stream(session) as response:
            here.says.put_nowait(text("0"))
            said = []
            async for event in events(response):
                said.append(event["text"])
                here.says.put_nowait(text(f"{len(said)}") if len(said) < 4 else None)
            assert said == ["0", "1", "2", "3"]
            assert clock() - began >= 1.5
        async with here.stream(session) as response:
            assert [event async for event in events(response)] == [], "nothing is kept of a task that has ended"


async def test_a_worker_that_stops_ends_the_streams(tmp_path: Path) -> None:
    engine, first = Joining(), tmp_path / "a.bin"
    says = engine.shows()
    first.write_bytes(b"abc")
    async with aiohttp.ClientSession() as session, AsyncExitStack() as stack:
        async with worker_of(engine, tmp_path / "desk") as desk:
            job = asyncio.create_task(desk.run("reverse", {"first": first}, {"whole": "b.bin"}))
            await engine.began.wait()
            says.put_nowait(text("Once"))
            response = await stack.enter_async_context(House(engine, says, desk).stream(session))
            assert [await anext(events(response))] == [text("Once").plain()]
            await end(job)
        assert [event async for event in events(response)] == []


async def test_what_is_too_large_or_no_picture_is_ignored(here: House) -> None:
    svg, good = b"<svg/>", text("x" * MAX_PREVIEW)
    bad = [text("x" * (MAX_PREVIEW + 1)), text(""), Preview("image/svg+xml", svg), Preview("image/png", svg),
           Preview(TEXT, png()), Preview("image/gif", b"GIF89a")]  # fmt: skip
    async with aiohttp.ClientSession() as session:
        for preview in bad:
            here.says.put_nowait(good)
            here.says.put_nowait(preview)
            await until(here.says.empty)
            async with here.stream(session) as response, aclosing(events(response)) as found:
                assert await anext(found) == good.plain()


async def test_a_slow_reader_misses_previews_and_gets_the_newest(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "EVERY", 0.0)
    async with aiohttp.ClientSession(read_bufsize=1024) as session, here.stream(session) as response:
        for number in range(400):
            here.says.put_nowait(text(f"{number} ".ljust(60_000, "x")))
            await asyncio.sleep(0)
        await until(here.says.empty)
        said = bytearray()
        async for block in response.content.iter_any():
            said += block
            if b'"399 ' in said[-len(block) - 5 :]:  # it may come in two blocks
                break
    assert 1 <= said.count(b'"text":"') < 400


async def test_too_many_readers_and_those_without_the_secret_are_refused(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "MOST", 1)
    async with aiohttp.ClientSession() as session, here.stream(session):
        url = f"{here.desk.workers.resolve(None)}/api/heygem/previews?task_id={here.engine.works[0].id}"
        async with session.get(url, headers={"Authorization": f"Bearer {SECRET}"}) as response:
            assert (response.status, (await response.json())["error"]) == (429, "too_many")
        async with session.get(url) as response:
            assert response.status == 401
        async with session.head(url, headers={"Authorization": f"Bearer {SECRET}"}) as response:
            assert response.status == 405


async def test_a_worker_that_is_killed_or_sends_nonsense_is_an_error_for_the_reader_alone() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("health"):
            return web.json_response({"code": 0, "msg": "ok", "initialized": True, "features": ["previews"]})
        response = web.StreamResponse()
        await response.prepare(request)
        for line in (b"{", b"[]", b'{"media":"image/png","data":"PHN2Zy8+"}', b'{"media":"text/html","text":"<b>"}',
                     b'{"media":"text/plain","text":5}', b'{"media":"text/plain","text":"Once"}'):  # fmt: skip
            await response.write(b"data: " + line + b"\n\n")
        assert request.transport is not None
        await asked.get()
        request.transport.abort()
        return response

    asked: asyncio.Queue[None] = asyncio.Queue()
    async with plain_server.answering(answer) as url:
        workers = HttpWorkers(url, no_secret=True)
        try:
            async with aclosing(workers.at(None).previews("task")) as items:
                assert await anext(items) == text("Once")
                asked.put_nowait(None)
                with pytest.raises(WorkerUnreachable):
                    await anext(items)
        finally:
            await workers.close()


async def test_an_old_worker_is_not_asked(here: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FEATURES", ("blake3",))
    here.desk.workers.at(None).features = frozenset()
    assert [item async for item in here.desk.workers.at(None).previews(here.engine.works[0].id)] == []


async def test_a_command_shows_the_pictures_that_it_writes(tmp_path: Path) -> None:
    words = (
        *(found_ffmpeg(), "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10"),
        *("{out:video}", "-vf", "fps=2", "-update", "1", "{preview}"),
    )
    manifest = tmp_path / "kinds.toml"
    manifest.write_text(f"[kinds.draw]\ncommand = {orjson.dumps(words).decode()}\n[kinds.draw.outputs.video]\n"
                        'accepts = [".mp4"]\n', encoding="utf-8")  # fmt: skip
    engine = Drawing(programs_of(manifest))
    async with worker_of(engine, tmp_path / "desk") as desk, aiohttp.ClientSession() as session:
        job = asyncio.create_task(desk.run("draw", {}, {"video": "a.mp4"}))
        await until(lambda: engine.works)
        async with House(engine, Says(), desk).stream(session) as response, aclosing(events(response)) as found:
            pictures = [await anext(found) for _ in range(3)]
        await end(job)
    assert all(is_complete(b64decode(each["data"])) for each in pictures)
    assert len({each["data"] for each in pictures}) == 3


@pytest.fixture
async def api(tmp_path: Path, user: User) -> AsyncIterator[Programs]:
    """The API of a daemon whose GPU is on and can say a text."""
    scene = Scene(tmp_path, Place(tmp_path, user))
    scene.engine.kinds = [SAY]
    async with scene.place.hub() as hub, scene.worker() as worker:
        await gpu_online(hub)
        async with programs(scene) as found:
            found.readers = worker.server.calls.previews._readers  # type: ignore[attr-defined]
            yield found


async def piece(response: aiohttp.ClientResponse, kind: str) -> str:
    """The data of the next event of this kind in a stream of a prediction."""
    found = ""
    async for line in response.content:
        if line.startswith(b"event: "):
            found = line[7:].decode().strip()
        elif line.startswith(b"data: ") and found == kind:
            return line[6:-1].decode()
    return "the end"


async def test_the_stream_of_a_prediction_has_the_text_as_it_grows_and_then_only_the_rest(api: Programs) -> None:
    says = api.scene.engine.shows()
    made = await api.create(version="say", input={"first": "data:,Once%20upon%20a%20time"})
    await api.scene.engine.began.wait()
    says.put_nowait(text("Once"))
    assert not api.readers, "nobody looks"  # type: ignore[attr-defined]
    async with asyncio.timeout(100), api.session.get(made["urls"]["stream"]) as response:
        assert await piece(response, "output") == "Once"
        says.put_nowait(Preview("image/png", png()))
        says.put_nowait(text("Other"))  # the work began again
        says.put_nowait(text("Once upon"))
        assert await piece(response, "output") == " upon"
        says.put_nowait(None)
        assert await piece(response, "output") == " a time"
        assert await piece(response, "done") == "{}"
    assert (await api.ended(made["id"]))["output"] == "Once upon a time"
    await until(lambda: not api.readers)  # type: ignore[attr-defined]


async def test_a_stream_that_is_continued_has_no_text_twice(api: Programs) -> None:
    says = api.scene.engine.shows()
    made = await api.create(version="say", input={"first": "data:,Once%20upon"})
    says.put_nowait(text("Once"))
    async with asyncio.timeout(100):
        async with api.session.get(made["urls"]["stream"]) as response:
            last = ""
            async for line in response.content:
                last = line[4:].decode().strip() if line.startswith(b"id: ") else last
                if line == b"data: Once\n":
                    break
        assert last.endswith(":4")
        async with api.session.get(made["urls"]["stream"], headers={"Last-Event-ID": last}) as response:
            says.put_nowait(None)
            assert await piece(response, "output") == " upon"


async def test_previews_are_fetched_while_somebody_looks(api: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched, "LOOKS", 0.0)
    monkeypatch.setattr(shown, "HEARTBEAT", 0.1)  # with it the worker notices that its reader has gone
    says, previews = api.scene.engine.shows(), api.daemon.previews
    made = await api.create(version="say", input={"first": "data:,Once"})
    says.put_nowait(text("On"))
    async with asyncio.timeout(100):
        assert await previews.newer(made["id"], 0, 20.0) == (1, text("On"))
        await until(lambda: not api.readers)  # type: ignore[attr-defined]
        says.put_nowait(None)
        await api.ended(made["id"])
        assert await previews.newer(made["id"], 1, 0.0) is None


async def test_watch_tells_the_text_and_that_there_is_a_picture(api: Programs, user: User) -> None:
    says, state = api.scene.engine.shows(), str(api.scene.folder / "daemon")
    made = await api.create(version="say", input={"first": "data:,Once"})
    said = (
        (text("Once\x1b[31m upon\na time"), b"so far: Once upon a time"),
        (Preview("image/png", png()), b"preview picture"),
    )
    for preview, line in said:
        says.put_nowait(preview)
        async with user.runs("watch", made["id"], "--plain", "--state", state) as watching, asyncio.timeout(100):
            assert watching.process.stdout is not None
            while line not in (shown := await watching.process.stdout.readline()):
                assert shown, await watching.ended()
    async with user.runs("watch", made["id"], "--json", "--state", state) as watching:
        says.put_nowait(None)
        await watching.event("done")
