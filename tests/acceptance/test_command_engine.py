"""The engine `command` with a manifest: real programs, and real workers that are cancelled, restarted and killed."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.log_lines import logged
from tests.support.programs.machine_scene import alive, died
from tests.support.programs.our_peers import Place, gpu_online, until
from tests.support.programs.worker_process import worker_process
from wakestream.adapters.client.client import Client, open_client
from wakestream.adapters.config import settings
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.engines import Command, run_process
from wakestream.adapters.engines.command import programs_of
from wakestream.adapters.engines.config import EngineConfig, make_engine
from wakestream.adapters.engines.program_output import LINES_A_SECOND
from wakestream.adapters.engines.run_process import Box
from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.operators.model import events as e
from wakestream.operators.model.engine import PREVIEW_FILE, Frame, Line, Made, Waits, Work
from wakestream.operators.model.errors import TaskFailed, WrongInput
from wakestream.operators.model.policy import Policy

TOOL = Path(__file__).parents[1] / "support" / "engines" / "tool.py"
PYTHON = json.dumps(sys.executable)

MANIFEST = f"""
[kinds.run]
title = "Run the tool"
command = [{PYTHON}, "tool.py", "{{param:mode}}", "{{in:file}}", "{{out:result}}",
           ["{{param:word}}"], ["{{if:fast}}", "--fast"], ["--log", "{{out:log}}"]]
progress = 'step (?P<frame>\\d+)/(?P<frames>\\d+)|(?P<percent>\\d+)%'
[kinds.run.inputs.file]
[kinds.run.params.mode]
type = "string"
required = true
[kinds.run.params.word]
type = "string"
[kinds.run.params.fast]
type = "boolean"
[kinds.run.outputs.result]
accepts = [".bin"]
[kinds.run.outputs.log]
accepts = [".txt"]
required = false

[kinds.report]
command = [{PYTHON}, "tool.py", "json", "{{in:file}}", "{{out:result}}"]
progress = "json"
[kinds.report.inputs.file]
[kinds.report.outputs.result]

[kinds.search]
command = [{PYTHON}, "tool.py", "several", "{{in:file}}", "{{folder}}", "{{param:first}}", ["{{param:second}}"]]
[kinds.search.inputs.file]
[kinds.search.params.first]
type = "string"
required = true
[kinds.search.params.second]
type = "string"
[kinds.search.outputs.text]
search = "**/*.srt"
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    folder = tmp_path / "kinds of ours"
    folder.mkdir()
    shutil.copy(TOOL, folder)
    (folder / "kinds.toml").write_text(MANIFEST, encoding="utf-8")
    return folder / "kinds.toml"


async def done(engine: Command, given: Path, mode: str, *outputs: str, **params: Any) -> list[Frame | Line | Made]:
    """What the engine says of one work: of this kind, or of the kind `run` in this mode."""
    kind = mode if mode in ("report", "search") else "run"
    outputs = outputs or ("text" if kind == "search" else "result",)
    folder = given.parent / "work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if kind == "run":
        params["mode"] = mode
    async with aclosing(engine.render(Work("w", kind, {"file": given}, params, outputs, folder))) as items:
        return [item async for item in items]


async def made(engine: Command, given: Path, mode: str, *outputs: str, **params: Any) -> Path:
    """Its first file."""
    return next(item.path for item in await done(engine, given, mode, *outputs, **params) if isinstance(item, Made))


def changed(manifest: Path, old: str, new: str) -> Command:
    """An engine of the manifest with one text instead of another."""
    text = manifest.read_text(encoding="utf-8")
    assert old in text
    manifest.write_text(text.replace(old, new, 1), encoding="utf-8")
    return Command(programs_of(manifest), limit=40)


@pytest.fixture
def engine(manifest: Path) -> Command:
    return Command(programs_of(manifest), limit=40)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "in.bin"
    path.write_bytes(b"abc")
    return path


