"""The engine `gradio` against a real Gradio app (`make engines`) whose functions only copy and count."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from tests.support.engines.pair import done, made
from tests.support.engines.real_servers import Server, gradio_server, needs, running, until
from tests.support.engines.through_worker import worker_of
from tests.support.programs import plain_server
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines import gradio, http_engine
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.adapters.runtime.tasks import end
from wakestream.operators.model.engine import Frame, Line, Made, Preview, Slot, Waits, Work
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WrongInput

real = needs("gradio")
pytestmark = pytest.mark.timeout(180)  # an app needs seconds to start, and longer on a busy machine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One app for all tests of the file, as it needs seconds to start."""
    found = gradio_server(tmp_path_factory.mktemp("gradio"))
    asyncio.run(asyncio.wait_for(found.start(), 150))
    yield found
    found.kill()


class Place:
    """The files of a worker, and its engine."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.image = folder / "größe # ? %.PNG"
        self.image.write_bytes(b"image" * 200)
        self.gate = folder / "gate"
        self.engine = gradio.create(EngineConfig({"url": url}))

    def work(self, kind: str = "copy", outputs: tuple[str, ...] = ("bild_gr_e",), **params: Any) -> Work:
        inputs = params.pop("inputs", {"image": self.image} if kind == "copy" else {})
        folder = self.folder / f"work-{len([*self.folder.iterdir()])}"
        folder.mkdir()
        return Work(folder.name, kind, inputs, params, outputs, folder)


@pytest.fixture
async def place(tmp_path: Path, server: Server) -> AsyncIterator[Place]:
    found = Place(tmp_path, server.url)
    yield found
    found.gate.touch()
    await found.engine.close()


@real
async def test_an_app_is_ready_when_it_answers_and_says_why_not(place: Place) -> None:
    assert (await place.engine.ready()).ready
    down = gradio.create(EngineConfig({"url": "http://127.0.0.1:9"}))
    other = await down.ready()
    await down.close()
    assert not other.ready
    assert "127.0.0.1:9" in other.reason


@real
async def test_the_kinds_are_the_apps_functions(place: Place) -> None:
    kinds = {kind.name: kind for kind in await place.engine.describe()}
    assert [*kinds] == ["copy", "many", "count", "talk", "same", "say", "scale"]
    copy = kinds["copy"]
    assert copy.inputs == (Slot("image", ("image",), title="An image"),)
    assert copy.outputs == (
        Slot("bild_gr_e", title="Bild größe"), Slot("said", (".txt",), title="Said", required=False),
    )  # fmt: skip
    assert copy.help == "Copies a file, with progress."
    assert copy.params["properties"]["steps"] == {
        "type": "integer", "minimum": 0, "maximum": 20, "x-step": 1, "title": "Steps", "default": 0,
    }  # fmt: skip
    assert "default" not in copy.params["properties"]["seed"]
    assert "required" not in copy.params
    assert [(slot.name, slot.many, slot.required) for slot in kinds["many"].inputs] == [
        ("files", True, True), ("one", False, False),
    ]  # fmt: skip
    assert [(slot.name, slot.many) for slot in kinds["many"].outputs] == [("back", True), ("gallery", True)]
    assert kinds["say"].params["properties"]["text"]["enum"] == ["a", "b"]
    assert [slot.accepts for slot in kinds["say"].outputs] == [(".txt",), (".json",), (".json",)]


@real
async def test_the_progress_is_the_apps_own_and_the_output_its_file(place: Place) -> None:
    work = place.work(outputs=("bild_gr_e", "said"), steps=4)
    *frames, first, second = await done(place.engine, work)
    assert frames == [Frame(step, 4, 25.0 * step) for step in range(1, 5)]
    assert (first, second) == (Made("bild_gr_e", work.folder / "bild_gr_e.png"), Made("said", work.folder / "said.txt"))
    assert (work.folder / "bild_gr_e.png").read_bytes() == place.image.read_bytes()
    assert (work.folder / "said.txt").read_text() == "seed None", "a default of None is given as None"


@real
@pytest.mark.parametrize("name", ["größe # ? %.png", "50%20.png", "a b.png", "图.png", "no ending", "#?.png"])
async def test_names_with_blanks_and_signs_are_files_like_others(place: Place, name: str) -> None:
    files = await made(place.engine, place.work(name=name))
    assert files["bild_gr_e"].read_bytes() == place.image.read_bytes()
    assert files["bild_gr_e"].suffix == (".png" if name.endswith(".png") else ".bin")


@real
async def test_lists_of_files_go_in_and_come_out_as_files(place: Place) -> None:
    paths = [place.folder / f"{n}.png" for n in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    inputs = {"files_2": paths[1], "files_8": paths[2], "files": paths[0]}
    files = await made(place.engine, place.work("many", ("back", "gallery"), inputs=inputs))
    assert [*files] == ["back", "back_2", "back_3", "gallery", "gallery_2", "gallery_3"]
    assert [path.read_bytes() for path in files.values()] == [b"0.png", b"1.png", b"2.png"] * 2


@real
async def test_a_generator_gives_its_last_text_and_its_messages(place: Place) -> None:
    *items, last = await done(place.engine, place.work("count", ("numbers",), upto=3))
    assert [item for item in items if isinstance(item, Line)] == [Line("at 0"), Line("at 1"), Line("at 2")]
    shown = [item for item in items if isinstance(item, Preview)]
    assert shown == [Preview("text/plain", text) for text in (b"0 ", b"0 1 ", b"0 1 2 ")]
    assert isinstance(last, Made)
    assert last.path.read_text() == "0 1 2 "


@real
async def test_values_are_files_of_their_kind(place: Place) -> None:
    files = await made(place.engine, place.work("say", ("text", "value", "number"), text="b", times=2))
    assert files["text"].read_text() == "bb"
    assert orjson.loads(files["value"].read_bytes()) == {"text": "b"}
    assert (files["number"].suffix, files["number"].read_text()) == (".json", "2")


@real
async def test_choices_that_are_numbers_are_given_as_numbers(place: Place) -> None:
    files = await made(place.engine, place.work("scale", ("chosen",), size=1024, factors=[0.5]))
    assert orjson.loads(files["chosen"].read_bytes()) == {"size": 1024, "factors": [0.5]}
    with pytest.raises(WrongInput, match="300 is not a choice; give one of 256, 512, 1024"):
        await made(place.engine, place.work("scale", ("chosen",), size=300, factors=[]))


@real
async def test_an_app_with_a_login_is_used_also_after_its_restart_and_without_its_password_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = gradio_server(tmp_path / "gradio", PASSWORD="s:ecret")
    place, login = Place(tmp_path, server.url), tmp_path / "login"
    login.write_text("ada:s:ecret\n")
    async with running(server):
        state = await place.engine.ready()
        assert not state.ready
        assert "wants a login; give --engine-option auth=FILE" in state.reason
        monkeypatch.setenv("WAKESTREAM_GRADIO_AUTH", "ada:other")
        wrong = gradio.create(EngineConfig({"url": server.url}))
        with pytest.raises(EngineUnreachable, match="did not accept the login: HTTP 400 Incorrect credentials"):
            await wrong.describe()
        engine = gradio.create(EngineConfig({"url": server.url, "auth": str(login)}))
        assert (await engine.ready()).ready
        assert (await made(engine, place.work()))["bild_gr_e"].read_bytes() == place.image.read_bytes()
        server.kill()
        await server.start()
        assert (await made(engine, place.work()))["bild_gr_e"].read_bytes() == place.image.read_bytes()
    for each in (place.engine, wrong, engine):
        await each.close()


@pytest.mark.parametrize("text", ["ada", "ada:", ":secret", "ada:secret\nmore", ""])
def test_a_login_that_is_none_is_refused_without_its_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "login").write_text(text)
    with pytest.raises(SettingsError, match=r"the content is not (USER:PASSWORD; write both in )?one line"):
        gradio.create(EngineConfig({"auth": str(tmp_path / "login")}))
    with pytest.raises(SettingsError, match="the file cannot be read: No such file") as refused:
        gradio.create(EngineConfig({"auth": "ada:secret"}))
    assert "secret" not in str(refused.value)


@real
async def test_the_apps_own_failure_is_told_and_a_hidden_one_is_named_as_such(place: Place) -> None:
    with pytest.raises(TaskFailed, match="the Gradio app failed: no face found"):
        await done(place.engine, place.work(fail="no face found"))
    with pytest.raises(TaskFailed, match="an error that it does not show; see its log"):
        await done(place.engine, place.work(fail="hidden"))


@real
async def test_what_does_not_fit_is_named_before_anything_is_sent(place: Place) -> None:
    for work, field in (
        (place.work(steps=99), "params.steps"),
        (place.work("say", ("text",), text="c"), "params.text"),
        (place.work(inputs={}), "inputs.image"),
        (place.work("other"), "kind"),
    ):
        with pytest.raises(WrongInput) as wrong:
            await done(place.engine, work)
        assert wrong.value.field == field


class Others:
    """Another user of the app, whose works wait for the gate."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.session = aiohttp.ClientSession()

    async def join(self) -> str:
        """Queue a work; returns the session."""
        name = uuid.uuid4().hex
        asked = {"data": [2, str(self._place.gate)], "fn_index": 2, "session_hash": name}
        async with self.session.post(f"{self._place.url}/gradio_api/queue/join", json=asked) as response:
            assert response.status == 200, await response.text()
        return name

    async def result(self, name: str) -> Any:
        """The result of a session's work."""
        url = f"{self._place.url}/gradio_api/queue/data"
        async with self.session.get(url, params={"session_hash": name}) as response:
            async for line in response.content:
                event = orjson.loads(line[5:]) if line.startswith(b"data:") else {}
                if event.get("msg") == "process_completed":
                    return event["output"]["data"]
        raise AssertionError("the stream ended")


