"""The engine `comfyui`: the same cases against a fake of 0.3.64, a fake of 2026, and a real ComfyUI if there is one.

`WAKESTREAM_COMFYUI=http://127.0.0.1:8188 WAKESTREAM_COMFYUI_FOLDER=…` runs them against a real one too; see
comfyui_place.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from tests.support.engines import comfyui_place
from tests.support.engines.comfyui_place import Place, RealComfyUi, place_of, restart_command
from tests.support.engines.comfyui_server import FakeComfyUi
from tests.support.engines.pair import done
from tests.support.faults.fault_proxy import Fault
from tests.support.programs import our_peers
from wakestream.adapters.client.client import open_client
from wakestream.adapters.config import settings
from wakestream.adapters.engines import comfyui, comfyui_prompt
from wakestream.adapters.engines.comfyui_prompt import prompt_id
from wakestream.adapters.engines.comfyui_workflow import WorkflowKind
from wakestream.adapters.engines.http_engine import HttpEngine
from wakestream.adapters.engines.samples import make_video
from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.adapters.runtime.tasks import end
from wakestream.adapters.worker import task_queue
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import running_worker
from wakestream.operators.model.engine import MAX_PREVIEW, Frame, Made, Preview, Readiness, Slot, Waits, Work
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, WrongInput
from wakestream.operators.model.events import Done, Job
from wakestream.operators.model.policy import Policy
from wakestream.streams.jobs.stages import job_pipeline

INVERT: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "invert"}},
}
VIDEO = {
    "1": {"class_type": "LoadVideo", "inputs": {"file": "clip.mp4"}},
    "9": {
        "class_type": "SaveVideo",
        "inputs": {"video": ["1", 0], "filename_prefix": "video/x", "format": "mp4", "codec": "h264"},
    },
}
SLOW = {
    "1": INVERT["1"],
    "2": {"class_type": "TestWait", "inputs": {"image": ["1", 0], "seconds": 0.0, "note": ""}},
    "3": {"class_type": "TestSteps", "inputs": {"image": ["2", 0], "steps": 4, "seconds": 0.0}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "slow"}},
}
FILE = {"1": INVERT["1"], "2": {"class_type": "TestFile", "inputs": {"image": ["1", 0], "megabytes": 1}}}
FAIL = {
    "1": INVERT["1"],
    "2": {"class_type": "TestFail", "inputs": {"image": ["1", 0], "text": "no face"}},
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
}
TWO = {
    **INVERT,
    "4": {"class_type": "TestSteps", "inputs": {"image": ["1", 0], "steps": 4, "seconds": 0.0}},
    "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}},
}
SAY = {
    "1": {"class_type": "PrimitiveString", "inputs": {"value": "hello"}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}
GRAPHS = {"invert": INVERT, "copy": VIDEO, "slow": SLOW, "file": FILE, "fail": FAIL, "two": TWO, "say": SAY}
IMAGE_IN = '[kinds.{0}.inputs.image]\nnode = "1.inputs.image"\naccepts = ["image"]\n'
MANIFEST = (
    "".join(f'[kinds.{name}]\nworkflow = "{name}.json"\n' for name in GRAPHS)
    + "".join(IMAGE_IN.format(name) for name in GRAPHS if name not in ("copy", "say"))
    + """