async def test_progress_by_a_pattern_and_log_lines_and_the_output_arrive(engine: Command, given: Path) -> None:
    *items, last = await done(engine, given, "reverse")
    assert items == [*(Frame(n, 4, 25.0 * n) for n in range(1, 5)), Line("done, 4 steps")]
    assert isinstance(last, Made)
    assert (last.name, last.path.name, last.path.read_bytes()) == ("result", "result.bin", b"cba")


async def test_progress_as_json_lines(engine: Command, given: Path) -> None:
    frame, line, last = await done(engine, given, "report")
    assert (frame, line) == (Frame(1, 2, 50.0), Line("half of it"))
    assert isinstance(last, Made)
    assert last.path.name == "result"


async def test_a_program_names_the_input_that_is_to_blame_and_is_ended(engine: Command, given: Path) -> None:
    given.write_bytes(b"no face")
    with pytest.raises(WrongInput, match=r"^input file: there is no face in it$") as refused:
        await done(engine, given, "report")
    assert refused.value.field == "inputs.file"


VALUES = [
    "two  words",
    "\"double\" 'single' `back`",
    "line\nbreak\r\n\ttab",
    "说话 é 🎬",
    "$HOME %PATH% ; | & > x",
    "",
    "\\\\",
]
NAMES = [
    "-rf.bin",
    "a b.bin",
    "说话 é.bin",
    'it\'s "quoted".bin',
    "line\nbreak.bin",
    "{param:mode}.bin",
    "$(touch x).bin",
]


@pytest.mark.parametrize("value", VALUES)
async def test_a_value_reaches_the_program_as_one_argument(engine: Command, given: Path, value: str) -> None:
    assert json.loads((await made(engine, given, "echo", word=value)).read_text())[2:] == [value]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", NAMES)
async def test_a_file_name_reaches_the_program_as_one_argument(engine: Command, tmp_path: Path, name: str) -> None:
    given = tmp_path / name
    given.write_bytes(b"x")
    path = await made(engine, given, "echo", "result", "log", fast=True)
    assert json.loads(path.read_text()) == [str(given), str(path), "--fast", "--log", str(path.with_name("log.txt"))]


async def test_a_program_runs_in_the_folder_of_its_manifest_or_the_one_that_it_names(
    engine: Command, given: Path, manifest: Path
) -> None:
    assert (await made(engine, given, "where")).read_text() == str(manifest.parent.resolve())
    deep = manifest.parent / "deep"
    deep.mkdir()
    shutil.move(manifest.parent / "tool.py", deep)
    engine = changed(manifest, "[kinds.run]", '[kinds.run]\ncwd = "deep"')
    assert (await made(engine, given, "where")).read_text() == str(deep.resolve())


async def test_an_output_is_searched_in_the_works_folder(engine: Command, given: Path) -> None:
    path = await made(engine, given, "search", first="deep/a.srt", second="a.vtt")
    assert path == given.parent / "work" / "deep" / "a.srt"
    with pytest.raises(TaskFailed, match=r"wrote 2 files that fit the output 'text' \(\*\*/\*.srt\): a.srt, b.srt"):
        await done(engine, given, "search", first="a.srt", second="b.srt")
    with pytest.raises(TaskFailed, match="wrote no file that fits the output 'text'"):
        await done(engine, given, "search", first="a.vtt")


async def test_a_preview_is_no_output(given: Path, manifest: Path) -> None:
    engine = changed(manifest, 'search = "**/*.srt"', 'search = "*.*"')
    assert (await made(engine, given, "search", first="a.jpg", second=PREVIEW_FILE)).name == "a.jpg"


async def test_a_failed_program_is_quoted_and_a_killed_one_is_explained(engine: Command, given: Path) -> None:
    with pytest.raises(TaskFailed, match="ended with code 3: CUDA error: device-side assert triggered"):
        await done(engine, given, "fails")
    if sys.platform != "win32":
        with pytest.raises(TaskFailed, match=r"was killed \(code -9\), for example because .* memory: loading 40 GB"):
            await done(engine, given, "killed")


async def test_a_flood_of_lines_is_neither_logged_nor_kept(engine: Command, given: Path) -> None:
    begun = asyncio.get_running_loop().time()
    items = await done(engine, given, "flood")
    seconds = asyncio.get_running_loop().time() - begun
    assert len(items) <= (LINES_A_SECOND + 1) * (seconds + 2)


