"""The engine `cog` against real Cog servers (`make engines`) with models that only copy and count."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from tests.support.engines.pair import done, made
from tests.support.engines.real_servers import FILE, Server, cog_server, needs, openapi, running, until
from tests.support.engines.through_worker import worker_of
from tests.support.ports import free_port
from tests.support.programs import plain_server
from wakestream.adapters.engines import cog, cog_files
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.adapters.runtime.tasks import end
from wakestream.adapters.worker import program as worker_program
from wakestream.operators.model.engine import Frame, Kind, Line, Made, Preview, Slot, Waits, Work
from wakestream.operators.model.errors import EngineUnreachable, NoSpace, TaskFailed, WakestreamError, WrongInput

TEXT = {"type": "string"}
COPY = openapi(
    FILE, Image=FILE, name={**TEXT, "default": "out.png"}, steps={"type": "integer", "default": 0, "maximum": 20},
    size={"type": "integer", "default": 0}, fail={**TEXT, "default": ""}, pause={"type": "number", "default": 0.0},
    gate={**TEXT, "default": ""},
)  # fmt: skip
SAYS = openapi(TEXT, text=TEXT, seed={"type": "integer", "default": None, "nullable": True})
MANIFEST = """[kinds.say.params.text]
type = "string"
[kinds.say.outputs.words]
accepts = [".txt"]
"""
MANY = openapi(
    {"type": "array", "items": FILE},
    images={"type": "array", "items": FILE}, names={"type": "array", "items": TEXT},
)  # fmt: skip

real = needs("cog")
pytestmark = pytest.mark.timeout(180)  # hundreds of MB pass through it


class Place:
    """The files of a worker, and the ports of engine and server."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.upload = f"http://127.0.0.1:{self.port}/out/"
        self.image = folder / "an image.png"
        self.image.write_bytes(b"image" * 200)
        self.gate = folder / "gate"
        self.cogs: list[cog.Cog] = []

    def server(self, model: str, schema: Mapping[str, Any] | None, *, upload: bool = True, **env: str) -> Server:
        return cog_server(self.folder / "cog", model, schema, self.upload if upload else "", **env)

    def engine(self, url: str, **options: str) -> cog.Cog:
        options = {"url": url, "listen": f"127.0.0.1:{self.port}", **options}
        engine = cog.create(EngineConfig(options, folder=self.folder / "engine"))
        self.cogs.append(engine)
        return engine

    def work(self, id_: str = "one", outputs: tuple[str, ...] = ("output",), **params: Any) -> Work:
        inputs = params.pop("inputs", {"image": self.image})
        folder = self.folder / f"work-{id_}"
        folder.mkdir(exist_ok=True)
        return Work(f"task-{id_}", "predict", inputs, params, outputs, folder)

    def runs(self) -> int:
        """How often the model began."""
        return len((self.folder / "cog" / "began").read_text())

    async def began(self, times: int = 1) -> None:
        """Returns when the model has begun so often."""

        async def enough() -> bool:
            return (self.folder / "cog" / "began").exists() and self.runs() >= times

        await until(enough)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    found = Place(tmp_path)
    yield found
    for engine in found.cogs:
        await engine.close()


async def is_ready(engine: cog.Cog) -> None:
    """Returns when it is; says why it is not, if that takes longer than any machine needs."""
    last = None

    async def now() -> bool:
        nonlocal last
        last = await engine.ready()
        return last.ready

    try:
        async with asyncio.timeout(120):
            await until(now)
    except TimeoutError:
        pytest.fail(f"the engine is not ready after 120 s: {last}")


@asynccontextmanager
async def ready(place: Place, server: Server, **options: str) -> AsyncIterator[cog.Cog]:
    """The server runs, and the engine is ready."""
    async with running(server):
        engine = place.engine(server.url, **options)
        await is_ready(engine)
        yield engine
        await engine.close()


