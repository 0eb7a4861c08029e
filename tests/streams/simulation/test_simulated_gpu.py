"""The simulated machine: it does what a real one does, in the times that the test sets."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from wakestream.adapters.worker.http.server import FEATURES as WORKER_FEATURES
from wakestream.operators.model.errors import TaskLost, WorkerUnreachable
from wakestream.operators.model.events import Done, FileRef, Fingerprint, Job
from wakestream.operators.model.ports import Resumed
from wakestream.streams.protocol import messages as m
from wakestream.streams.replay.network import Network
from wakestream.streams.simulation.simulated_gpu import (
    FEATURES,
    Pace,
    SimulatedFiles,
    SimulatedGpu,
    SimulatedWorkers,
    WorkerLink,
)

URL = "http://gpu"
VIDEO, AUDIO = FileRef("v" * 64, ".mp4"), FileRef("a" * 64, ".wav")
PACE = Pace(boot=2.0, warm=1.0, leave=0.5, halt=4.0, call=0.25, transfer=0.25, work=3.0)


class Heard(WorkerLink):
    """A line to a hub that writes down what it hears."""

    def __init__(self) -> None:
        self.said: list[tuple[float, str]] = []

    def _note(self, what: str) -> None:
        self.said.append((asyncio.get_running_loop().time(), what))

    def join(self) -> None:
        self._note("joined")

    def say(self, message: m.Message) -> None:
        self._note(message.TYPE)

    def part(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._note, "gone")


class Machine:
    def __init__(self) -> None:
        self.line, self.notes = Heard(), list[tuple[str, str | None]]()
        self.gpu = SimulatedGpu("gpu", URL, PACE, Network(None), self.line, self._note)
        self.worker = SimulatedWorkers({URL: self.gpu}, self.gpu).at(URL)

    def _note(self, label: str, data: Mapping[str, Any], job: str | None) -> None:
        self.notes.append((label, job))

    async def started(self) -> None:
        self.gpu.start()
        await self.after(PACE.boot + PACE.warm)

    async def after(self, seconds: float) -> None:
        due = asyncio.get_running_loop().create_future()
        self.gpu.net.after(seconds, due.set_result, None)
        await due


def job(id_: str = "job") -> Job:
    return Job.lipsync(id_, Path("clip.mp4"), Path("speech.wav"), Path("out.mp4"))


async def test_it_boots_warms_up_and_leaves_in_its_time() -> None:
    machine = Machine()
    assert machine.gpu.reading == "stopped"
    with pytest.raises(WorkerUnreachable):
        await machine.worker.health()
    await machine.started()
    assert machine.gpu.reading == "running"
    assert (await machine.worker.health()).initialized
    machine.gpu.stop()
    assert machine.gpu.reading == "stopping"
    await machine.after(PACE.halt)
    assert machine.gpu.reading == "stopped"
    assert machine.line.said == [(2.0, "joined"), (3.0, "gpu.power.online"), (3.75, "gone")]


async def test_a_worker_that_warms_up_answers_that_it_is_not_ready() -> None:
    machine = Machine()
    machine.gpu.start()
    await machine.after(PACE.boot)
    assert not (await machine.worker.health()).initialized


async def test_a_task_takes_its_time_and_is_found_again() -> None:
    machine = Machine()
    await machine.started()
    receipt = await machine.worker.submit(job(), {"video": VIDEO, "audio": AUDIO})
    assert (await machine.worker.report(receipt.task_id)).status == "processing"
    await machine.after(PACE.work)
    assert (await machine.worker.report(receipt.task_id)).status == "done"
    assert (await machine.worker.submit(job("again"), {"video": VIDEO, "audio": AUDIO})).cached
    assert [item async for item in machine.worker.download(receipt.task_id, Path("out.mp4"))][-1] == Done(
        Path("out.mp4"), 1_000_000
    )


async def test_one_task_runs_at_a_time() -> None:
    machine = Machine()
    await machine.started()
    await machine.worker.submit(job(), {"video": VIDEO, "audio": AUDIO})
    second = await machine.worker.submit(job("second"), {"video": AUDIO, "audio": VIDEO})
    assert (await machine.worker.report(second.task_id)).status == "queued"
    await machine.after(2 * PACE.work)
    assert (await machine.worker.report(second.task_id)).status == "done"


async def test_a_stop_during_a_task_loses_the_task_and_keeps_the_files() -> None:
    machine = Machine()
    await machine.started()
    file = Fingerprint(Path("clip.mp4"), 10, 0, {})
    assert [sent async for sent in machine.worker.upload(file, VIDEO)] == [5, 10]
    receipt = await machine.worker.submit(job(), {"video": VIDEO, "audio": AUDIO})
    machine.gpu.stop()
    assert machine.notes[-1] == ("task.killed", "job")
    await machine.after(PACE.halt)
    await machine.started()
    with pytest.raises(TaskLost):
        await machine.worker.report(receipt.task_id)
    assert await machine.worker.check([VIDEO, AUDIO]) == {VIDEO.hash: True, AUDIO.hash: False}


async def test_a_start_of_a_running_machine_is_noted_and_has_no_effect() -> None:
    machine = Machine()
    machine.gpu.start()
    machine.gpu.start()
    await machine.after(PACE.boot + PACE.warm)
    assert [label for label, _ in machine.notes] == ["start", "start.twice", "online"]


async def test_files_are_as_the_log_has_them_or_made_up_the_same_each_time() -> None:
    known = Fingerprint(Path("clip.mp4"), 7, 3, {"blake3": "b" * 64})
    files = SimulatedFiles({known.path: known}, 0.0)
    first = await files.fingerprint(known.path, {"blake3", "md5"})
    assert (first.size, first.mtime_ns, first.digests["blake3"]) == (7, 3, "b" * 64)
    assert len(first.digests["md5"]) == 32
    assert first == await files.fingerprint(known.path, {"md5", "blake3"})
    assert (await files.fingerprint(Path("other.wav"), {"blake3"})).digests != first.digests


async def test_an_interrupted_upload_resumes_even_after_a_stop() -> None:
    machine = Machine()
    await machine.started()
    file = Fingerprint(Path("a.mp4"), 10, 0, {})
    steps = machine.worker.upload(file, VIDEO)
    assert await anext(steps) == 5
    machine.gpu.stop()
    await machine.after(PACE.halt)
    with pytest.raises(WorkerUnreachable):
        await anext(steps)
    await machine.started()
    assert [step async for step in machine.worker.upload(file, VIDEO)] == [Resumed(5), 10]


async def test_the_simulated_worker_announces_our_workers_features() -> None:
    assert tuple(sorted(FEATURES)) == WORKER_FEATURES
