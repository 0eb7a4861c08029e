"""`wakestream demo`: everything on this machine, once with the GPU off and once with it on, then the idle stop."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from wakestream.adapters.cli import exit_codes, flags
from wakestream.adapters.cli.at_daemon import exit_code, job_events
from wakestream.adapters.cli.demo.output import DemoOutput
from wakestream.adapters.cli.demo.processes import DemoBroken, House, house
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.service import Stop, run_program, unless_stopped
from wakestream.adapters.client.client import Client, open_client
from wakestream.adapters.daemon.api_client import open_daemon_client
from wakestream.adapters.daemon.console.sessions import address, in_browser
from wakestream.adapters.disk.fingerprints import check_named, check_readable, check_writable
from wakestream.adapters.engines.samples import make_speech, make_video
from wakestream.adapters.runtime.tasks import first_of, tasks_of_block
from wakestream.adapters.telemetry import logs
from wakestream.operators.model.events import Job, JobEvent
from wakestream.operators.model.policy import Policy
from wakestream.streams.protocol import messages as m

EXAMPLES = (
    "demo",
    "demo --open --speed 2",
    "demo --video clip.mp4 --audio speech.wav -o talking.mp4",
    "demo --record night",
)

IDLE_AFTER = 4.0
"""Seconds after the last job at which the demo's GPU is put back to sleep."""

FASTEST = 20.0
"""The most by which `--speed` shortens the waits."""

ASK_EVERY = 0.1
POLICY = Policy(poll_every=0.5)

RunJob = Callable[[Job, Callable[[JobEvent], None]], Awaitable[JobEvent]]
"""Runs a job to its end and shows its events."""

