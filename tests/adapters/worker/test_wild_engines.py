"""Engines of others that break the rules of the port: the worker stays usable, and its files stay its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

import pytest

from tests.support.engines.pair import QuietEngine
from tests.support.programs.queue_bench import QueueBench
from wakestream.adapters.engines import watchdog
from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.adapters.worker import task_queue
from wakestream.operators.model.engine import Frame, Line, Made, Readiness, Work
from wakestream.operators.model.errors import EngineUnreachable, TaskFailed
from wakestream.operators.model.events import FileRef
from wakestream.streams.worker import state as w


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of an engine that hangs are reached at once."""
    monkeypatch.setattr(watchdog, "CANCEL_WITHIN", 0.05)
    monkeypatch.setattr(task_queue, "READY_WITHIN", 0.2)
    monkeypatch.setattr(task_queue, "LOOK_EVERY", 0.01)


class WildEngine(QuietEngine):
    """Does in each call what the test put there."""

    def __init__(self) -> None:
        self.make: Callable[[Work], Path] = _good
        self.hold = asyncio.Event()
        self.hold.set()
        self.unreachable = 0
        self.on_cancel: Callable[[], object] = lambda: None
        self.on_ready: Callable[[], object] = lambda: None
        self.cancelled = 0

    async def ready(self) -> Readiness:
        answer = self.on_ready()
        if asyncio.iscoroutine(answer):
            await answer
        return Readiness(ready=True)

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        yield Frame(1, 2, 50.0)
        await self.hold.wait()
        if self.unreachable:
            self.unreachable -= 1
            raise EngineUnreachable("the engine does not answer")
        yield Made("out", self.make(work))

    async def cancel(self, work: Work) -> None:
        self.cancelled += 1
        answer = self.on_cancel()
        if asyncio.iscoroutine(answer):
            await answer


def _good(work: Work) -> Path:
    path = work.folder / "out.bin"
    path.write_bytes(b"result")
    return path


class Scene(QueueBench):
    """A queue with a wild engine."""

    def __init__(self, root: Path, stall: float | None = None, restart: Sequence[str] = ()) -> None:
        self.engine = WildEngine()
        super().__init__(root, self.engine, watchdog=Watchdog(stall, restart))

    def spec(self, number: int) -> w.TaskSpec:
        ref = FileRef(f"{number:032x}", ".bin")
        self.store.path(ref).write_bytes(b"input %d" % number)
        return w.TaskSpec({"data": ref}, "copy", {}, ("out",))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncGenerator[Scene, None]:
    scene = Scene(tmp_path / "worker")
    async with scene.ready():
        yield scene


def _broken() -> object:
    raise ZeroDivisionError


def _hangs() -> object:
    return asyncio.Event().wait()


@pytest.mark.parametrize("on_cancel", [_broken, _hangs], ids=["raises", "hangs"])
async def test_an_engine_whose_cancel_breaks_does_the_next_task(scene: Scene, on_cancel: Callable[[], object]) -> None:
    scene.engine.hold.clear()
    scene.engine.on_cancel = on_cancel
    first = await scene.queue.ask(scene.spec(1), "job-1")
    await scene.status(first, "running")
    second = await scene.queue.ask(scene.spec(2), "job-2")
    await scene.queue.drop(first.id, "job-1")
    await scene.status(second, "running")
    scene.engine.hold.set()
    assert (await scene.status(second, "done", "failed")).status == "done"
    assert scene.engine.cancelled == 1


@pytest.mark.parametrize("on_cancel", [_broken, _hangs], ids=["raises", "hangs"])
async def test_a_hanging_engine_is_restarted_although_its_cancel_breaks(
    tmp_path: Path, on_cancel: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path / "worker", stall=0.05, restart=("restart-it",))
    restarted: list[Sequence[str]] = []

    async def run_program(argv: Sequence[str], **_: object) -> AsyncGenerator[str, None]:
        restarted.append(argv)
        scene.engine.hold.set()
        for line in ():
            yield line

    monkeypatch.setattr(watchdog, "run_program", run_program)
    scene.engine.hold.clear()
    scene.engine.on_cancel = on_cancel
    await scene.queue.ready()
    task = await scene.queue.ask(scene.spec(1))
    assert (await scene.status(task, "done", "failed")).status == "done"
    assert restarted == [("restart-it",)]
    await scene.close()


async def test_an_engine_that_fails_while_it_comes_back_is_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []

    def on_ready() -> object:
        looks.append(None)
        if len(looks) < 3:
            raise TaskFailed("connection refused")
        return None

    monkeypatch.setattr(task_queue, "READY_WITHIN", 60.0)
    scene.engine.on_ready, scene.engine.unreachable = on_ready, 1
    task = await scene.queue.ask(scene.spec(1))
    assert (await scene.status(task, "done", "failed")).status == "done"
    assert len(looks) == 3


async def test_a_task_waits_in_its_place_until_an_engine_whose_looks_hang_is_ready(scene: Scene) -> None:
    scene.engine.on_ready, scene.engine.unreachable = _hangs, 1
    task = await scene.queue.ask(scene.spec(1))
    await scene.until(lambda: scene.queue.state.halted == w.Halt("not_ready", "the engine does not answer"))
    assert scene.queue.state.tasks[task.id].status == "queued"
    scene.engine.on_ready = lambda: None
    assert (await scene.status(task, "done", "failed")).status == "done"


def _link(work: Work) -> Path:
    path = work.folder / "out.bin"
    path.symlink_to(work.inputs["data"])
    return path


def _folder(work: Work) -> Path:
    path = work.folder / "out.bin"
    path.mkdir()
    return path


def _empty(work: Work) -> Path:
    path = work.folder / "out.bin"
    path.touch()
    return path


ELSEWHERE = "the engine's output 'out' is not a file in the folder of this work; it may make files there only"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda work: work.inputs["data"], ELSEWHERE),
        (lambda work: work.folder / ".." / ".." / "files" / work.inputs["data"].name, ELSEWHERE),
        (_link, ELSEWHERE),
        (_folder, ELSEWHERE),
        (_empty, "the engine succeeded but its output 'out' is empty"),
        (lambda work: work.folder / "none.bin", "the engine succeeded but wrote no output 'out'"),
    ],
    ids=["an input", "by way of a parent folder", "a link", "a folder", "empty", "missing"],
)
async def test_an_output_that_is_no_file_of_the_work_fails_and_no_other_file_goes(
    scene: Scene, make: Callable[[Work], Path], why: str
) -> None:
    spec = scene.spec(1)
    scene.engine.make = make
    failed = await scene.status(await scene.queue.ask(spec), "done", "failed")
    assert (failed.status, failed.error) == ("failed", why)
    assert scene.store.has(spec.inputs["data"])


@pytest.mark.skipif(os.name != "posix", reason="a link needs rights on Windows")
@pytest.mark.parametrize("ending", [".png;id", ".\x1b[2J", ".x\ny", ".\u202e", ". "])
async def test_an_ending_that_is_none_is_not_passed_on(scene: Scene, ending: str) -> None:
    def make(work: Work) -> Path:
        path = work.folder / f"out{ending}"
        path.write_bytes(b"result")
        return path

    scene.engine.make = make
    task = await scene.status(await scene.queue.ask(scene.spec(1), "job-1"), "done", "failed")
    assert (task.status, [output.ext for output in task.made]) == ("done", [".bin"])