[kinds.invert.outputs.image]
node = "3"
accepts = [".png"]
[kinds.copy.inputs.video]
node = "1.inputs.file"
accepts = ["video"]
[kinds.copy.outputs.video]
node = "9"
accepts = [".mp4"]
[kinds.slow.params]
wait = { node = "2.inputs.seconds" }
note = { node = "2.inputs.note" }
steps = { node = "3.inputs.steps" }
pause = { node = "3.inputs.seconds" }
[kinds.slow.outputs.image]
node = "4"
[kinds.file.params.megabytes]
node = "2.inputs.megabytes"
[kinds.file.outputs.file]
node = "2"
[kinds.fail.outputs.image]
node = "3"
[kinds.say.params.text]
node = "1.inputs.value"
[kinds.say.outputs.text]
node = "2"
accepts = [".txt"]
[kinds.two.params.steps]
node = "4.inputs.steps"
[kinds.two.outputs.image]
node = "3"
[kinds.two.outputs.preview]
node = "5"
"""
)


class Case(Place):
    """A place with all kinds and some files."""

    image: Path
    video: Path

    def prepare(self) -> None:
        """Write the workflows and a picture."""
        for name, graph in GRAPHS.items():
            self.workflow(f"{name}.json", graph)
        self.image, self.video = (self.folder / f"{os.urandom(16).hex()}.{ending}" for ending in ("png", "mp4"))
        _ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25", "-frames:v", "1", str(self.image))

    def start(self, **options: Any) -> comfyui.ComfyUi:
        """An engine with all kinds."""
        return self.engine(MANIFEST, **options)

    def inverting(self) -> Work:
        return self.work("invert", {"image": self.image}, ("image",))

    async def begun(self, engine: comfyui.ComfyUi, work: Work, watchdog: Watchdog | None = None) -> asyncio.Task[Any]:
        """The work, which runs now."""
        rendering = asyncio.create_task(done(engine, work, watchdog))
        await self.until_queue(lambda running, _: running == [prompt_id(work)])
        return rendering

    async def cancelled(self, engine: comfyui.ComfyUi, work: Work, hold: Path) -> None:
        """Cancel the work, whose present node ends as soon as ComfyUI was asked for that."""
        asks = engine._ask_to_cancel

        async def ask(prompt: str, place: int) -> bool:
            if asked := await asks(prompt, place):
                hold.unlink()
            return asked

        engine._ask_to_cancel = ask  # type: ignore[method-assign]
        await engine.cancel(work)

    def slow(self, wait: float = 0.0, hold: Path | None = None, **params: object) -> Work:
        note = str(hold or os.urandom(8).hex())  # without it the nodes of the case before would not run again
        return self.work("slow", {"image": self.image}, ("image",), wait=wait, note=note, **params)


@pytest.fixture(scope="session")
def real() -> Iterator[RealComfyUi | None]:
    found = RealComfyUi() if comfyui_place.URL is not None else None
    yield found
    if found is not None:
        found.end()


REAL = ["real"] if comfyui_place.URL is not None else []
each_release = pytest.mark.parametrize("place", ["fake", "newer", *REAL], indirect=True)
"""For cases in which the releases of 2026 behave in another way."""


@pytest.fixture(params=["fake", *REAL])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, real: RealComfyUi | None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Case]:
    monkeypatch.setattr(comfyui, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(comfyui_prompt, "CONNECT_AGAIN", 0.2)
    server = FakeComfyUi(tmp_path / "comfyui", newer=request.param == "newer") if request.param != "real" else real
    assert server is not None
    async with place_of(Case, server, tmp_path) as found:
        found.prepare()
        yield found


# What it can do


async def test_a_missing_node_and_a_server_that_is_down_are_named(place: Case) -> None:
    fancy = {"class_type": "FancyNode/x", "inputs": {}}
    for name, graph in GRAPHS.items():
        place.workflow(f"{name}.json", {**graph, "7": fancy})
    engine = place.start()
    why = "ComfyUI is not ready: node FancyNode/x is missing; install the custom nodes of the workflow"
    assert await engine.ready() == Readiness(False, why)
    await engine.close()
    engine = place.start(url="http://127.0.0.1:9")
    why = "ComfyUI at http://127.0.0.1:9 does not answer: nothing listens there (connection refused)"
    assert await engine.ready() == Readiness(False, why)


async def test_a_workflow_with_a_missing_node_is_not_offered_and_the_others_are(place: Case) -> None:
    place.workflow("invert.json", {**INVERT, "7": {"class_type": "FancyNode/x", "inputs": {}}})
    engine, others = place.start(), [name for name in GRAPHS if name != "invert"]
    lacks = "kind invert is not offered: node FancyNode/x is missing in ComfyUI; install its custom nodes"
    assert await engine.ready() == Readiness(True, lacks)
    assert [kind.name for kind in await engine.describe()] == others
    assert isinstance((await done(engine, place.slow(0.1)))[-1], Made)


async def test_its_kinds_have_the_limits_and_choices_of_the_server(place: Case) -> None:
    engine = place.start()
    assert await engine.ready() == Readiness(True)
    kinds = {kind.name: kind for kind in await engine.describe()}
    assert list(kinds) == list(GRAPHS)
    assert kinds["invert"].inputs == (Slot("image", ("image",)),)
    assert kinds["slow"].params["properties"]["steps"] == {
        "type": "integer", "minimum": 1, "maximum": 1000, "x-step": 1, "description": "How many steps.", "default": 4,
    }  # fmt: skip
    assert kinds["slow"].params["properties"]["note"] == {"type": "string", "format": "multiline", "default": ""}


# Work


@each_release
async def test_an_image_is_inverted(place: Case) -> None:
    engine, work = place.start(), place.inverting()
    *_, made = await done(engine, work)
    assert made == Made("image", work.folder / "image.png")
    before, after = (_pixels(path) for path in (place.image, work.folder / "image.png"))
    assert all(abs(255 - one - other) <= 1 for one, other in zip(before, after, strict=True)), "it may round down"


async def test_a_video_comes_back_under_its_ending(place: Case) -> None:
    await make_video(place.video, 1, size="64x48")
    engine, work = place.start(), place.work("copy", {"video": place.video}, ("video",))
    await done(engine, place.inverting())  # a work of another workflow before it changes nothing
    *_, made = await done(engine, work)
    assert made == Made("video", work.folder / "video.mp4")
    assert _pixels(work.folder / "video.mp4") == _pixels(place.video)


async def test_the_pictures_of_a_sampler_are_shown_and_those_of_another_prompt_are_not(place: Case) -> None:
    engine = place.start()
    shown = [item for item in await done(engine, place.slow(steps=4, pause=0.2)) if isinstance(item, Preview)]
    assert shown
    assert all((each.media, each.fits) == ("image/jpeg", True) for each in shown)


def test_a_picture_belongs_to_the_prompt_of_the_last_message() -> None:
    kind = cast("WorkflowKind", None)
    progress = comfyui_prompt.PromptProgress("x", {}, comfyui_prompt.NodeTimes(None))
    prompt = comfyui_prompt.RunningPrompt("mine", kind, progress)
    listener = comfyui_prompt.Listener(HttpEngine("http://127.0.0.1:9", "ComfyUI"), "client", prompt)

    def says(name: str) -> None:
        listener._take(json.dumps({"type": "progress", "data": {"prompt_id": name, "node": "1"}}))

    picture = b"\0\0\0\1\0\0\0\1\xff\xd8\xff"
    assert not prompt.runs
    says("mine")
    assert prompt.runs
    for wrong in (b"", b"\0\0\0\1", b"\0\0\0\4" + picture[4:], picture[:8] + b"<svg/>", picture + bytes(MAX_PREVIEW)):
        listener._show(wrong)
    assert prompt.preview is None
    listener._show(picture)
    assert prompt.preview == Preview("image/jpeg", b"\xff\xd8\xff")
    says("another")
    assert not prompt.runs


async def test_progress_has_the_nodes_that_are_done_and_the_steps_within_one(place: Case) -> None:
    engine = place.start()
    frames = [item for item in await done(engine, place.slow(steps=4, pause=0.2)) if isinstance(item, Frame)]
    percents = [frame.percent for frame in frames if frame.percent]
    assert percents == sorted({*percents})
    steps = [(frame.frame, frame.frames, frame.percent) for frame in frames if frame.frames == 4 and frame.frame]
    assert {(2, 4, 62.5), (3, 4, 68.8)} <= set(steps), "a node of four that is half done is 12.5 %"


async def test_nodes_count_by_what_they_took_before_also_after_a_restart_of_the_worker(place: Case) -> None:
    first = place.start(keep=place.folder / "engine")
    await done(first, place.slow(1.0, steps=2, pause=0.1))
    await first.close()
    kept = json.loads((place.folder / "engine" / "comfyui-times.json").read_text())
    assert max(kept, key=lambda node: kept[node]) == "slow 2 TestWait"  # measured between its messages: about a second
    one, two, three, four = (kept[f"slow {number} {SLOW[number]['class_type']}"] for number in SLOW)
    second = place.start(keep=place.folder / "engine")
    items = await done(second, place.slow(1.0, steps=2, pause=0.2))
    frames = {(item.frame, item.percent) for item in items if isinstance(item, Frame)}
    whole = (one + two + three + four) / 100
    assert {(0, round(one / whole, 1)), (1, round((one + two + three / 2) / whole, 1))} <= frames


@each_release
async def test_the_same_work_again_has_a_file_although_nothing_runs_and_the_old_file_is_gone(place: Case) -> None:
    """ComfyUI keeps what nodes gave, and names the old file: only a changed name makes it save again."""
    engine = place.start()
    first = place.inverting()
    await done(engine, first)
    entry = await place.ended(prompt_id(first))
    saved = entry["outputs"]["3"]["images"][0]["filename"]
    root = place.fake.folders.root if place.fake is not None else comfyui_place.FOLDER
    if root is not None:
        Path(root, "output", saved).unlink()
    assert isinstance((await done(engine, place.inverting()))[-1], Made)


async def test_a_text_that_a_node_shows_is_a_result(place: Case) -> None:
    engine, work = place.start(), place.work("say", {}, ("text",), text="Zürich\n中文")
    *_, made = await done(engine, work)
    assert made == Made("text", work.folder / "text.txt")
    assert (work.folder / "text.txt").read_text(encoding="utf-8") == "Zürich\n中文"


async def test_a_large_output_is_stored_whole(place: Case) -> None:
    engine, work = place.start(), place.work("file", {"image": place.image}, ("file",), megabytes=200)
    *_, made = await done(engine, work)
    assert isinstance(made, Made)
    assert made.path.stat().st_size == 200 * 1024 * 1024


# Errors


async def test_a_missing_output_is_a_failure(place: Case) -> None:
    engine = place.start()
    with pytest.raises(TaskFailed, match=r"made no file for the output file \(node 2\)"):
        await done(engine, place.work("file", {"image": place.image}, ("file",), megabytes=-1))


@each_release
async def test_the_error_of_a_node_is_told_and_the_work_may_be_done_again(place: Case) -> None:
    engine, work = place.start(), place.work("fail", {"image": place.image}, ("image",))
    for _ in range(2):
        with pytest.raises(TaskFailed, match="ComfyUI failed at node 2 TestFail: no face"):
            await done(engine, work)


@each_release
async def test_a_refused_parameter_is_named(place: Case) -> None:
    engine = place.start()
    with pytest.raises(WrongInput, match=r"params.steps: ComfyUI refuses it: Value 5000 bigger than max of 1000") as it:
        await done(engine, place.slow(steps=5000))
    assert it.value.field == "params.steps"


@each_release
async def test_an_output_that_comfyui_would_leave_out_is_an_error_and_nothing_runs(place: Case) -> None:
    """It answers 200 if another output can run, and then makes only that one."""
    engine = place.start()
    work = place.work("two", {"image": place.image}, ("image", "preview"), steps=5000)
    with pytest.raises(WrongInput, match=r"params\.steps"):
        await done(engine, work)
    assert await place.queue() == ([], [])
    only = place.work("two", {"image": place.image}, ("image",), steps=5000)
    assert isinstance((await done(engine, only))[-1], Made), "an output that the job does not want may fail"


async def test_a_file_that_is_no_image_is_named(place: Case) -> None:
    place.image.write_bytes(b"this is no image")
    engine = place.start()
    with pytest.raises(WrongInput, match="input image: ComfyUI failed at node 1 LoadImage") as it:
        await done(engine, place.inverting())
    assert it.value.field == "inputs.image"


async def test_a_file_over_the_upload_limit_is_named_with_the_remedy(place: Case) -> None:
    with place.image.open("wb") as file:
        file.truncate(101 * 1024 * 1024)
    engine = place.start()
    with pytest.raises(WrongInput, match="larger --max-upload-size") as it:
        await done(engine, place.inverting())
    assert it.value.field == "inputs.image"


# Cancel


@each_release
async def test_a_cancel_ends_the_running_work_and_nothing_else(place: Case) -> None:
    """ComfyUI ends it only after its present node, and then runs the next prompt of the queue."""
    engine, hold = place.start(), place.hold()
    work = place.slow(hold=hold, steps=1)
    async with aclosing(engine.render(work)) as items:
        rendering = asyncio.create_task(anext(items))
        await place.until_queue(lambda running, _: running == [prompt_id(work)])
        other = await place.others(await place.upload(place.image))
        await rendering
    await place.cancelled(engine, work, hold)
    entry = await place.ended(prompt_id(work))
    assert entry["status"]["status_str"] == "error"
    assert "execution_interrupted" in str(entry["status"]["messages"])
    assert (await place.ended(other))["status"]["status_str"] == "success"


@each_release
async def test_a_cancel_of_work_that_waits_leaves_the_running_prompt_alone(place: Case) -> None:
    engine, work, hold = place.start(), place.slow(), place.hold()
    other = await place.others(await place.upload(place.image), hold)
    rendering = asyncio.create_task(done(engine, work))
    await place.until_queue(lambda _, waiting: waiting == [prompt_id(work)])
    await end(rendering)
    await engine.cancel(work)
    assert await place.queue() == ([other], [])
    hold.unlink()
    assert (await place.ended(other))["status"]["status_str"] == "success"
    assert await place.get(f"/history/{prompt_id(work)}") == {}


@each_release
async def test_a_cancel_while_files_are_sent_starts_nothing(place: Case) -> None:
    engine, work = place.start(), place.inverting()
    with place.image.open("ab") as file:
        file.truncate(50 * 1024 * 1024)
    sent = place.proxy.passed["up"]
    place.proxy.set(up=Fault(rate=20_000_000))
    rendering = asyncio.create_task(done(engine, work))
    await place.proxy.until(lambda proxy: proxy.passed["up"] - sent > 5_000_000)
    await end(rendering)
    place.proxy.heal()
    await engine.cancel(work)
    assert await place.queue() == ([], [])
    assert await place.get(f"/history/{prompt_id(work)}") == {}


@each_release
async def test_a_cancel_while_the_answer_to_the_prompt_is_on_its_way_stops_it(place: Case) -> None:
    engine, hold = place.start(), place.hold()
    work = place.slow(hold=hold, steps=1)
    rendering = asyncio.create_task(done(engine, work))
    await our_peers.until(lambda: prompt_id(work) in engine._sent)
    place.proxy.set(down=Fault(stall=True))
    await end(rendering)
    cancelling = asyncio.create_task(place.cancelled(engine, work, hold))
    await place.until_queue(lambda running, _: running == [prompt_id(work)])
    place.proxy.heal()
    await cancelling
    assert "execution_interrupted" in str((await place.ended(prompt_id(work)))["status"]["messages"])


@each_release
async def test_a_cancel_comes_through_a_server_that_does_not_answer_for_a_moment(place: Case) -> None:
    engine, hold = place.start(), place.hold()
    work = place.slow(hold=hold, steps=1)
    async with aclosing(engine.render(work)) as items:
        await anext(items)
        await place.until_queue(lambda running, _: running == [prompt_id(work)])
    place.proxy.break_all()
    place.proxy.refuse()
    cancelling = asyncio.create_task(place.cancelled(engine, work, hold))
    before = place.proxy.accepted
    await place.proxy.until(lambda proxy: proxy.accepted > before)
    place.proxy.heal()
    await cancelling
    assert "execution_interrupted" in str((await place.ended(prompt_id(work)))["status"]["messages"])


# A server that others use, that hangs, and that comes and goes


async def test_it_waits_behind_the_prompts_of_others_and_says_so(place: Case) -> None:
    image, holds = await place.upload(place.image), [place.hold() for _ in range(4)]
    others = [await place.others(image, hold) for hold in holds]
    said = []
    async with aclosing(place.start().render(place.inverting())) as items:
        async for item in items:
            if isinstance(item, Waits):
                said.append(item.text.rpartition(": ")[2])
                holds.pop(0).unlink()
    assert said == ["4 before it", "3 before it", "2 before it", "1 before it"]
    assert isinstance(item, Made)
    for other in others:
        assert (await place.ended(other))["status"]["status_str"] == "success"


async def test_a_restart_in_mid_work_is_reported_and_the_work_can_be_done_again(place: Case) -> None:
    engine, work = place.start(), place.slow(3600.0)
    rendering = await place.begun(engine, work)
    await place.server.restart()
    with pytest.raises(EngineUnreachable, match="does not know the work any more; it was restarted"):
        await rendering
    assert (await engine.ready()).ready
    assert isinstance((await done(engine, place.slow()))[-1], Made)


async def test_a_server_that_says_nothing_at_all_is_restarted_too(place: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections stay, as those of a machine without memory do."""
    monkeypatch.setattr(comfyui, "CANCEL_WITHIN", 0.3)
    engine, hold, stalled = place.start(), place.hold(), asyncio.Event()
    render = engine.render

    async def before_the_stall(work: Work) -> AsyncIterator[Any]:
        yield Waits("the watchdog has no limit until the next item")
        async with aclosing(render(work)) as items:
            async for item in items:
                await stalled.wait()
                yield item

    monkeypatch.setattr(engine, "render", before_the_stall)
    working = await place.begun(engine, place.slow(hold=hold), Watchdog(0.5, restart_command(place)))
    place.proxy.set(Fault(stall=True), Fault(stall=True))
    stalled.set()
    with pytest.raises(EngineUnreachable, match="it was restarted"):
        await working
    place.proxy.heal()
    hold.unlink()