async def test_a_program_that_takes_too_long_is_stopped_with_its_children(
    engine: Command, given: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hung(run_process.Deadline):
        """Over when the program hangs, however long its start takes."""

        def __getattribute__(self, name: str) -> Any:
            return 0.0 if name == "at" and (given.parent / "pids").exists() else super().__getattribute__(name)

    monkeypatch.setattr(run_process, "Deadline", Hung)
    with pytest.raises(TaskFailed, match="longer than the limit of 40 s"):
        await done(engine, given, "hangs")
    for pid in map(int, (given.parent / "pids").read_text().split()):
        await died(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these restrictions")
async def test_a_program_runs_in_its_box(manifest: Path, given: Path) -> None:
    engine = Command(programs_of(manifest), limit=40, box=Box(network=False, memory=1024**3, seconds=40))
    assert isinstance((await done(engine, given, "reverse"))[-1], Made)


async def test_a_missing_program_is_the_reason_why_the_engine_is_not_ready(tmp_path: Path) -> None:
    path = tmp_path / "kinds.toml"
    path.write_text('[kinds.a]\ncommand = ["./tool", "{out:x}"]\n[kinds.a.outputs.x]\n', encoding="utf-8")
    engine = Command(programs_of(path))
    program = str(tmp_path / "tool")
    assert (await engine.ready()).reason == f"the program {program!r} was not found: install it, or give its full path"
    path.write_text(path.read_text() + '[kinds.b]\ncommand = ["no-such", "{out:x}"]\n[kinds.b.outputs.x]\n')
    assert (await Command(programs_of(path)).ready()).reason.startswith("kind a: the program")
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    assert (await engine.ready()).ready


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("{param:mode}", "{param:mood}"), "kinds.run.command: {param:mood}: the kind has no such parameter; it has"),
        (('type = "boolean"', 'type = "bool"'), "kinds.run.params.fast.type: 'bool' is not valid"),
        (('type = "boolean"', 'type = "boolean"\ndefault = 1'), "kinds.run.params.fast.default: 1 has the wrong type"),
        (('type = "boolean"', 'typ = "boolean"'), 'kinds.run.params.fast: "typ" is unknown; use type'),
        (('type = "boolean"', "default = inf"), "kinds.run.params.fast: a value is not JSON"),
        (("step (?P", "step (?P<"), "kinds.run.progress: 'step"),
        (('search = "**/*.srt"', 'search = "../*.srt"'), "outputs.text.search: '../*.srt' must be a pattern"),
        (('title = "Run the tool"', 'cwd = "nowhere"'), "kinds.run.cwd: there is no such folder"),
        (("[kinds.report.outputs.result]", ""), "kinds.report"),
    ],
)  # fmt: skip
def test_a_wrong_manifest_is_refused_at_the_start_with_the_place(
    manifest: Path, change: tuple[str, str], words: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        changed(manifest, *change)
    assert words in str(refused.value)
    assert str(manifest) in str(refused.value)


def test_the_engine_needs_a_command_or_a_manifest_and_not_both(manifest: Path) -> None:
    for config in (EngineConfig(), EngineConfig({"manifest": str(manifest)}, ("x", "{video}{audio}{output}"))):
        with pytest.raises(SettingsError, match="needs either --command"):
            make_engine("command", config)


class Scene:
    """A hub, a client, and jobs of the kinds of the manifest; the worker comes by `place.worker`, or as a process."""

    def __init__(self, folder: Path, manifest: Path) -> None:
        self.folder, self.manifest, self.place = folder, manifest, Place(folder)
        self.given = folder / "in.bin"
        self.given.write_bytes(b"abc")
        self.events: list[e.JobEvent] = []
        self.pids = folder / "worker" / "files" / "pids"

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        found = settings.load({}, environment=self.place.client_settings(), folder=self.folder)
        async with open_client(found, Policy(hub=10.0, poll_every=0.01)) as client:
            yield client

    @asynccontextmanager
    async def house(self, kind: type[Command] = Command, **more: Any) -> AsyncIterator[Client]:
        """Hub, worker and client."""
        engine = kind(programs_of(self.manifest), limit=40)
        async with self.place.hub() as hub, self.place.worker(engine, **more), self.client() as client:
            await gpu_online(hub)
            yield client

    def job(self, mode: str, name: str = "job", **params: Any) -> e.Job:
        params = {"mode": mode, **params}
        return e.Job(name, {"file": self.given}, {"result": self.folder / f"{name}.bin"}, "run", params)

    async def run(self, client: Client, job: e.Job) -> e.Outcome:
        return await client.run(job, self.events.append)

    async def engine_pids(self) -> list[int]:
        await until(self.pids.exists)
        return [int(pid) for pid in self.pids.read_text().split()]


@pytest.fixture
def scene(tmp_path: Path, manifest: Path) -> Scene:
    return Scene(tmp_path, manifest)


async def test_jobs_go_through_hub_and_worker_with_their_log_and_their_refusals(scene: Scene) -> None:
    with logged("INFO") as lines:
        async with scene.house() as client:
            job = scene.job("reverse")
            assert await scene.run(client, job) == e.Done(job.output, 3)
            assert job.output.read_bytes() == b"cba"
            large = scene.job("large", "large")
            assert await scene.run(client, large) == e.Done(large.output, 96 * 1024 * 1024)
            refused = await scene.run(client, scene.job("echo", "wrong", word="-x"))
            assert isinstance(refused, e.Failed)
            assert "parameter word: '-x' begins with '-'" in refused.why
    assert "done, 4 steps" in lines


async def test_a_cancel_kills_the_program_and_its_children(scene: Scene) -> None:
    async with scene.house() as client:
        running = asyncio.create_task(scene.run(client, scene.job("hangs")))
        pids = await scene.engine_pids()
        assert all(map(alive, pids))
        client.cancel("job")
        assert isinstance(await running, e.Cancelled)
        for pid in pids:
            await died(pid)
        assert isinstance(await scene.run(client, scene.job("reverse", "next")), e.Done)


class Starting(Command):
    """The watchdog waits for the first word of its program, however long the start takes."""

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        yield Waits("the program starts")
        async with aclosing(super().render(work)) as items:
            async for item in items:
                yield item


async def test_a_program_that_hangs_is_stopped_by_the_watchdog(scene: Scene) -> None:
    async with scene.house(Starting, watchdog=Watchdog(stall=1.0)) as client:
        failed = await scene.run(client, scene.job("hangs"))
        assert isinstance(failed, e.Failed)
        assert "has not reported anything new for 1 s" in failed.why
        for pid in await scene.engine_pids():
            await died(pid)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
async def test_a_program_that_is_killed_from_outside_fails_the_job(scene: Scene) -> None:
    async with scene.house() as client:
        running = asyncio.create_task(scene.run(client, scene.job("hangs")))
        parent, child = await scene.engine_pids()
        os.kill(parent, signal.SIGKILL)
        failed = await running
        assert isinstance(failed, e.Failed)
        assert "was killed" in failed.why
        await died(child)


async def test_a_worker_that_is_killed_takes_its_program_along_and_the_next_one_does_the_work(scene: Scene) -> None:
    key = scene.folder / "worker.key"
    key.write_text(scene.place.keys["worker"])
    async with scene.place.hub() as hub, scene.client() as client:
        arguments = (
            "--hub", scene.place.hub_url, "--key-file", str(key), "--gpu", "gpu",
            "--engine", "command", "--engine-option", f"manifest={scene.manifest}",
        )  # fmt: skip
        async with worker_process(scene.folder / "worker", *arguments) as worker:
            await gpu_online(hub)
            running = asyncio.create_task(scene.run(client, scene.job("once")))
            pids = await scene.engine_pids()
            await worker.again()
            for pid in pids:
                await died(pid)
            assert isinstance(await running, e.Done)
    assert (scene.folder / "job.bin").read_bytes() == b"done"