@real
async def test_it_is_ready_when_the_set_up_is_complete_and_says_why_not_before(place: Place) -> None:
    server = place.server("Copy", COPY, SETUP_ENDS=str(place.gate))
    engine = place.engine(server.url)
    down = await engine.ready()
    assert not down.ready
    assert server.url in down.reason
    async with running(server):
        starting = await engine.ready()
        assert not starting.ready
        assert "STARTING" in starting.reason
        with pytest.raises(EngineUnreachable, match="Cog is not ready: its model is being set up"):
            await done(engine, place.work())
        place.gate.touch()
        await is_ready(engine)


@real
async def test_a_set_up_that_failed_is_told_with_its_last_words(place: Place) -> None:
    server = place.server("Copy", COPY, SETUP_FAILS="1")
    engine = place.engine(server.url)
    async with running(server):

        async def ended() -> bool:
            return "STARTING" not in (await engine.ready()).reason

        await until(ended)
        now = await engine.ready()
        assert not now.ready
        assert "SETUP_FAILED" in now.reason
        assert "no weights here" in now.reason


@real
async def test_a_submit_before_the_end_of_the_set_up_is_not_the_models_failure(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cog, "_check_ready", lambda health: health)  # the set-up begins after the check
    manifest = place.folder / "kind.toml"
    manifest.write_text(MANIFEST)
    server = place.server("Copy", None, SETUP_ENDS=str(place.gate))
    async with running(server):
        with pytest.raises(EngineUnreachable, match="not ready: Setup has not finished yet"):
            await done(place.engine(server.url, manifest=str(manifest)), place.work())


@real
async def test_a_model_is_a_kind_with_its_own_progress_failures_and_refusals(place: Place) -> None:
    async with ready(place, place.server("Copy", COPY)) as engine:
        (kind,) = await engine.describe()
        assert (kind.inputs, kind.outputs) == ((Slot("image"),), (Slot("output"),))
        assert [*kind.params["properties"]] == ["name", "steps", "size", "fail", "pause", "gate"]
        work = place.work(steps=4, pause=0.3)
        *frames, last = await done(engine, work)
        assert frames == [Frame(0, 0, percent) for percent in (25.0, 50.0, 75.0, 100.0)]
        assert last == Made("output", work.folder / "output.png")
        assert (work.folder / "output.png").read_bytes() == place.image.read_bytes()
        with pytest.raises(TaskFailed, match=r"^the model failed: ValueError: no face found$"):
            await done(engine, place.work("fails", fail="no face found"))
        with pytest.raises(WrongInput, match=r"params\.steps: Cog refuses it: .*20") as wrong:
            await done(engine, place.work("wrong", steps=99))
        assert wrong.value.field == "params.steps"
        with pytest.raises(WrongInput) as missing:
            await done(engine, place.work("lacks", inputs={}))
        assert missing.value.field == "inputs.image"


@real
async def test_a_model_without_a_schema_needs_a_manifest(place: Place) -> None:
    manifest = place.folder / "kind.toml"
    manifest.write_text(MANIFEST)
    server = place.server("Says", None)
    async with ready(place, server) as engine:
        with pytest.raises(TaskFailed, match="in a manifest: --engine-option manifest="):
            await engine.describe()
    async with ready(place, server, manifest=str(manifest)) as engine:
        assert [kind.name for kind in await engine.describe()] == ["say"]
        files = await made(engine, place.work(text="http://127.0.0.1:1/a", outputs=("words",), inputs={}))
    assert files["words"].read_text() == "http://127.0.0.1:1/a"


@real
async def test_progress_comes_while_the_model_runs(place: Place) -> None:
    work = place.work(steps=2, gate=str(place.gate), pause=0.6)  # a line within 0.5 s waits for the next
    async with ready(place, place.server("Copy", COPY)) as engine, aclosing(engine.render(work)) as items:
        assert [await anext(items), await anext(items)] == [Frame(0, 0, 50.0), Frame(0, 0, 100.0)]
        place.gate.touch()
        assert isinstance([item async for item in items][-1], Made)