@each_release
async def test_a_worker_that_was_restarted_follows_the_prompt_that_runs(place: Case) -> None:
    first, hold = place.start(keep=place.folder / "engine"), place.hold()
    work = place.slow(hold=hold, steps=4, pause=0.2)
    async with aclosing(first.render(work)) as items:
        await anext(items)
        await place.until_queue(lambda running, _: running == [prompt_id(work)])
    await first.close()
    second = place.start(keep=place.folder / "engine")
    async with aclosing(second.render(work)) as following:
        items = [await anext(following)]
        hold.unlink()
        items += [item async for item in following]
    assert isinstance(items[-1], Made)
    assert {item.frames for item in items if isinstance(item, Frame)} == {0, 4}, "its progress goes on"
    assert await place.queue() == ([], []), "it ran once"
    for path in work.folder.iterdir():
        path.unlink()
    assert isinstance((await done(second, work))[-1], Made), "it is still in the history"
    await second.close()


async def test_a_websocket_that_stays_silent_does_not_lose_the_work(place: Case) -> None:
    """Another program with the same client id takes over the messages."""
    engine, hold = place.start(client="same"), place.hold()
    rendering = await place.begun(engine, place.slow(hold=hold))
    async with place.session.ws_connect(f"{place.server.url}/ws", params={"clientId": "same"}):
        hold.unlink()
        assert isinstance((await rendering)[-1], Made)


