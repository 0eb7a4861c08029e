"""The GPU goes away at each stage of a job, its worker killed by kill -9: the job goes back to submit and finishes."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from tests.support.incidents.proxies import slow_after
from tests.support.incidents.scene import KIB, MIB
from tests.support.programs.machine_scene import EAGER, House, Run, comes_to, died, e, house, is_a, make_job
from wakestream.operators.model.events import JobEvent
from wakestream.streams.protocol import messages as m

pytestmark = [
    pytest.mark.skipif(not Path("/proc").exists(), reason="kills processes by the ids that they note"),
    pytest.mark.usefixtures("working_folder"),
]

VIDEO, AUDIO = 64 * KIB, 32 * KIB
STAGES = {
    "health": is_a(e.Granted),
    "check": is_a(e.Online),
    "upload": is_a(e.Checked),
    "submit": is_a(e.Uploaded),
    "poll": is_a(e.Running, percent=20),
    "download": is_a(e.Rendered),
}


HOLD = Path("engine.log.hold")
"""While it exists, the engine stays at work: however seldom the client looks, it sees the task there."""


async def lost(scene: House, run: Run, running: asyncio.Future[JobEvent], when: Callable[[JobEvent], bool]) -> None:
    """The worker is killed at that event."""
    await comes_to(run.once(when, scene.kill_worker), running)
    if HOLD.exists() and scene.runs():
        await died(scene.runs()[0])  # the killed worker takes its engine along
        HOLD.unlink()


async def test_a_gpu_lost_in_any_stage_sends_the_job_back_to_submit() -> None:
    HOLD.touch()
    async with house() as scene:
        await scene.start_house(boot=0.2, render=0.3)
        async with scene.client(replace(EAGER, lost=0.5, again=replace(EAGER.again, max_delay=0.1))) as client:
            run = Run(client, make_job("job-1", VIDEO, AUDIO))
            running = asyncio.ensure_future(run.outcome())
            for when in STAGES.values():
                await lost(scene, run, running, when)
            assert isinstance(await running, e.Done)
    job = run.job
    assert job.output.read_bytes() == job.inputs["video"].read_bytes() + job.inputs["audio"].read_bytes()
    assert len(run.all(e.Retrying)) == len(STAGES)
    assert len([event for event in run.events if isinstance(event, e.Done | e.Failed | e.TimedOut)]) == 1
    _nothing_sent_twice(run)
    # It was begun again after the loss in it, and after no other one: the result was whole before the next loss.
    assert (len(scene.runs()), len(scene.runs("end"))) == (2, 1)
    _the_hub_told(run)


def _nothing_sent_twice(run: Run) -> None:
    """What the worker has is not sent again: the files are missing until they were uploaded."""
    assert sum(uploaded.sent for uploaded in run.all(e.Uploaded)) == VIDEO + AUDIO
    uploaded = run.events.index(run.all(e.Uploaded)[0])
    for at, event in enumerate(run.events):
        assert not isinstance(event, e.Checked) or bool(event.missing) == (at < uploaded)


def _the_hub_told(run: Run) -> None:
    """Each time that the GPU went, that the job waits for it, that it is started, and that it is back."""
    acks = [at for at, message in enumerate(run.said) if isinstance(message, m.Ack)]
    assert len(acks) == len(run.all(e.Granted)) == len(STAGES) + 1
    waits = [
        [each for each in run.said[begin:end] if isinstance(each, m.Offline)] for begin, end in pairwise((0, *acks))
    ]
    assert all(waits)
    for said, *_ in waits[1:]:
        assert said.phase in ("lost", "booting", "booted", "stopping")
        assert said.eta_s is not None  # by now it knows how long a boot takes
    states = moves(run)
    assert states.count("starting") == len(STAGES) + 1
    assert "failed" not in states


def moves(run: Run) -> list[str]:
    """The machine's states that the client got; a repeated state (the answer to a boot request) is no change."""
    states = [message.state for message in run.said if isinstance(message, m.PowerState)]
    return [state for state, _ in groupby(states)]


async def test_files_uploaded_before_the_gpu_was_lost_are_not_sent_again() -> None:
    async with house() as scene, slow_after(scene, "up", 3 * MIB + 512 * KIB) as proxy:
        await scene.start_house(boot=0.2, render=0.3)

        def lose() -> None:
            scene.kill_worker()
            proxy.heal()

        async with scene.client(EAGER) as client:
            run = Run(client, make_job("job-1", video=2 * MIB, audio=6 * MIB))
            run.once(is_a(e.Uploading, bytes=2 * MIB + 1), lose)
            assert isinstance(await run.outcome(), e.Done)
    first, second = run.all(e.Checked)
    assert [file.path.name for file in first.missing] == ["clip.mp4", "speech.wav"]
    assert [file.path.name for file in second.missing] == ["speech.wav"]
    assert len(scene.runs()) == 1


async def test_after_a_loss_in_the_download_only_the_result_is_fetched() -> None:
    async with house() as scene, slow_after(scene, "down", 2 * MIB) as proxy:
        await scene.start_house(boot=0.2, render=0.3)

        def lose() -> None:
            scene.kill_worker()
            proxy.heal()

        async with scene.client(EAGER) as client:
            run = Run(client, make_job("job-1", video=2 * MIB, audio=30 * MIB))
            run.once(is_a(e.Downloading, bytes=MIB), lose)
            outcome = await run.outcome()
    assert isinstance(outcome, e.Done)
    assert run.job.output.read_bytes() == run.job.inputs["video"].read_bytes() + run.job.inputs["audio"].read_bytes()
    assert run.all(e.Submitted)[-1].cached
    assert len(scene.runs()) == 1


async def test_a_reconnected_worker_continues_the_job_without_a_boot() -> None:
    async with house() as scene:
        HOLD.touch()
        await scene.start_house(boot=0.2, render=0.3, life="again")
        async with scene.client(EAGER) as client:
            run = Run(client, make_job("job-1", VIDEO, AUDIO))
            running = asyncio.ensure_future(run.outcome())
            await lost(scene, run, running, STAGES["poll"])
            assert isinstance(await running, e.Done)
    assert len(scene.runs("end")) == 1
    assert moves(run).count("starting") == 1