@real
@pytest.mark.parametrize("upload", [True, False])
async def test_names_with_blanks_and_signs_are_files_like_others(place: Place, upload: bool) -> None:
    odd = place.folder / "größe # ? %.PnG"
    odd.write_bytes(b"odd")
    async with ready(place, place.server("Copy", COPY, upload=upload)) as engine:
        for n, name in enumerate(
            ("größe # ? %.png", "50%20.png", "a b.png", "图.png", "no ending", ".hidden", "#?.png")
        ):
            files = await made(engine, place.work(f"{n}", name=name, inputs={"image": odd}))
            assert files["output"].read_bytes() == b"odd"
            assert files["output"].suffix == (".png" if name.endswith(".png") else ".bin")


@real
async def test_a_full_server_is_waited_for_and_a_cancel_there_stops_nothing_of_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cog, "AGAIN", 0.05)
    server = place.server("Copy", COPY, upload=False)
    async with ready(place, server) as engine, aiohttp.ClientSession() as session:
        others = {"input": {"Image": "data:image/png;base64,QUFB", "gate": str(place.gate)}}
        theirs = asyncio.create_task(_put(session, f"{server.url}/predictions/theirs", others))
        await place.began()
        waiting = place.work("waiting")
        async with aclosing(engine.render(waiting)) as items:
            assert await anext(items) == Waits("the work waits for 0 s: all slots of the Cog server are busy")
        await engine.cancel(waiting)
        mine = asyncio.create_task(made(engine, place.work("mine")))
        async with session.get(f"{server.url}/health-check") as health:
            assert (await health.json())["status"] == "BUSY"
        place.gate.touch()
        assert (await theirs)["status"] == "succeeded"
        assert (await mine)["output"].read_bytes() == place.image.read_bytes()


async def _put(session: aiohttp.ClientSession, url: str, asked: Any) -> Any:
    async with session.put(url, json=asked) as response:
        return await response.json()


@real
async def test_a_cancel_frees_the_server_for_the_next_work(place: Place) -> None:
    async with ready(place, place.server("Copy", COPY)) as engine:
        first = place.work("first", gate=str(place.folder / "never"))
        async with aclosing(engine.render(first)) as items:
            waiting = asyncio.ensure_future(anext(items))
            await place.began()
            await end(waiting)
        await engine.cancel(first)
        assert (await made(engine, place.work("second")))["output"].read_bytes() == place.image.read_bytes()
        await engine.cancel(first)  # one that has ended


@real
async def test_a_server_that_was_killed_and_started_again_is_reported_as_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cog, "AGAIN", 0.2)
    server = place.server("Copy", COPY)
    async with ready(place, server) as engine:
        work = asyncio.create_task(made(engine, place.work(gate=str(place.gate))))
        await place.began()
        server.kill()
        with pytest.raises(EngineUnreachable):
            await work
        await server.start()
        await is_ready(engine)
        place.gate.touch()
        assert (await made(engine, place.work(gate=str(place.gate))))["output"].is_file()


@real
async def test_a_restart_that_nothing_else_shows_is_noticed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    look = asyncio.Event()

    async def silent(_: cog_files.Prediction) -> None:
        await look.wait()

    monkeypatch.setattr(cog, "_next", silent)
    server = place.server("Copy", COPY)
    async with ready(place, server) as engine:
        work = asyncio.create_task(made(engine, place.work(gate=str(place.gate))))
        await place.began()
        server.kill()
        await server.start()
        await is_ready(engine)
        look.set()
        with pytest.raises(EngineUnreachable, match="was restarted while the work ran"):
            await work


@real
async def test_after_a_crash_of_the_model_no_work_waits_for_a_free_slot(place: Place) -> None:
    async with ready(place, place.server("Copy", COPY)) as engine:
        with pytest.raises(WakestreamError):
            await done(engine, place.work("one", fail="crash"))
        with pytest.raises(EngineUnreachable, match="Cog is not ready: its model has crashed"):
            await done(engine, place.work("next"))
        now = await engine.ready()
        assert (now.ready, now.crashed) == (False, True)