async def test_a_server_that_does_not_answer_for_a_moment_does_not_lose_the_work(place: Case) -> None:
    """A new connection may get no messages at all: the old one's end removes it from the list."""
    engine, hold = place.start(), place.hold()
    rendering = await place.begun(engine, place.slow(hold=hold))
    place.proxy.break_all()
    place.proxy.refuse()
    before = place.proxy.accepted
    await place.proxy.until(lambda proxy: proxy.accepted > before + 2)
    place.proxy.heal()
    hold.unlink()
    assert isinstance((await rendering)[-1], Made)


async def test_a_server_that_answers_no_more_is_reported(place: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfyui, "PATIENCE", 0.5)
    engine, hold = place.start(), place.hold()
    rendering = await place.begun(engine, place.slow(hold=hold))
    place.proxy.break_all()
    place.proxy.refuse()
    with pytest.raises(EngineUnreachable, match="does not answer"):
        await rendering
    place.proxy.heal()
    hold.unlink()


async def test_work_that_somebody_deletes_in_the_queue_fails_and_is_not_started_again(place: Case) -> None:
    engine, work, hold = place.start(), place.slow(), place.hold()
    await place.others(await place.upload(place.image), hold)
    rendering = asyncio.create_task(done(engine, work))
    await place.until_queue(lambda _, waiting: waiting == [prompt_id(work)])
    await place.post("/queue", {"delete": [prompt_id(work)]})
    with pytest.raises(TaskFailed, match="the work was deleted in ComfyUI"):
        await rendering
    hold.unlink()


