"""Tasks of a real worker: cancelled, outliving it, or in the middle of it when it stops; with real processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.support.engines.pair import lipsync, rendered
from tests.support.programs.machine_scene import alive, died
from tests.support.programs.our_peers import until
from wakestream.adapters.engines import Command
from wakestream.adapters.engines import run_process as process
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import RunningWorker, running_worker
from wakestream.operators.model.engine import Frame
from wakestream.operators.model.events import FileRef
from wakestream.streams.worker import state as w

SECRET = "open-sesame-0123456789"

COPY = """
import sys
video, audio, output = sys.argv[1:4]
print("working: 25%", flush=True)
print("almost: 75.5 %", file=sys.stderr, flush=True)
open(output, "wb").write(open(video, "rb").read() + open(audio, "rb").read())
"""

STUBBORN = """
import pathlib, signal, subprocess, sys, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait(600)"])
pathlib.Path(sys.argv[3]).write_bytes(b"half")
pathlib.Path(sys.argv[1]).with_suffix(".pids").write_text(f"{__import__('os').getpid()} {child.pid}")
print("1%", flush=True)
threading.Event().wait(600)
"""


def engine(script: str, *, limit: float = 40.0) -> Command:
    return lipsync(sys.executable, "-c", script, limit=limit)


async def render(made: Command, folder: Path) -> list[Frame]:
    video, audio = folder / "v {audio}.mp4", folder / "a.wav"
    video.write_bytes(b"video")
    audio.write_bytes(b"audio")
    return [frame async for frame in rendered(made, video, audio, folder / "out.mp4")]


@asynccontextmanager
async def at_work(state: Path, script: str) -> AsyncGenerator[RunningWorker, None]:
    config = WorkerConfig(state=state, engine=engine(script), secret=SECRET, port=0)
    async with running_worker(config) as worker:
        yield worker


def put(worker: RunningWorker, number: int) -> tuple[FileRef, FileRef]:
    video, audio = FileRef(f"{number:032x}", ".mp4"), FileRef(f"{number:032x}", ".wav")
    for ref in (video, audio):
        worker.store.path(ref).write_bytes(b"x%d" % number)
    return video, audio


async def test_a_command_gets_its_files_without_a_shell_and_its_percentages_are_read(tmp_path: Path) -> None:
    frames = await render(engine(COPY), tmp_path)
    assert sorted(frame.percent for frame in frames) == [25.0, 75.5]
    assert (tmp_path / "out.mp4").read_bytes() == b"videoaudio"


async def test_a_command_with_endless_output_neither_hangs_nor_fills_memory(tmp_path: Path) -> None:
    flood = "import sys; sys.stdout.write('x' * 3_000_000); sys.stderr.write('y' * 3_000_000);" + COPY
    await render(engine(flood), tmp_path)
    assert (tmp_path / "out.mp4").exists()


async def test_a_command_that_floods_its_progress_leaves_time_for_everything_else(tmp_path: Path) -> None:
    async def others() -> int:
        turns = 0
        while True:
            await asyncio.sleep(0)
            turns += 1
            if turns == 200:
                return turns

    flood = "import sys\nwhile True: sys.stdout.write('1%\\n2%\\n' * 10000)"
    rendering = asyncio.create_task(render(engine(flood), tmp_path))
    assert await others() == 200
    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering


HOLDS = """
import pathlib, subprocess, sys
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
pathlib.Path(sys.argv[3]).write_bytes(b"whole")
pathlib.Path(sys.argv[1]).with_suffix(".pids").write_text(str(child.pid))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sessions are POSIX")
async def test_an_escaped_child_with_open_output_is_not_awaited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_OUTPUT_WITHIN", 0.01)
    await render(engine(HOLDS), tmp_path)
    assert (tmp_path / "out.mp4").read_bytes() == b"whole"
    os.kill(int(next(tmp_path.glob("*.pids")).read_text()), signal.SIGKILL)


PARENT = """
import asyncio, sys
from wakestream.adapters.engines.run_process import run_program
async def main():
    async for line in run_program(["/bin/sh", "-c", "echo $$; exec sleep 600"], limit=600):
        print(line, flush=True)
asyncio.run(main())
"""

AT_THE_START = f"""
import os, signal
from wakestream.adapters.engines import run_process
start, started = run_process.start, []
async def killed_after_the_first(argv, **options):
    if started:
        print(started[0].pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    started.append(await start(argv, **options))
    return started[0]
run_process.start = killed_after_the_first
{PARENT}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
@pytest.mark.parametrize("program", [PARENT, AT_THE_START], ids=["later", "at_the_start"])
async def test_a_worker_that_is_killed_leaves_no_engine_behind(program: str) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    if program == PARENT:
        assert alive(pid)
        parent.kill()
    await parent.wait()
    await died(pid)


async def test_a_stop_during_a_task_is_quick_and_the_next_run_resumes(tmp_path: Path) -> None:
    async with AsyncExitStack() as life:
        worker = await life.enter_async_context(at_work(tmp_path, STUBBORN))
        first = await worker.queue.ask(w.pair(*put(worker, 1)), "a")
        second = await worker.queue.ask(w.pair(*put(worker, 2)), "b")
        pids_file = worker.store.path(first.video).with_suffix(".pids")
        await until(lambda: pids_file.exists() and pids_file.read_text())
        async with asyncio.timeout(8):
            await life.aclose()
    assert not alive(int(pids_file.read_text().split()[0]))
    async with at_work(tmp_path, COPY) as worker:
        await until(lambda: all(task.status == "done" for task in worker.queue.state.tasks.values()))
        assert set(worker.queue.state.tasks) == {first.id, second.id}
        assert worker.store.result(second.id).read_bytes() == b"x2x2"