@real
@pytest.mark.parametrize("upload", [True, False])
async def test_an_output_that_is_missing_is_a_failure(place: Place, upload: bool) -> None:
    async with ready(place, place.server("Nothing", openapi(FILE), upload=upload)) as engine:
        with pytest.raises(TaskFailed, match="made no output 'output'"):
            await done(engine, place.work(inputs={}))


@real
async def test_an_output_of_more_than_64_mb_of_json_is_taken(place: Place) -> None:
    size = 60 * 1024 * 1024
    async with ready(place, place.server("Copy", COPY, upload=False)) as engine:
        assert (await made(engine, place.work(size=size)))["output"].stat().st_size == size
    assert place.runs() == 1


@real
@pytest.mark.parametrize("upload", [True, False])
async def test_an_output_too_large_for_json_comes_by_upload_and_else_fails_once_with_the_remedy(
    place: Place, monkeypatch: pytest.MonkeyPatch, upload: bool
) -> None:
    monkeypatch.setattr(cog_files, "MAX_HOOK", 1_000_000)
    remedy = rf"1000000 are allowed; start the Cog server with --upload-url {place.upload}"
    async with ready(place, place.server("Copy", COPY, upload=upload)) as engine:
        with nullcontext() if upload else pytest.raises(TaskFailed, match=remedy):
            assert (await made(engine, place.work(size=10_000_000)))["output"].stat().st_size == 10_000_000
    assert place.runs() == 1


@real
async def test_webhooks_that_never_arrive_end_the_work_with_a_sentence(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cog, "AGAIN", 0.05)
    server = place.server("Says", SAYS)
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with ready(place, server, address=nowhere) as engine:
        with pytest.raises(TaskFailed, match=f"ran the model 2 times and its webhook did not arrive at {nowhere}; let"):
            await done(engine, place.work(text="hello", inputs={}))
    assert place.runs() <= 3, "the last one is cancelled at once"


@real
async def test_an_upload_that_cannot_be_stored_is_told(place: Place) -> None:
    async with ready(place, place.server("Copy", COPY)) as engine:
        work = place.work(gate=str(place.gate))
        task = asyncio.create_task(made(engine, work))
        await place.began()
        work.folder.rmdir()
        place.gate.touch()
        with pytest.raises(NoSpace, match="cannot be stored: No such file"):
            await task


@real
async def test_a_wrong_upload_url_is_told_with_the_right_one(place: Place) -> None:
    right, place.upload = place.upload, f"http://127.0.0.1:{free_port()}/out/"
    async with ready(place, place.server("Copy", COPY)) as engine:
        with pytest.raises(TaskFailed, match=f"Failed to upload output: .*; Cog's --upload-url must be {right}"):
            await done(engine, place.work())


@real
@pytest.mark.parametrize("upload", [True, False])
async def test_files_of_a_list_come_in_their_order(place: Place, upload: bool) -> None:
    names = [f"out-{n}.png" for n in range(12)]
    async with ready(place, place.server("Many", MANY, upload=upload)) as engine:
        files = await made(engine, place.work(names=names, inputs={"images": place.image}))
    assert [*files] == ["output", *(f"output_{n}" for n in range(2, 13))]
    assert [path.read_bytes()[-1] for path in files.values()] == [*range(12)]


@real
async def test_files_of_the_same_name_are_different_files(place: Place) -> None:
    more = place.folder / "more.png"
    more.write_bytes(b"more")
    inputs = {"images_2": more, "images": place.image}
    async with ready(place, place.server("Many", MANY)) as engine:
        items = await done(engine, place.work(names=["out.png"] * 3, inputs=inputs))
    contents = [item.path.read_bytes() for item in items if isinstance(item, Made)]
    assert sorted(each[-1] for each in contents) == [0, 1, 2]
    assert [item for item in items if isinstance(item, Line)] == [
        Line("Cog uploads a list of files in any order; number their names, such as out-1.png, out-2.png")
    ]
    assert sorted(len(each) for each in contents) == [5, 1001, 2_001_000]