async def test_work_that_somebody_interrupts_fails(place: Case) -> None:
    engine, hold = place.start(), place.hold()
    rendering = await place.begun(engine, place.slow(hold=hold, steps=1))
    await place.post("/interrupt", {})
    hold.unlink()
    with pytest.raises(TaskFailed, match="the work was interrupted in ComfyUI"):
        await rendering


# From the client's job to its file


@each_release
async def test_a_job_is_done_although_comfyui_is_restarted_in_mid_work(
    place: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_queue, "LOOK_EVERY", 0.05)
    peers = our_peers.Place(place.folder / "peers")
    key, note = peers.keys["worker"], os.urandom(8).hex()
    engine = place.start()
    config = WorkerConfig(place.folder / "worker", engine, our_peers.SECRET, port=0, gpu="gpu", key=key)
    outputs = {"image": place.folder / "result.png"}
    job = Job("job", {"image": place.image}, outputs, "slow", {"wait": 1.0, "note": note})
    async with peers.hub() as hub:
        found = settings.load({}, environment=peers.client_settings(), folder=place.folder)
        async with (
            running_worker(config, lambda register: Link(peers.hub_url, register)),
            open_client(found, Policy(hub=10.0, poll_every=0.05), job_pipeline) as client,
        ):
            await our_peers.gpu_online(hub)
            running = asyncio.create_task(client.run(job, lambda _: None))
            await place.until_queue(lambda running, _: len(running) == 1)
            await place.server.restart()
            assert isinstance(await running, Done)
    assert _pixels(outputs["image"]) == _pixels(place.image)


