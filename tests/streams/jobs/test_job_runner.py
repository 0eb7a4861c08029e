"""The client's program: jobs side by side, each known by its id."""

import asyncio
from random import Random
from typing import Any

from tests.support.streams.job_scene import URL, Scene, offline
from wakestream.adapters.testing.fakes import FakeWorkers
from wakestream.operators.model import events as e
from wakestream.operators.model.policy import Policy
from wakestream.operators.rx.to_future import to_future
from wakestream.streams.jobs.job_runner import Daemon
from wakestream.streams.jobs.world import World
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import MemoryTap


def daemon_of(scene: Scene, tap: MemoryTap) -> Daemon:
    world = World(scene.hub, FakeWorkers({URL: scene.worker}, URL), scene.files, Random(7))
    return Daemon(lambda _: world, Policy(), tap=tap)


async def test_a_job_of_an_id_that_is_running_is_refused_and_the_running_one_comes_home() -> None:
    scene, tap = Scene(offline), MemoryTap(asyncio.get_running_loop().time)
    scene.connect()
    scene.at(60, scene.link.receive, m.Ack(request_id="job-1", gpu="a", url=URL))
    daemon = daemon_of(scene, tap)
    first, second = (daemon.events(scene.job).pipe(to_future(scene.scheduler)) for _ in range(2))
    refused = await second
    assert isinstance(refused, e.Failed)
    assert (refused.code, "job-1 is already running" in refused.why) == ("already_running", True)
    assert (scene.link.said(m.JobDone), scene.link.said(m.Cancel)) == ([], [])
    assert isinstance(await first, e.Done)
    assert [row.label for row in tap.rows].count("job.accept") == 1, "nothing of the second is on the record"
    await scene.scheduler.close()


async def test_an_id_is_free_again_after_the_end_of_its_job_also_when_it_was_cancelled_or_let_go_of() -> None:
    scene, tap = Scene(offline), MemoryTap(asyncio.get_running_loop().time)
    scene.connect()
    daemon = daemon_of(scene, tap)
    cancelled = daemon.events(scene.job).pipe(to_future(scene.scheduler))
    assert daemon.cancel("job-1")
    assert await cancelled == e.Cancelled()
    assert not daemon.cancel("job-1")
    heard = list[Any]()
    daemon.events(scene.job).subscribe(heard.append, scheduler=scene.scheduler).dispose()
    scene.at(60, scene.link.receive, m.Ack(request_id="job-1", gpu="a", url=URL))
    assert isinstance(await daemon.events(scene.job).pipe(to_future(scene.scheduler)), e.Done)
    await scene.scheduler.close()