PIECES = {"type": "array", "items": TEXT, "x-cog-array-type": "iterator", "x-cog-array-display": "concatenate"}
NUMBERS = {"type": "array", "items": {"type": "integer"}}
OBJECT = {"type": "object", "properties": {"Picture": FILE, "words": TEXT, "score": {"type": "number"}}}
LIKE_FILES = ("http://127.0.0.1:1/a.png", "data:image/png;base64,QUFB", "größe")


@real
@pytest.mark.parametrize(
    ("model", "schema", "given", "files"),
    [
        ("Pieces", openapi(PIECES, text=TEXT), {"text": "one two three"}, {"output.txt": b"one two three "}),
        ("Numbers", openapi(NUMBERS, upto={"type": "integer"}), {"upto": 4}, {"output.json": b"[0,1,2,3]"}),
        ("Object", openapi(OBJECT, Image=FILE), {},
         {"picture.png": b"image" * 200, "score.json": b"0.5", "words.txt": b"http://127.0.0.1:1/not-a-file"}),
        *(("Says", SAYS, {"text": text}, {"output.txt": text.encode()}) for text in LIKE_FILES),
    ],
)  # fmt: skip
async def test_values_are_files_of_their_kind_whatever_they_look_like(
    place: Place, model: str, schema: Mapping[str, Any], given: Mapping[str, Any], files: Mapping[str, bytes]
) -> None:
    async with ready(place, place.server(model, schema)) as engine:
        (kind,) = await engine.describe()
        assert [slot.name for slot in kind.outputs] == [name.partition(".")[0] for name in files]
        inputs = {slot.name: place.image for slot in kind.inputs}
        work = place.work(outputs=tuple(slot.name for slot in kind.outputs), inputs=inputs, **given)
        found = await made(engine, work)
    assert {path.name: path.read_bytes() for path in found.values()} == files


@real
async def test_an_engine_that_comes_back_follows_the_work_that_runs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, put = asyncio.Event(), cog.Cog._put

    async def noted(*of: Any) -> Any:
        said = await put(*of)
        asked.set()
        return said

    server = place.server("Copy", COPY)
    async with ready(place, server) as before:
        task = asyncio.create_task(made(before, place.work(gate=str(place.gate))))
        await place.began()
        await end(task)
        await before.close()
        monkeypatch.setattr(cog.Cog, "_put", noted)
        again = asyncio.create_task(made(place.engine(server.url), place.work(gate=str(place.gate))))
        await asked.wait()
        place.gate.touch()
        assert (await again)["output"].read_bytes() == place.image.read_bytes()
    assert place.runs() == 1


@real
async def test_a_result_that_came_while_no_worker_was_there_is_made_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, hook = asyncio.Event(), cog_files.CogFiles._hook

    async def watched(files: cog_files.CogFiles, request: web.Request) -> web.Response:
        stale = files._now is not None and files._now.nonce != request.match_info["nonce"]
        answer = await hook(files, request)
        if stale:
            late.set()
        return answer

    monkeypatch.setattr(cog_files.CogFiles, "_hook", watched)
    server = place.server("Copy", COPY)
    async with ready(place, server) as before:
        task = asyncio.create_task(made(before, place.work(gate=str(place.gate))))
        await place.began()
        await end(task)
        await before.close()
        place.gate.touch()
        await until(lambda: _has(server.folder / "server.log", "Failed to upload file output"))
        second = place.folder / "second"
        again = asyncio.create_task(made(place.engine(server.url), place.work(gate=str(second))))
        await late.wait()
        second.touch()
        assert (await again)["output"].read_bytes() == place.image.read_bytes()
    assert place.runs() == 2