@asynccontextmanager
async def others(place: Place) -> AsyncIterator[Others]:
    found = Others(place)
    try:
        yield found
    finally:
        place.gate.touch()
        await found.session.close()


@real
async def test_a_full_queue_is_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradio, "AGAIN", 0.05)
    async with others(place) as them:
        first = await them.join()
        running_ = asyncio.create_task(them.result(first))
        waiting = []
        while len(waiting) < 2:  # the first leaves the queue when it runs
            try:
                waiting.append(asyncio.create_task(them.result(await them.join())))
            except AssertionError:
                await asyncio.sleep(0.02)
        async with aclosing(place.engine.render(place.work("count", ("numbers",), upto=1))) as items:
            assert await anext(items) == Waits("the work waits for 0 s: the queue of the Gradio app is full")
            place.gate.touch()
            assert isinstance([item async for item in items][-1], Made)
        assert [await each for each in (running_, *waiting)] == [["0 1 "]] * 3


@real
async def test_a_cancel_stops_exactly_this_work(place: Place) -> None:
    async with others(place) as them:
        theirs = asyncio.create_task(them.result(await them.join()))
        mine = place.work("count", ("numbers",), upto=1)
        async with aclosing(place.engine.render(mine)) as items:
            first = asyncio.ensure_future(anext(items))
            await asyncio.wait([first], timeout=0.3)
            await end(first)
        await place.engine.cancel(mine)
        place.gate.touch()
        assert await theirs == ["0 1 "]
    never = place.work("count", ("numbers",), upto=2, gate=str(place.folder / "never"))
    async with aclosing(place.engine.render(never)) as items:
        assert await anext(items) == Line("at 0")
    await place.engine.cancel(never)
    await place.engine.cancel(never)
    assert (await made(place.engine, place.work("count", ("numbers",), upto=1)))["numbers"].read_text() == "0 "


