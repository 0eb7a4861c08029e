"""Every fault of a wire, on every way between two programs: nothing hangs, nothing is lost, the message helps."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.faults.case_counts import some
from tests.support.faults.programs_in_one_loop import (
    POLICY,
    WAYS,
    Between,
    Fault,
    between,
    bounded,
    hurry,
    until,
    whole,
)
from wakestream.operators.model.events import Done, Downloading, Failed, Granted, Job, Queued, Running, Uploading

MILD = {
    "latency": Fault(latency=0.02, jitter=0.02),
    "narrow": Fault(rate=60_000),
    "sliced": Fault(slice=1),
}
"""What a job has to bear for as long as it lasts."""

SILENT = [(fault, up) for fault in ("half_open", "black_hole") for up in (True, False)]
HARD = {"half_open": Fault(swallow=True), "black_hole": Fault(stall=True)}
"""What leaves a connection standing on which nothing comes, and in which direction."""


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Between]:
    async with between(tmp_path) as running:
        yield running


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Between]:
    """The engine renders until it is let go."""
    async with between(tmp_path, held=True) as running:
        yield running


async def ends_well(running: asyncio.Future[object], job: Job) -> None:
    outcome = await running
    assert isinstance(outcome, Done), outcome
    assert whole(job)


async def done(scene: Between, running: asyncio.Future[object]) -> None:
    """The running job ends well, its GPU is free again, and it was rendered once."""
    await ends_well(running, scene.job())
    await until(lambda: scene.settled)
    assert scene.machine.starts == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", MILD)
@bounded
async def test_an_unreliable_connection_costs_only_time(scene: Between, way: str, fault: str) -> None:
    scene.ways[way].set(MILD[fault], MILD[fault])
    await done(scene, asyncio.ensure_future(scene.run(scene.job())))


# --- between client and hub


@pytest.mark.parametrize(("fault", "up"), some(SILENT, 1))
@bounded
async def test_a_client_reconnects_to_a_hub_that_stops_answering(scene: Between, up: bool, fault: str) -> None:
    scene.ways["monitor-hub"].set(up=Fault(swallow=True))  # nothing wakes the GPU meanwhile
    running = asyncio.ensure_future(scene.run(scene.job()))
    await scene.seen(Queued)
    way = scene.ways["client-hub"]
    made = way.accepted
    way.set(**{"up" if up else "down": HARD[fault]})
    await way.until(lambda proxy: proxy.accepted > made)
    for proxy in scene.ways.values():
        proxy.heal()
    await done(scene, running)


@pytest.mark.parametrize(("way", "when"), [("client-hub", Queued), ("client-hub", Running), ("worker-hub", Running)])
@bounded
async def test_connections_to_the_hub_that_are_reset_again_and_again_keep_the_job(
    held: Between, way: str, when: type[Queued | Running]
) -> None:
    running = asyncio.ensure_future(held.run(held.job()))
    await held.seen(when)
    for _ in range(3):
        await held.ways[way].until(lambda proxy: proxy.open > 0)
        held.ways[way].break_all()
    held.engine.go_on.set()
    await done(held, running)


@pytest.mark.parametrize("after", some([1, 60, 300, 700], 2))
@bounded
async def test_a_handshake_or_registration_that_is_cut_is_made_again(scene: Between, after: int) -> None:
    way = scene.ways["client-hub"]
    way.set(down=Fault(cut_after=after))
    way.break_all()
    made = way.accepted
    running = asyncio.ensure_future(scene.run(scene.job()))
    await way.until(lambda proxy: proxy.accepted > made + 2)
    way.heal()
    way.break_all()
    await done(scene, running)


@pytest.mark.parametrize("fault", ["refuse", "stall"])
@bounded
async def test_a_hub_that_cannot_be_reached_is_named_with_the_reason(tmp_path: Path, fault: str) -> None:
    async with between(tmp_path, policy=replace(POLICY, hub=0.5)) as scene:
        way = scene.ways["client-hub"]
        way.refuse() if fault == "refuse" else way.set(Fault(stall=True), Fault(stall=True))
        way.break_all()
        await until(lambda: not scene.client.link.up)
        # A client that was connected once waits on; one that comes now has never reached the hub.
        outcome = await scene.run(scene.job())
    assert isinstance(outcome, Failed), outcome
    assert outcome.code == "hub_unreachable"
    assert "hub ws://127.0.0.1" in outcome.why


# --- between worker and hub, monitor and hub


@pytest.mark.parametrize(("fault", "up"), some(SILENT, 1))
@bounded
async def test_a_worker_keeps_its_task_when_the_hub_stops_answering(held: Between, up: bool, fault: str) -> None:
    running = asyncio.ensure_future(held.run(held.job()))
    await held.seen(Running)
    way = held.ways["worker-hub"]
    made = way.accepted
    way.set(**{"up" if up else "down": HARD[fault]})
    await way.until(lambda proxy: proxy.accepted > made)
    way.heal()
    held.engine.go_on.set()
    await done(held, running)


@pytest.mark.parametrize("how", ["reset", "half_open", "refused"])
@bounded
async def test_a_wake_that_the_monitor_missed_is_repeated(scene: Between, how: str) -> None:
    way = scene.ways["monitor-hub"]
    await until(lambda: bool(scene.hub.state.monitors))
    if how == "half_open":
        way.set(down=Fault(swallow=True))
    elif how == "refused":
        way.refuse()
        way.break_all()
        await until(lambda: not scene.hub.state.monitors)
    running = asyncio.ensure_future(scene.run(scene.job()))
    await scene.seen(Queued)
    if how == "reset":
        way.break_all()
    made = way.accepted
    if how == "half_open":
        await way.until(lambda proxy: proxy.accepted > made)
    way.heal()
    await done(scene, running)


@pytest.mark.parametrize("up", some([True, False], 1))
@bounded
async def test_a_leased_gpu_is_not_stopped_while_the_monitor_is_disconnected(tmp_path: Path, up: bool) -> None:
    async with between(tmp_path, held=True, idle_after=0.3) as scene:
        running = asyncio.ensure_future(scene.run(scene.job()))
        await scene.seen(Running)
        way = scene.ways["monitor-hub"]
        made = way.accepted
        way.set(**{"up" if up else "down": Fault(swallow=True)})
        await way.until(lambda proxy: proxy.accepted > made + 2)
        assert scene.machine.stops == 0
        way.heal()
        await until(lambda: scene.monitor.machine.link.features is not None)
        assert scene.machine.stops == 0
        scene.engine.go_on.set()
        outcome = await running
        assert isinstance(outcome, Done), outcome
        await until(lambda: scene.machine.stops == 1)


# --- between monitor and worker


@pytest.mark.parametrize("fault", some(["refuse", "half_open", "black_hole"], 2))
@bounded
async def test_a_leased_gpu_with_an_unreachable_worker_is_not_stopped(tmp_path: Path, fault: str) -> None:
    async with between(tmp_path, held=True, boot_timeout=2.0) as scene:
        running = asyncio.ensure_future(scene.run(scene.job()))
        await scene.seen(Running)
        await until(lambda: scene.monitor.machine.state == "online")
        way = scene.ways["monitor-worker"]
        way.refuse() if fault == "refuse" else way.set(up=HARD[fault])
        way.break_all()
        await until(lambda: scene.monitor.entered["failed"] > 0)
        await until(
            lambda: scene.monitor.machine.use.active == 1
        )  # it would stop it, and the hub has said who holds it
        assert scene.machine.stops == 0
        way.heal()
        await until(lambda: scene.monitor.machine.state == "online")
        scene.engine.go_on.set()
        await done(scene, running)
        assert scene.machine.stops == 0


# --- between client and worker


LARGE = 400_000


@pytest.mark.parametrize(("after", "reset"), some([(n, r) for n in (10, 300, 100_000, 399_000) for r in (0, 1)], 3))
@bounded
async def test_an_upload_that_is_cut_is_finished(scene: Between, after: int, reset: int) -> None:
    way = scene.ways["client-worker"]
    way.set(up=Fault(cut_after=after, reset=bool(reset)))
    job = scene.job(size=LARGE)
    running = asyncio.ensure_future(scene.run(job))
    await way.until(lambda proxy: proxy.accepted >= 2)
    way.heal()
    way.break_all()
    await ends_well(running, job)


@pytest.mark.parametrize(("kind", "fault", "up"), some([(k, *s) for k in (Uploading, Downloading) for s in SILENT], 2))
@bounded
async def test_a_stalled_transfer_is_detected_and_restarted(scene: Between, kind: type, fault: str, up: bool) -> None:
    way = scene.ways["client-worker"]
    way.set(Fault(rate=800_000), Fault(rate=800_000))
    job = scene.job(size=LARGE)
    running = asyncio.ensure_future(scene.run(job))
    await scene.seen(kind)
    made = way.accepted
    way.set(**{"up" if up else "down": HARD[fault]})
    if not running.done():
        waiting = asyncio.ensure_future(way.until(lambda proxy: proxy.accepted > made))
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    way.heal()
    await ends_well(running, job)


@bounded
async def test_a_result_that_is_cut_is_fetched_again_and_never_stands_half(scene: Between) -> None:
    way = scene.ways["client-worker"]
    job = scene.job(size=LARGE)
    running = asyncio.ensure_future(scene.run(job))
    await scene.seen(Running)
    way.set(down=Fault(cut_after=50_000))
    made = way.accepted
    await way.until(lambda proxy: proxy.accepted > made + 1)
    assert not job.output.exists()
    way.heal()
    await ends_well(running, job)


@bounded
async def test_an_unreachable_worker_is_reported(tmp_path: Path) -> None:
    quick = replace(POLICY, lost=0.5, again=replace(POLICY.again, max_retries=1))
    async with between(tmp_path, policy=quick) as scene:
        scene.ways["client-worker"].refuse()
        running = asyncio.ensure_future(scene.run(scene.job()))
        await scene.seen(Granted)
        outcome = await running
        assert isinstance(outcome, Failed), outcome
        assert outcome.code == "worker_unreachable"
        assert scene.ways["client-worker"].url() in outcome.why
        await until(lambda: scene.settled)