async def _has(path: Path, words: str) -> bool:
    return words in path.read_text()


class TalkativeCog:
    """A Cog server whose webhooks overtake each other.

    Webhooks that are not the last are sent without waiting for them (`crates/coglet/src/webhook.rs`), so that the one
    with the output, which says `processing`, may come after the one that says `succeeded`.
    """

    def __init__(self, schema: Mapping[str, Any] = SAYS) -> None:
        self.schema = schema
        self.asked: list[Any] = []
        self.output: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[str]:
        async with plain_server.answering(self._answer) as url:
            yield url
            await asyncio.gather(*self.tasks)

    async def _answer(self, request: web.Request) -> web.Response:
        if request.method == "PUT":
            asked, name = orjson.loads(await request.read()), request.path.rpartition("/")[2]
            self.asked.append(asked)
            self.tasks.append(asyncio.create_task(self._tell(name, asked)))
            return web.json_response({"id": name, "status": "starting"}, status=202)
        if request.path == "/files/a.png":
            return web.Response(body=b"a picture")
        ready = {"status": "READY", "setup": {"started_at": "now"}}
        return web.json_response(self.schema if request.path == "/openapi.json" else ready)

    async def _tell(self, name: str, asked: Any) -> None:
        logs = "10%\nhalf"
        async with aiohttp.ClientSession() as session:
            for status, log in (
                ("processing", logs), ("processing", "10%\n"), ("succeeded", f"{logs} done\n"), ("processing", "10%\n"),
            ):  # fmt: skip
                news = {"id": name, "status": status, "logs": log, "output": self.output or asked["input"]["text"]}
                await (await session.post(asked["webhook"], json=news)).read()


async def test_webhooks_that_overtake_each_other_change_nothing(place: Place) -> None:
    fake = TalkativeCog()
    async with fake.runs() as url:
        engine = place.engine(url)
        for name in ("one", "two"):
            *items, last = await done(engine, place.work(name, text=name, inputs={}))
            assert items == [Frame(0, 0, 10.0), Line("half done")]
            assert isinstance(last, Made)
            assert last.path.read_text() == name
    assert "seed" not in fake.asked[0]["input"], "a default of None is Cog's own affair"


async def test_a_text_that_grows_is_shown_and_asked_for(place: Place) -> None:
    fake = TalkativeCog(openapi(PIECES, text=TEXT))
    fake.output = ["Once", " upon"]
    async with fake.runs() as url:
        engine = place.engine(url)
        items = await done(engine, place.work(text="x", inputs={}))
    assert [item for item in items if isinstance(item, Preview)] == [Preview("text/plain", b"Once upon")]
    assert fake.asked[0]["webhook_events_filter"] == ["logs", "completed", "output"]


async def test_a_file_is_fetched_from_the_cog_server_or_the_internet_and_not_from_this_machine(place: Place) -> None:
    asked: list[str] = []

    async def secret(request: web.Request) -> web.Response:
        asked.append(str(request.url))
        return web.Response(body=b"secret")

    fake = TalkativeCog(openapi(FILE, text=TEXT))
    async with fake.runs() as url, plain_server.answering(secret) as inside:
        port = inside.rpartition(":")[2]
        engine = place.engine(url)
        files = await made(engine, place.work("own", text=f"{url}/files/a.png", inputs={}))
        assert files["output"].read_bytes() == b"a picture"
        hosts = ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "a:b@127.0.0.1")
        for at, host in enumerate(hosts):
            with pytest.raises(TaskFailed, match=r"an address of this machine|an unusable address"):
                await made(engine, place.work(f"bad-{at}", text=f"http://{host}:{port}/a.png", inputs={}))
    assert asked == []


async def test_a_compressed_upload_is_refused(place: Place) -> None:
    await place.engine("http://127.0.0.1:9").ready()  # it listens now
    body, headers = gzip.compress(b" " * 1_000_000), {"Content-Encoding": "gzip"}
    async with (
        aiohttp.ClientSession() as session,
        session.put(f"{place.upload}a.png", data=body, headers=headers) as it,
    ):
        assert it.status == 415