# What only a fake does on demand


@pytest.fixture
async def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Case]:
    """A fake from before September 2025, whose interrupt ends whatever runs."""
    monkeypatch.setattr(comfyui, "LOOK_EVERY", 0.1)
    async with place_of(Case, FakeComfyUi(tmp_path / "comfyui", interrupts_any=True), tmp_path) as it:
        it.prepare()
        yield it


async def test_a_cancel_of_work_that_waits_does_not_interrupt_an_old_server(fake: Case) -> None:
    engine, work, hold = fake.start(), fake.inverting(), fake.hold()
    other = await fake.others(await fake.upload(fake.image), hold)
    rendering = asyncio.create_task(done(engine, work))
    await fake.until_queue(lambda _, waiting: waiting == [prompt_id(work)])
    await end(rendering)
    await engine.cancel(work)
    hold.unlink()
    assert (await fake.ended(other))["status"]["status_str"] == "success"
    assert fake.fake is not None
    assert "POST /interrupt" not in fake.fake.calls


@pytest.mark.parametrize("path", ["/upload/image", "/prompt", "/queue", "/object_info/LoadImage"])
async def test_a_server_in_trouble_is_not_ready_or_unreachable(fake: Case, path: str) -> None:
    """Its own errors are 500 with a text; a proxy before it answers with a page."""
    assert fake.fake is not None

    async def trouble(request: web.Request) -> web.Response | None:
        if request.path != path:
            return None
        if request.method == "GET":
            return web.Response(text="<html>Bad Gateway</html>", content_type="text/html")
        return web.Response(status=500, text="500 Internal Server Error\n\nServer got itself in trouble")

    fake.fake.answer = trouble
    engine = fake.start()
    if "queue" in path or "object_info" in path:
        assert not (await engine.ready()).ready
    else:
        with pytest.raises(EngineUnreachable, match="HTTP 500"):
            await done(engine, fake.inverting())
    fake.fake.answer = None
    assert (await engine.ready()).ready
    assert isinstance((await done(engine, fake.inverting()))[-1], Made)


async def test_messages_that_make_no_sense_do_not_end_the_work(fake: Case) -> None:
    """Custom nodes send messages of their own."""
    assert fake.fake is not None
    engine, work = fake.start(), fake.slow(0.5)
    rendering = await fake.begun(engine, work)
    for kind, more in (
        ("progress_state", {"nodes": [1]}), ("progress_state", {"nodes": {"2": None}}), ("progress", {"value": "x"}),
        ("executing", {"node": {"a": 1}}), ("execution_cached", {"nodes": 5}), ("custom", {}), ("progress", {"max": 0}),
    ):  # fmt: skip
        fake.fake._tell(kind, {"prompt_id": prompt_id(work), **more})
    fake.fake._tell("custom", {"prompt_id": ["a"]})
    assert isinstance((await rendering)[-1], Made)