@real
async def test_a_cancel_during_the_join_leaves_nothing_in_the_queue(place: Place, server: Server) -> None:
    await place.engine.describe()
    began = server.folder / "began"
    before = len(began.read_text()) if began.exists() else 0
    held = place.work(gate=str(place.gate))
    holder = asyncio.create_task(made(place.engine, held))
    await until(lambda: _longer(began, before))
    other = gradio.create(EngineConfig({"url": place.url}))
    await other.describe()
    joining = asyncio.Event()
    real_join = other._join

    async def join(asked: Any) -> str | None:
        server.kill(signal.SIGSTOP)
        joining.set()
        return await real_join(asked)

    other._join = join  # type: ignore[method-assign]
    mine = place.work()
    task = asyncio.create_task(made(other, mine))
    await joining.wait()
    await end(task)
    server.kill(signal.SIGCONT)
    await other.cancel(mine)
    await other.close()
    place.gate.touch()
    await holder
    await made(place.engine, place.work())
    assert len(began.read_text()) == before + 2, "the cancelled work never ran"


async def _longer(path: Path, length: int) -> bool:
    return path.exists() and len(path.read_text()) > length


@real
async def test_a_function_that_hangs_is_noticed(place: Place) -> None:
    mark = place.folder / "restarted"
    hangs = place.work(gate=str(place.gate))
    with pytest.raises(EngineUnreachable, match=r"not reported anything new for 0\.5 s; it was restarted"):
        await done(place.engine, hangs, Watchdog(0.5, ("touch", str(mark))))
    assert mark.exists()
    place.gate.touch()
    assert (await made(place.engine, place.work()))["bild_gr_e"].is_file(), "it waits for the end of the one before"