@real
async def test_jobs_go_through_the_real_worker_also_when_the_server_is_killed(place: Place) -> None:
    server = place.server("Copy", COPY)
    async with ready(place, server) as engine, worker_of(engine, place.folder / "desk") as desk:
        copied = await desk.run("predict", {"image": place.image}, {"output": "a.png"}, steps=4, pause=0.3)
        assert copied["output"].read_bytes() == place.image.read_bytes()
        assert desk.percents == sorted(desk.percents)
        assert {25.0, 50.0, 75.0} & {*desk.percents}
        killed = asyncio.create_task(
            desk.run("predict", {"image": place.image}, {"output": "b.png"}, gate=str(place.gate))
        )
        await place.began(2)
        server.kill()
        await server.start()
        place.gate.touch()
        assert (await killed)["output"].read_bytes() == place.image.read_bytes()
        with pytest.raises(Exception, match="99 is too large; give 20 or less"):
            await desk.run("predict", {"image": place.image}, {"output": "c.png"}, steps=99)


@real
async def test_a_job_whose_model_hangs_is_done_after_the_restart_command(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = place.server("Copy", COPY)
    async with ready(place, server) as engine:
        render = engine.render

        async def hanging(work: Work) -> AsyncIterator[Any]:
            yield Waits("the watchdog has no limit until the next item")
            async with aclosing(render(work)) as items:
                if not place.gate.exists():
                    following = asyncio.ensure_future(anext(items))
                    await place.began()
                    yield Line("the model runs, and hangs")
                    yield await following
                async for item in items:
                    yield item

        monkeypatch.setattr(engine, "render", hanging)
        assert server.process is not None
        restart = ("kill", "-9", "--", f"-{server.process.pid}")
        async with worker_of(engine, place.folder / "desk", Watchdog(1.0, restart)) as desk:
            job = asyncio.create_task(
                desk.run("predict", {"image": place.image}, {"output": "a.png"}, gate=str(place.gate))
            )
            await asyncio.to_thread(server.process.wait)
            place.gate.touch()
            await server.start()
            assert (await job)["output"].read_bytes() == place.image.read_bytes()
    assert place.runs() == 2


@real
async def test_a_job_after_a_crash_of_the_model_is_done_after_the_restart_command(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_program, "CHECK_AGAIN", 0.2)
    server = place.server("Copy", COPY)
    async with ready(place, server) as engine:
        assert server.process is not None
        restart = ("kill", "-9", "--", f"-{server.process.pid}")
        async with worker_of(engine, place.folder / "desk", Watchdog(None, restart)) as desk:
            with pytest.raises(TaskFailed, match="Worker crashed"):
                await desk.run("predict", {"image": place.image}, {"output": "a.png"}, fail="crash")
            job = asyncio.create_task(desk.run("predict", {"image": place.image}, {"output": "b.png"}))
            await asyncio.to_thread(server.process.wait)
            await server.start()
            assert (await job)["output"].read_bytes() == place.image.read_bytes()


def test_a_kind_of_the_models_own_names_is_valid_for_all_peers() -> None:
    from wakestream.adapters.engines.cog_schema import model_of_schema
    from wakestream.streams.protocol.kinds import kind_from, plain_kind

    schema = openapi(TEXT, _image=FILE, Image=FILE, größe=TEXT, **{"x" * 40: TEXT, "x" * 41: FILE})
    model = model_of_schema("predict", schema)
    assert model is not None
    assert isinstance(kind_from(plain_kind(model.kind)), Kind)
    urls = {slot.name: f"url of {slot.name}" for slot in model.kind.inputs}
    asked = model.asked({name: name for name in model.kind.params["properties"]}, urls)
    assert {*asked} == {"_image", "Image", "größe", "x" * 40, "x" * 41}