async def test_an_answer_to_the_prompt_that_is_lost_does_not_run_the_work_twice(fake: Case) -> None:
    assert fake.fake is not None
    engine, work, put = fake.start(), fake.slow(0.3), fake.fake._put

    async def lost(request: web.Request) -> web.Response | None:
        if request.path != "/prompt":
            return None
        await put(request)
        return web.Response(status=502)

    fake.fake.answer = lost
    with pytest.raises(EngineUnreachable):
        await done(engine, work)
    fake.fake.answer = None
    assert isinstance((await done(engine, work))[-1], Made)
    assert fake.fake.calls.count("POST /prompt") == 1


async def test_a_result_that_was_removed_is_made_again_when_the_work_is_submitted_again(fake: Case) -> None:
    assert fake.fake is not None
    engine, work = fake.start(), fake.inverting()
    await done(engine, work)
    for path in (*fake.fake.folders.of("output").iterdir(), *work.folder.iterdir()):
        path.unlink()
    with pytest.raises(TaskFailed, match=r"HTTP 404 for /view .*; submit the job again"):
        await done(engine, work)
    assert "POST /history" in fake.fake.calls
    assert isinstance((await done(engine, fake.inverting()))[-1], Made)


# What the fake must do as the real one does


@each_release
async def test_the_frames_and_the_history_are_those_of_the_real_server(place: Case) -> None:
    image = await place.upload(place.image)
    graph = {**SLOW, "1": {"class_type": "LoadImage", "inputs": {"image": image}}}
    graph["2"] = {"class_type": "TestWait", "inputs": {"image": ["1", 0], "seconds": 0.0, "note": os.urandom(8).hex()}}
    graph["3"] = {"class_type": "TestSteps", "inputs": {"image": ["2", 0], "steps": 2, "seconds": 0.0}}
    first = await _frames(place, graph)
    assert first[:8] == [
        "status 0 sid", "status 1", "status 1", "execution_start", "execution_cached []",
        "progress_state 1:0/1 running", "executing 1", "progress_state 1:1/1 finished",
    ]  # fmt: skip
    assert first[8:] == [
        "progress_state 1:1/1 finished, 2:0/1 running", "executing 2", "progress_state 1:1/1 finished, 2:1/1 finished",
        "progress_state 1:1/1 finished, 2:1/1 finished, 3:0/1 running", "executing 3",
        "progress_state 1:1/1 finished, 2:1/1 finished, 3:1/2 running", "progress 3:1/2", "preview",
        "progress_state 1:1/1 finished, 2:1/1 finished, 3:2/2 running", "progress 3:2/2", "preview",
        "progress_state 1:1/1 finished, 2:1/1 finished, 3:2/2 finished",
        "progress_state 1:1/1 finished, 2:1/1 finished, 3:2/2 finished, 4:0/1 running", "executing 4",
        "executed 4 images",
        "progress_state 1:1/1 finished, 2:1/1 finished, 3:2/2 finished, 4:1/1 finished", "execution_success",
        "status 0", "executing None",
    ]  # fmt: skip
    assert await _frames(place, graph) == [
        "status 0 sid", "status 1", "status 1", "execution_start", "execution_cached ['1', '2', '3', '4']",
        "executed 4 images", "progress_state 4:1/1 finished", "execution_success", "status 0", "executing None",
    ]  # fmt: skip


async def test_the_frames_of_a_failure_and_of_an_interrupt_are_those_of_the_real_server(place: Case) -> None:
    image = await place.upload(place.image)
    loads = {"1": {"class_type": "LoadImage", "inputs": {"image": image}}}
    broken = {"2": {"class_type": "TestFail", "inputs": {"image": ["1", 0], "text": os.urandom(8).hex()}}}
    assert (await _frames(place, {**FAIL, **loads, **broken}))[-5:] == [
        "progress_state 1:1/1 finished, 2:0/1 running", "executing 2", "execution_error 2", "status 0",
        "executing None",
    ]  # fmt: skip
    graph = comfyui_place.wait_graph(image, 0.5)
    graph["2"]["inputs"]["note"] = os.urandom(8).hex()
    assert (await _frames(place, graph, interrupt=True))[-7:] == [
        "executing 2", "progress_state 2:1/1 finished", "progress_state 2:1/1 finished, 3:0/1 running", "executing 3",
        "execution_interrupted 3", "status 0", "executing None",
    ]  # fmt: skip
    await make_video(place.video, 1, size="64x48")
    loads = {"1": {"class_type": "LoadVideo", "inputs": {"file": await place.upload(place.video)}}}
    assert (await _frames(place, {**VIDEO, **loads}))[-5:] == [
        "executed 9 images animated", "progress_state 1:1/1 finished, 9:1/1 finished", "execution_success", "status 0",
        "executing None",
    ]  # fmt: skip


