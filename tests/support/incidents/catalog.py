"""The incidents: each runs real programs in the present folder and does one kind of harm to them."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tests.support.incidents.proxies import Harm, slow_after, wire
from tests.support.incidents.scene import BRISK, HERE, KIB, MIB, Scene, make_file, make_job, run_until
from tests.support.postgres import postgres_server
from wakestream.adapters.cli.demo.processes import command_line
from wakestream.operators.model import events as e
from wakestream.operators.model.events import Job, JobEvent

Incident = Callable[[Scene], Awaitable[None]]
JOB = "job-1"


async def boot_failure(scene: Scene) -> None:
    """The machine's program ends at once: every waiting client must be notified."""
    await scene.start_hub()
    program = [sys.executable, "-c", "import sys; print('no CUDA device is to be seen'); sys.exit(3)"]
    await scene.start_monitor("--power", "process", "--program", command_line(program))
    async with scene.client() as client:
        expect(await client.run(make_job(JOB), show), e.Failed)


async def no_capacity(scene: Scene) -> None:
    """The provider has no machine at first, and has one later."""
    await scene.start_hub()
    worker = scene.worker(boot=1.0, render=0.3, leashed=False)
    Path("cloud.json").write_text(json.dumps({"refusals": 1, "worker": worker}))
    cloud = [sys.executable, str(HERE / "cloud.py")]
    calls = (part for call in ("start", "stop", "inspect") for part in (f"--{call}", command_line([*cloud, call])))
    await scene.start_monitor("--power", "command", *calls)
    try:
        async with scene.client() as client:
            expect(await client.run(make_job(JOB), show), e.Done)
    finally:
        if Path("cloud.pid").exists():
            os.kill(int(Path("cloud.pid").read_text()), signal.SIGTERM)


async def hub_restart(scene: Scene) -> None:
    """The hub dies while a job waits, and comes back knowing nothing."""
    await scene.start_house(boot=4.0)

    async def restart() -> None:
        await scene.kill_hub()
        await scene.start_hub()

    async with scene.client() as client:
        booting = lambda event: isinstance(event, e.Waking) and event.phase == "booted"  # noqa: E731
        expect(await run_until(client, make_job(JOB), shown(booting), restart), e.Done)


async def takeover(scene: Scene) -> None:
    """The leader of two hubs dies while one job runs and another waits behind it; the other hub goes on with both."""
    with postgres_server() as server:
        await scene.start_hubs(await asyncio.to_thread(server.database))
        await scene.start_house(boot=1.0, render=2.0)
        async with scene.client() as client:
            first = make_job(JOB)
            other = Job.lipsync("job-2", first.inputs["video"], make_file("speech-2.wav", KIB), Path("out-2.mp4"))
            waiting = asyncio.create_task(client.run(other, show))
            expect(await run_until(client, first, shown(at_the_worker), scene.kill_hub), e.Done)
            expect(await waiting, e.Done)


async def gpu_lost_in_upload(scene: Scene) -> None:
    """The worker is killed in the middle of the second file."""
    async with slow_after(scene, "up", 3 * MIB + 512 * KIB) as proxy:
        await scene.start_house()

        async def lose() -> None:
            await proxy.until(lambda proxy: proxy.passed["up"] > 3 * MIB)
            scene.kill_worker()
            proxy.heal()

        async with scene.client() as client:
            job = make_job(JOB, video=2 * MIB, audio=12 * MIB)
            sending = shown(lambda event: isinstance(event, e.Uploading))
            expect(await run_until(client, job, sending, lose), e.Done)


async def gpu_lost_in_poll(scene: Scene) -> None:
    """The worker is killed in the middle of the synthesis, and its machine is gone with it."""
    await scene.start_house(render=2.0)
    async with scene.client() as client:
        expect(await run_until(client, make_job(JOB), shown(half_done), at_once(scene.kill_worker)), e.Done)


async def worker_restart(scene: Scene) -> None:
    """The worker is killed in the middle of the synthesis; its machine starts it again at once."""
    await scene.start_house(boot=0.2, render=2.0, life="again")
    async with scene.client() as client:
        expect(await run_until(client, make_job(JOB), shown(half_done), at_once(scene.kill_worker)), e.Done)


async def duplicate_frames(scene: Scene) -> None:
    """Every frame comes twice, in both directions."""
    await _through(scene, "twice")


async def reordered_frames(scene: Scene) -> None:
    """Frames of the hub that follow each other closely come in the reverse order."""
    await _through(scene, "reversed")