PATIENCE = 60.0
"""Seconds within which the GPU must be asleep, before the first job and after the last."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    flags.add(parser, "--video FILE", "a video file (default: one is made)", type=Path)
    flags.add(parser, "--audio FILE", "an audio file (default: one is made)", type=Path)
    text = "the first result (default %(default)s)"
    flags.add(parser, "-o --output OUT", text, type=Path, default=Path("wakestream-demo.mp4"))
    text = "warm-up time of the GPU (default 6)"
    flags.add(
        parser, "--boot-seconds S", text, type=flags.number(600, "is no number of seconds from 0 to 600"), default=6.0
    )
    flags.add(parser, "--open", "show it in the web console, in a browser, until Ctrl-C")
    speed = flags.number(FASTEST, f"is no number from 1 to {FASTEST:g}", least=1.0)
    text = "divide warm-up and idle time by this (default 1)"
    flags.add(parser, "--speed N", text, type=speed, default=1.0)
    flags.add(parser, "--record DIR", "record every program's messages into this folder", type=Path)


def run(args: argparse.Namespace) -> int:
    """Run it; ends with a table and the next steps."""
    given = [path for path in (args.video, args.audio) if path is not None]
    for path in given:
        check_readable(path)
        check_named(path)
    for output in _outputs(args):
        check_writable(output, keep=given)
    logs.configure(getattr(args, "log_level", "WARNING"))
    # On Windows its files stay in use for a moment after their programs' end, which is no reason to fail.
    with (
        tempfile.TemporaryDirectory(prefix="wakestream-demo-", ignore_cleanup_errors=True) as folder,
        DemoOutput(quiet=flags.is_quiet(args)) as show,
    ):
        demo = _demo if not args.open else _demo_on_page
        return run_program(lambda stop: demo(args, Path(folder), show, stop))


async def _demo(args: argparse.Namespace, folder: Path, show: DemoOutput, stop: Stop) -> int:
    async def work() -> int:
        jobs = await _jobs(args, folder, show)
        async with _house(args, folder, show) as running, open_client(running.settings, POLICY) as client:
            return await _unless_broken(
                running.programs.broken, _jobs_and_sleep(client, running, jobs, show, client.run)
            )

    status = await unless_stopped(stop, work())
    if status == exit_codes.DONE:
        show.table()
        show.next_steps(opened=False)
    return status


async def _demo_on_page(args: argparse.Namespace, folder: Path, show: DemoOutput, stop: Stop) -> int:
    """The same with a daemon, whose console shows it; the programs run on until the user stops the demo."""
    state = folder / "daemon"
    record = () if args.record is None else ("--record", str(args.record.resolve()))
    jobs = await _jobs(args, folder, show)
    async with (
        _house(args, folder, show) as running,
        open_client(running.settings, POLICY) as client,
        open_daemon_client(state) as daemon,
    ):
        await running.start_daemon(("--state", str(state), *record))
        await daemon.needed()
        link = address(daemon.url, (await daemon.call("POST", "/console/links"))["code"])
        opened = await asyncio.to_thread(in_browser, daemon.state, link)
        show.say("demo", t("demo.page") if opened else t("demo.page_here", url=link))

        async def run_there(job: Job, event: Callable[[JobEvent], None]) -> JobEvent:
            await daemon.submit(job)
            async for happened, _ in job_events(daemon, job.id):
                event(happened)
            return happened

        work = _jobs_and_sleep(client, running, jobs, show, run_there)
        status = await unless_stopped(stop, _unless_broken(running.programs.broken, work))
        if status == exit_codes.DONE:
            show.table()
            show.next_steps(opened=True)
            show.say("demo", t("demo.stays"))
            await _unless_broken(running.programs.broken, stop.wait())
    return status


def _house(args: argparse.Namespace, folder: Path, show: DemoOutput) -> AbstractAsyncContextManager[House]:
    show.say("demo", t("demo.starts"))
    boot, idle = args.boot_seconds / args.speed, IDLE_AFTER / args.speed
    return house(folder, show.say, boot_seconds=boot, idle_after=idle, record=args.record)


async def _unless_broken(broken: asyncio.Future[None], work: Coroutine[Any, Any, int]) -> int:
    """Do the work; `DemoBroken` as soon as a program of the demo has ended."""
    async with tasks_of_block() as start:
        task = start(work)
        await first_of(task, broken)
        if broken.done():
            broken.result()
        return task.result()


async def _jobs_and_sleep(client: Client, running: House, jobs: tuple[Job, Job], show: DemoOutput, run: RunJob) -> int:
    await _gpu_is(client, "stopped")
    show.say("demo", t("demo.off"))
    for number, job in enumerate(jobs, 1):
        show.begin(number, job)
        status = exit_code(await run(job, show.event))
        if status != exit_codes.DONE:
            return status
    show.say("demo", t("demo.idle", time=f"{running.idle_after:g}"))
    await _gpu_is(client, "stopped")
    show.asleep()
    return exit_codes.DONE


async def _jobs(args: argparse.Namespace, folder: Path, show: DemoOutput) -> tuple[Job, Job]:
    """The same video twice; with samples, each time with other words."""
    video, audio, second = args.video, args.audio, args.audio
    if video is None:
        show.say("demo", t("demo.samples"))
        video = folder / "clip.mp4"
        await make_video(video, 8, size="1280x720")
    if audio is None:
        audio, second = folder / "speech.wav", folder / "speech-2.wav"
        await make_speech(audio, 20)
        await make_speech(second, 12, pitch=190, phase=1.0)
    first, other = _outputs(args)
    return Job.lipsync("demo-job-1", video, audio, first), Job.lipsync("demo-job-2", video, second, other)


def _outputs(args: argparse.Namespace) -> tuple[Path, Path]:
    """Where the two results go."""
    output: Path = args.output
    return output, output.parent / f"{output.stem}-2{output.suffix}"


async def _gpu_is(client: Client, wanted: str) -> None:
    """Ask the monitor for the GPU's state, through the hub, until it is as wanted."""
    said: asyncio.Queue[m.StatusResponse] = asyncio.Queue()
    heard = client.link.events.subscribe(
        lambda event: said.put_nowait(event) if isinstance(event, m.StatusResponse) else None
    )
    try:
        async with asyncio.timeout(PATIENCE):
            for number in itertools.count():
                asked = client.link.send(m.StatusQuery(request_id=f"demo-status-{number}"))
                answer = await said.get() if asked else None
                if answer is not None and answer.source == "gpu_monitor" and answer.status == wanted:
                    return
                await asyncio.sleep(ASK_EVERY)
    except TimeoutError:
        raise DemoBroken(f"the monitor of the demo did not say {wanted!r} within {PATIENCE:g} s") from None
    finally:
        heard.dispose()