@each_release
async def test_the_answers_are_those_of_the_real_server(place: Case) -> None:
    image = await place.upload(place.image)
    assert image == place.image.name
    assert await place.upload(place.image) == image, "the same bytes keep their name"
    other = place.folder / "other" / image
    other.parent.mkdir()
    other.write_bytes(b"other bytes")
    assert await place.upload(other) == image.replace(".png", " (1).png")
    loads = {"1": {"class_type": "LoadImage", "inputs": {"image": image}}}
    gone = {"1": {"class_type": "LoadImage", "inputs": {"image": "gone.png"}}}
    steps = {"class_type": "TestSteps", "inputs": {"image": ["1", 0], "steps": 0, "seconds": "x"}}
    asked: list[Any] = [
        {}, {"prompt": {"1": {"class_type": "Nope", "inputs": {}}}}, {"prompt": loads}, {"prompt": {**INVERT, **gone}},
        {"prompt": {**loads, "3": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}}},
        {"prompt": {**loads, "4": steps, "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}}}},
    ]  # fmt: skip
    found = [_short(await place.post("/prompt", each)) for each in asked]
    assert found == [
        "no_prompt", "invalid_prompt" if place.fake is None or not place.fake.newer else "missing_node_type",
        "prompt_no_outputs",
        "prompt_outputs_failed_validation 1 LoadImage image custom_validation_failed -> 3",
        "prompt_outputs_failed_validation 3 SaveImage images required_input_missing -> 3",
        "prompt_outputs_failed_validation 4 TestSteps seconds invalid_input_type, 4 TestSteps steps "
        "value_smaller_than_min -> 5",
    ]  # fmt: skip
    assert await place.get("/history/nonsense") == {}
    assert await place.post("/queue", {"delete": ["nonsense"]}) is None
    assert await place.get("/object_info/Nope") == {}
    for name in ("LoadImage", "LoadVideo", "SaveVideo", "SaveImage", "TestSteps", "TestWait", "TestFile"):
        told = (await place.get(f"/object_info/{name}"))[name]
        assert (told["output_node"], told["output"]) == {
            "LoadImage": (False, ["IMAGE", "MASK"]), "LoadVideo": (False, ["VIDEO"]), "SaveVideo": (True, []),
            "SaveImage": (True, []), "TestSteps": (False, ["IMAGE"]), "TestWait": (False, ["IMAGE"]),
            "TestFile": (True, []),
        }[name]  # fmt: skip


async def _frames(place: Case, graph: Mapping[str, Any], *, interrupt: bool = False) -> list[str]:
    """The frames of one prompt."""
    found: list[str] = []
    async with place.session.ws_connect(f"{place.server.url}/ws", params={"clientId": "looking"}) as socket:
        found.append(_said(await socket.receive()))
        said = await place.post("/prompt", {"prompt": graph, "client_id": "looking"})
        async for message in socket:
            text = _said(message)
            if interrupt and text == "executing 2":
                await place.queue()  # the node runs a moment after it was reported
                await place.post("/interrupt", {"prompt_id": said["prompt_id"]})
            found.append(text)
            if text == "executing None":
                break
    entry = await place.ended(said["prompt_id"])
    names = [each[0] for each in entry["status"]["messages"]]
    assert names == [each.split(" ")[0] for each in found if each.startswith("execution_")]
    return found


def _said(message: aiohttp.WSMessage) -> str:
    if message.type is aiohttp.WSMsgType.BINARY:
        assert message.data[:8] == b"\x00\x00\x00\x01\x00\x00\x00\x01"
        return "preview"
    frame = json.loads(message.data)
    kind, data = frame["type"], frame["data"]
    nodes = [f"{n}:{s['value']:g}/{s['max']:g} {s['state']}" for n, s in data.get("nodes", {}).items()] if (
        kind == "progress_state"
    ) else []  # fmt: skip
    left = data.get("status", {}).get("exec_info", {}).get("queue_remaining")
    more = {
        "status": f"{left}{' sid' if 'sid' in data else ''}",
        "progress_state": ", ".join(nodes),
        "progress": f"{data.get('node')}:{data.get('value')}/{data.get('max')}",
        "executing": str(data.get("node")),
        "executed": f"{data.get('node')} {' '.join(data.get('output') or ())}",
        "execution_cached": str(data.get("nodes")),
        "execution_error": str(data.get("node_id")),
        "execution_interrupted": str(data.get("node_id")),
    }
    return f"{kind} {more.get(kind, '')}".strip()


def _short(said: Mapping[str, Any]) -> str:
    nodes = [
        (", ".join(sorted(f"{node} {found['class_type']} {e['extra_info']['input_name']} {e['type']}" for e in errors)))
        + f" -> {', '.join(found['dependent_outputs'])}"
        for node, found in said["node_errors"].items()
        if (errors := found["errors"])
    ]
    return " ".join((said["error"]["type"], *nodes))


def _ffmpeg(*arguments: str) -> bytes:
    command = (found_ffmpeg(), "-loglevel", "error", "-nostdin", "-y", *arguments)
    return subprocess.run(command, check=True, capture_output=True).stdout


def _pixels(path: Path) -> bytes:
    return _ffmpeg("-i", str(path), "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