async def _through(scene: Scene, harm: Harm) -> None:
    await scene.start_house()
    async with wire(scene.hub_url, harm) as address, scene.client(hub_url=address) as client:
        expect(await client.run(make_job(JOB), show), e.Done)


async def torn_log(scene: Scene) -> None:
    """The disk takes no more of the log in the middle of a line; the job itself goes on."""
    await scene.start_house(boot=3.0)
    job = make_job(JOB)
    quick = ("--line-every", "1", "--poll-every", "0.2", "--health-every", "0.2")
    files = (str(job.inputs["video"]), str(job.inputs["audio"]), "-o", str(job.output))
    await scene.submit(*files, "--job-id", JOB, *quick, limit=6000)


async def many_jobs(scene: Scene) -> None:
    """200 jobs wait for one machine, and all are woken by one broadcast."""
    await scene.start_house(boot=4.0, render=0.0)
    video = make_file("clip.mp4", 2 * KIB)
    sounds = [make_file(f"speech-{number}.wav", KIB) for number in range(20)]
    jobs = [Job.lipsync(f"job-{n:03}", video, sounds[n % 20], Path(f"out-{n:03}.mp4")) for n in range(200)]
    async with scene.client(replace(BRISK, poll_every=1.0, line_every=10.0)) as client:
        outcomes = await asyncio.gather(*(client.run(job, lambda _: None) for job in jobs))
    for outcome in outcomes:
        expect(outcome, e.Done)


async def cancel_in_wait(scene: Scene) -> None:
    """Cancelled while the machine boots."""
    await scene.start_house(boot=30.0)
    await _cancelled(scene, make_job(JOB), lambda event: isinstance(event, e.Waking) and event.phase == "booted")


async def cancel_in_upload(scene: Scene) -> None:
    """Cancelled in the middle of the second file."""
    async with slow_after(scene, "up", 3 * MIB + 512 * KIB):
        await scene.start_house()
        job = make_job(JOB, video=2 * MIB, audio=12 * MIB)
        await _cancelled(scene, job, lambda event: isinstance(event, e.Uploading) and event.bytes > 2 * MIB)


async def cancel_in_render(scene: Scene) -> None:
    """Cancelled in the middle of the synthesis."""
    await scene.start_house(render=20.0)
    await _cancelled(scene, make_job(JOB), lambda event: isinstance(event, e.Running) and event.percent >= 10)


async def cancel_in_download(scene: Scene) -> None:
    """Cancelled in the middle of the result."""
    async with slow_after(scene, "down", 2 * MIB) as proxy:
        await scene.start_house()
        job = make_job(JOB, video=2 * MIB, audio=6 * MIB)
        got = lambda event: isinstance(event, e.Downloading) and event.bytes > MIB  # noqa: E731
        await _cancelled(scene, job, got, once=proxy.heal)


async def _cancelled(
    scene: Scene, job: Job, when: Callable[[JobEvent], bool], once: Callable[[], object] = lambda: None
) -> None:
    async with scene.client() as client:

        def cancel() -> None:
            client.cancel(job.id)
            once()

        expect(await run_until(client, job, shown(when), at_once(cancel)), e.Cancelled)


def at_the_worker(event: JobEvent) -> bool:
    """The task is there, running or behind another one."""
    return isinstance(event, e.Submitted)


def half_done(event: JobEvent) -> bool:
    """The synthesis has made progress."""
    return isinstance(event, e.Running) and event.percent >= 40


def at_once(harm: Callable[[], object]) -> Callable[[], Awaitable[None]]:
    """Harm that takes no time."""

    async def do() -> None:
        harm()

    return do


def show(event: JobEvent) -> None:
    """Print one event."""
    say(f"   {str(event)[:150]}")


def say(line: str) -> None:
    """Print one line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def shown(when: Callable[[JobEvent], bool]) -> Callable[[JobEvent], bool]:
    """`when`, with each event shown."""

    def look(event: JobEvent) -> bool:
        show(event)
        return when(event)

    return look


def expect(outcome: JobEvent, kind: type[JobEvent]) -> None:
    """The incident came out as it must, or there is nothing to keep."""
    if not isinstance(outcome, kind):
        raise AssertionError(f"{kind.__name__} was expected, not {outcome}")  # noqa: TRY004 - the incident went wrong, not a type


INCIDENTS: Mapping[str, Incident] = {
    incident.__name__: incident
    for incident in (
        boot_failure, no_capacity, hub_restart, takeover, gpu_lost_in_upload, gpu_lost_in_poll, worker_restart,
        duplicate_frames, reordered_frames, torn_log, many_jobs, cancel_in_wait, cancel_in_upload, cancel_in_render,
        cancel_in_download,
    )
}  # fmt: skip