@real
async def test_an_output_that_is_missing_is_a_failure(place: Place) -> None:
    with pytest.raises(TaskFailed, match="made no output 'bild_gr_e'"):
        await done(place.engine, place.work(name="nothing"))


@real
async def test_a_huge_output_is_a_file_or_a_sentence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 300 * 1024 * 1024
    assert (await made(place.engine, place.work(size=size)))["bild_gr_e"].stat().st_size == size
    files = await made(place.engine, place.work("talk", ("long",), letters=30_000_000))
    assert files["long"].stat().st_size == 30_000_000
    monkeypatch.setattr(http_engine, "MAX_JSON", 1_000_000)
    with pytest.raises(TaskFailed, match="an event of more than 1000000 bytes; let it return a file"):
        await done(place.engine, place.work("talk", ("long",), letters=2_000_000))


@real
async def test_jobs_go_through_the_real_worker_also_when_the_app_is_killed_and_comes_back_changed(
    tmp_path: Path,
) -> None:
    server = gradio_server(tmp_path / "gradio", MAX_FILE="2kb")
    place = Place(tmp_path, server.url)
    async with running(server), worker_of(place.engine, place.folder / "desk") as desk:
        copied = await desk.run("copy", {"image": place.image}, {"bild_gr_e": "a.png"}, steps=4)
        assert copied["bild_gr_e"].read_bytes() == place.image.read_bytes()
        assert {25.0, 50.0, 75.0} & {*desk.percents}
        assert desk.percents == sorted(desk.percents)
        large = place.folder / "large.png"
        large.write_bytes(bytes(4000))
        with pytest.raises(TaskFailed, match=r"inputs\.image: the file is larger than the Gradio app's max_file_size"):
            await desk.run("copy", {"image": large}, {"bild_gr_e": "l.png"})
        killed = asyncio.create_task(
            desk.run("copy", {"image": place.image}, {"bild_gr_e": "b.png"}, gate=str(place.gate))
        )
        await until(lambda: _longer(server.folder / "began", 1))
        server.kill()
        server.environment = {**server.environment, "MORE": "1"}
        await server.start()
        place.gate.touch()
        assert (await killed)["bild_gr_e"].read_bytes() == place.image.read_bytes()


async def test_an_app_that_says_that_it_stops_is_not_waited_for(tmp_path: Path) -> None:
    """What `queue_data_helper` in gradio/routes.py sends when the queue stops, or an exception ends the stream."""

    talk = {"parameters": [], "returns": [{"label": "Long", "component": "Textbox", "type": {"type": "string"}}]}
    dependency = {"id": 0, "api_name": "talk", "inputs": [], "outputs": [1]}
    event = {"msg": "unexpected_error", "event_id": None, "message": "Server stopped unexpectedly."}
    answers: dict[str, Any] = {
        "/gradio_api/info": {"named_endpoints": {"/talk": talk}},
        "/config": {"app_id": 1, "components": [{"id": 1, "type": "textbox"}], "dependencies": [dependency]},
        "/gradio_api/app_id": {"app_id": 1},
        "/gradio_api/login_check": {"app_id": 1},
        "/gradio_api/queue/join": {"event_id": "e"},
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path in answers:
            return web.json_response(answers[request.path])
        assert request.path == "/gradio_api/queue/data"
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"msg":"heartbeat"}\n\ndata: ' + orjson.dumps(event) + b"\n\n")
        await asyncio.sleep(30)
        return response

    async with asyncio.timeout(10), plain_server.answering(answer) as url:
        place = Place(tmp_path, url)
        with pytest.raises(EngineUnreachable, match="broke the work off: Server stopped unexpectedly"):
            await done(place.engine, place.work("talk", ("long",)))
        await place.engine.close()
