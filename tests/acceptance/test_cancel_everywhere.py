"""A cancel in each phase and at each place: a program that was away gets it later, and no engine keeps working."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.incidents.scene import KIB, make_file
from tests.support.programs.machine_scene import (
    EAGER,
    WITHIN,
    House,
    Run,
    a_moment,
    comes_to,
    died,
    e,
    house,
    is_a,
    make_job,
)
from wakestream.operators.model.events import Job
from wakestream.operators.model.ports import LinkUp
from wakestream.streams.protocol import messages as m

pytestmark = [
    pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes by the ids that they note"),
    pytest.mark.usefixtures("working_folder"),
]

rendering = is_a(e.Running, percent=10)


def second_job() -> Job:
    """A job with files of its own, so that it is another task."""
    return Job.lipsync("job-2", make_file("clip-2.mp4", KIB), make_file("speech-2.wav", KIB), Path("out-2.mp4"))


async def nobody_holds_it(scene: House) -> m.HubStatus:
    """The hub's answer, in which there is no job any more."""
    async with asyncio.timeout(WITHIN):
        while True:
            answer = await scene.hub_says()
            if not answer.queue and not any(gpu["own"] or gpu["others"] for gpu in answer.gpus):
                return answer


async def hears(run: Run, wanted: type[Any]) -> None:
    """Returns when the client's link says so, from now on."""
    heard = asyncio.Event()
    subscription = run.client.link.events.subscribe(
        lambda event: heard.set() if isinstance(event, wanted) else None,
    )
    async with asyncio.timeout(WITHIN):
        await heard.wait()
    subscription.dispose()


async def test_a_cancel_during_a_hub_outage_reaches_the_restarted_hub() -> None:
    async with house() as scene:
        await scene.start_house(boot=30.0)
        async with scene.client(EAGER) as client:
            run = Run(client, make_job("job-1"))
            waking = run.once(lambda event: isinstance(event, e.Waking) and event.phase == "booted", lambda: None)
            running = run.start()
            await comes_to(waking, running)
            await scene.kill_hub()
            client.cancel("job-1")
            assert isinstance(await running, e.Cancelled)
            await scene.start_hub()
            await nobody_holds_it(scene)
    assert not scene.runs()


async def test_a_cancel_during_a_hub_outage_ends_the_engine_first_and_the_lease_later() -> None:
    async with house() as scene:
        await scene.start_house(boot=0.2, render=60.0)
        async with scene.client(EAGER) as client:
            run = Run(client, make_job("job-1"))
            under_way = run.once(is_a(e.Running, percent=0), lambda: None)
            running = run.start()
            await comes_to(under_way, running)
            (engine,) = await begun(scene, 1)
            await scene.kill_hub()
            client.cancel("job-1")
            assert isinstance(await running, e.Cancelled)
            await died(engine)
            await scene.start_hub()
            await nobody_holds_it(scene)
    assert not scene.runs("end")


async def begun(scene: House, count: int) -> list[int]:
    """The engine's runs, as soon as there are so many."""
    async with asyncio.timeout(WITHIN):
        while len(scene.runs()) < count:
            await a_moment()
    return scene.runs()


async def test_a_granted_job_can_be_cancelled_after_a_hub_restart() -> None:
    async with house() as scene:
        await scene.start_house(boot=0.2, render=60.0)
        async with scene.client(EAGER) as client:
            run = Run(client, make_job("job-1"))
            running = run.start()
            (engine,) = await begun(scene, 1)
            await scene.kill_hub()
            await scene.start_hub()
            await hears(run, LinkUp)
            client.cancel("job-1")
            assert isinstance(await running, e.Cancelled)
            await died(engine)
            await nobody_holds_it(scene)
    assert not scene.runs("end")


async def test_a_restarted_worker_does_not_run_a_cancelled_job() -> None:
    async with house() as scene:
        hold = Path("engine.log.hold")
        hold.touch()  # however seldom the client looks, it sees the task at work
        await scene.start_house(boot=0.2, render=0.2)
        async with scene.client(EAGER) as client:
            run = Run(client, make_job("job-1"))
            lost = run.once(rendering, scene.kill_worker)
            running = run.start()
            await comes_to(lost, running)
            client.cancel("job-1")
            assert isinstance(await running, e.Cancelled)
            events = len(run.events)
            await died(scene.runs()[0])  # the killed worker takes its engine along
            hold.unlink()
            other = Run(client, second_job())
            assert isinstance(await other.outcome(), e.Done)
            await nobody_holds_it(scene)
    assert len(scene.runs("end")) == 1
    assert len(run.events) == events, "nothing comes after the end"
    assert not run.job.output.exists()


async def test_a_cancel_of_a_queued_task_leaves_the_running_task() -> None:
    async with house() as scene:
        hold = Path("engine.log.hold")
        hold.touch()  # the first task is at work until the second one is cancelled
        await scene.start_house(boot=0.2, render=0.2)
        async with scene.client(EAGER) as client:
            first, second = Run(client, make_job("job-1")), Run(client, second_job())
            running = first.start()
            await begun(scene, 1)
            queued = is_a(e.Running, status="queued")
            second.once(queued, lambda: client.cancel("job-2"))  # from within its own event
            assert isinstance(await second.outcome(), e.Cancelled)
            hold.unlink()
            async with asyncio.timeout(WITHIN):
                assert isinstance(await running, e.Done)
            await nobody_holds_it(scene)
    assert len(scene.runs()) == 1


async def test_a_cancel_during_the_render_leaves_no_child_process() -> None:
    async with house() as scene:
        await scene.start_house(boot=0.2, render=60.0)
        async with scene.client(EAGER) as client:
            run = Run(client, make_job("job-1"))
            running = run.start()
            await begun(scene, 1)
            client.cancel("job-1")
            assert isinstance(await running, e.Cancelled)
            for engine in scene.runs():
                await died(engine)
            await nobody_holds_it(scene)
            worker = int(Path("worker.pid").read_text())
            async with asyncio.timeout(WITHIN):
                while children(worker):
                    await a_moment()


def children(pid: int) -> str:
    """The ids of a process's children."""
    found = ""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # that thread has just ended
            found += path.read_text()
    return found.strip()
