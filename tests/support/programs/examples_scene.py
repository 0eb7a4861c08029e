"""Each of the examples acts out its scene; a recording of it is the example's log in tests/logs/examples/.

PYTHONPATH=. python tests/support/programs/examples_scene.py records those logs again.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from examples import batch, check_the_flow, cost_meter, custom_pipeline, engine_worker, two_gpus, webhook
from tests.support.engines.heygem_server import FakeEngine
from tests.support.programs import plain_server
from wakestream.adapters.client.heygem_engine import EasyEngine
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.adapters.engines.samples import make_video
from wakestream.adapters.net.webhooks import post_json
from wakestream.adapters.telemetry.recordings import write
from wakestream.adapters.testing.fakes import FakeWorker, FakeWorkers
from wakestream.adapters.testing.harness import GPU, PipelineHarness, asleep, sample_job
from wakestream.adapters.testing.virtual_loop import run_virtual
from wakestream.operators import Job, Outcome, Policy, TaskReport
from wakestream.streams import Build, Log
from wakestream.streams.protocol import messages as m

LOGS = Path(__file__).parents[2] / "logs" / "examples"
A, B = "http://gpu-a:8383", "http://gpu-b:8383"


@dataclass
class Acted:
    """One scene that has ended."""

    rehearsal: PipelineHarness
    outcomes: Mapping[str, Outcome]
    props: Mapping[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> Log:
        """What was recorded."""
        return self.rehearsal.log


def half_way(*percents: float) -> list[TaskReport]:
    """A worker's reports, the last of which is the end."""
    return [*(TaskReport("processing", percent) for percent in percents), TaskReport("done", 100.0)]


async def act_check_the_flow() -> Acted:
    """The GPU is off, and comes online after a minute."""
    rehearsal = PipelineHarness(asleep)
    rehearsal.at(60, rehearsal.wake)
    return Acted(rehearsal, await rehearsal.run(check_the_flow.until_ready))


async def act_custom_pipeline() -> Acted:
    """The note is written into a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        rehearsal = PipelineHarness(workers=FakeWorkers({GPU: FakeWorker(reports=half_way(10, 50))}, GPU))
        outcomes = await rehearsal.run(custom_pipeline.lively)
        return Acted(rehearsal, outcomes, {"note": Path("job-1.json").read_text()})


async def act_two_gpus() -> Acted:
    """The second GPU is the faster one."""
    slow, fast = FakeWorker(reports=half_way(10, 20, 30, 40, 50, 60)), FakeWorker(reports=half_way(30, 60))
    slow.delays = {"health": 0.11, "check": 0.12, "upload": 1.3, "submit": 0.14, "report": 0.15}
    fast.delays = {"health": 0.03, "check": 0.04, "upload": 0.5, "submit": 0.06, "report": 0.07}
    rehearsal = PipelineHarness(workers=FakeWorkers({A: slow, B: fast}, A))
    return Acted(rehearsal, await rehearsal.run(two_gpus.fastest_of(A, B)), {"slow": slow, "fast": fast})


async def act_batch() -> Acted:
    """Three jobs go together, the fourth comes alone and goes when its time is up."""
    rehearsal = PipelineHarness()
    jobs = [sample_job(f"job-{number}") for number in range(1, 5)]
    return Acted(rehearsal, await rehearsal.run(batch.batched(3, 600.0), *jobs))


async def act_cost_meter() -> Acted:
    """The GPU is woken for one job: 100 s of boot, then the work."""
    rehearsal = PipelineHarness(
        asleep, workers=FakeWorkers({GPU: FakeWorker(reports=half_way(*range(0, 100, 5)))}, GPU)
    )
    rehearsal.at(5, rehearsal.say, m.PowerState(gpu="gpu", state="starting"))
    rehearsal.at(95, rehearsal.say, m.Booted(gpu="gpu"))
    rehearsal.at(105, rehearsal.wake)
    return Acted(rehearsal, await rehearsal.run(cost_meter.metered(3.6)))


async def act_webhook() -> Acted:
    """The receiver is down at first."""
    async with receiver(refuses=2) as (url, news):
        rehearsal = PipelineHarness()
        outcomes = await rehearsal.run(webhook.with_webhook(lambda told: post_json(url, told)))
    return Acted(rehearsal, outcomes, {"news": news})


@asynccontextmanager
async def receiver(refuses: int = 0) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook's other end, which answers 503 so many times: its address, and what it got."""
    news: list[dict[str, Any]] = []
    left = refuses

    async def hear(request: web.Request) -> web.Response:
        nonlocal left
        left -= 1
        if left >= 0:
            return web.Response(status=503)
        news.append(await request.json())
        return web.Response()

    async with plain_server.answering([web.post("/done", hear)]) as url:
        yield f"{url}/done", news


async def act_engine() -> Acted:
    """An engine that is busy at first, then renders."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # so that the log knows no such folder
        return await with_engine(Path(), busy_for=1)


QUICK = Policy(poll_every=0.01, health_every=0.01)


async def with_engine(
    folder: Path, job: Job | None = None, before: Callable[[FakeEngine], Awaitable[None]] | None = None, **how: Any
) -> Acted:
    """One job through an engine that behaves as told."""
    shared = folder / "shared"
    shared.mkdir()
    await make_video(folder / "clip.mp4", 1, size="64x48", rate=5)
    clip = (folder / "clip.mp4").read_bytes()
    (folder / "speech.wav").write_bytes(b"RIFF" * 100)
    files = DiskFiles()
    async with FakeEngine(shared, clip, **how).runs() as engine:
        if before is not None:
            await before(engine)
        rehearsal = PipelineHarness(workers=EasyEngine(engine.url, shared), files=files, policy=QUICK)
        job = job or Job.lipsync("job-1", folder / "clip.mp4", folder / "speech.wav", folder / "out.mp4")
        outcomes = await rehearsal.run(engine_worker.beside_the_engine, job)
    await files.close()
    result = job.output.read_bytes() if job.output.exists() else b""
    return Acted(rehearsal, outcomes, {"engine": engine, "result": result, "clip": clip})


async def nobody(_: Mapping[str, Any]) -> None:
    """A replay sends nothing: the log has the answers."""
    raise AssertionError("a replay carries no effect out")


SCENES: Mapping[str, tuple[Callable[[], Awaitable[Acted]], Callable[[], Build]]] = {
    "check_the_flow": (act_check_the_flow, lambda: check_the_flow.until_ready),
    "custom_pipeline": (act_custom_pipeline, lambda: custom_pipeline.lively),
    "two_gpus": (act_two_gpus, lambda: two_gpus.fastest_of(A, B)),
    "batch": (act_batch, lambda: batch.batched(3, 600.0)),
    "cost_meter": (act_cost_meter, lambda: cost_meter.metered(3.6)),
    "webhook": (act_webhook, lambda: webhook.with_webhook(nobody)),
    "engine_worker": (act_engine, lambda: engine_worker.beside_the_engine),
}
"""By the example's name: its scene, and the pipeline that its log is replayed with, new each time."""

VIRTUAL = ("check_the_flow", "custom_pipeline", "two_gpus", "batch", "cost_meter")
"""Scenes of fakes alone, which take no time."""


def record() -> None:
    """All logs anew."""
    LOGS.mkdir(exist_ok=True)
    for name, (act, _) in SCENES.items():
        acted = run_virtual(act()) if name in VIRTUAL else asyncio.run(_await(act))
        write(acted.log, LOGS / f"{name}.jsonl")
        sys.stdout.write(f"{name} {[*acted.outcomes.values()]}\n")


async def _await(act: Callable[[], Awaitable[Acted]]) -> Acted:
    return await act()


if __name__ == "__main__":
    record()
