"""Is everything in place? Connect, submit, show which branch was taken, wait for the GPU, report. Nothing is uploaded.

python examples/check_the_flow.py VIDEO AUDIO        (settings as for `wakestream submit`: .env, .license, …)
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import uuid
from pathlib import Path
from typing import Any

import reactivex as rx
from reactivex import Observable

from wakestream.adapters import logs, settings
from wakestream.adapters.cli import words
from wakestream.adapters.client import open_client
from wakestream.operators.errors import WakestreamError
from wakestream.operators.events import Done, Granted, Job, JobEvent
from wakestream.operators.flow.then import then
from wakestream.operators.job.online import online
from wakestream.operators.job.submit import submit
from wakestream.operators.policy import Policy
from wakestream.streams.job import World, guarded


def until_ready(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
    """The first two stages of a job, and no more."""
    return guarded(
        lambda readings: submit(job, world.hub, readings, policy).pipe(
            then(online(world.workers, policy, world.random)), then(lambda _: rx.of(Done(job.video, 0)))
        ),
        job, world, policy, cancel,
    )  # fmt: skip


async def main(video: Path, audio: Path) -> int:
    """Exit code 0 when a job would get its GPU."""
    found = settings.load({})
    logs.configure("ERROR", found.secrets)
    job = Job(f"check-{uuid.uuid4().hex[:8]}", video, audio, Path("unused.mp4"))

    def show(event: JobEvent) -> None:
        if isinstance(event, Granted):
            print(f"branch: {event.branch}, after {words.duration(event.waited)}")
        if not isinstance(event, Done):
            print(words.event(event))

    async with open_client(found, found.policy(Policy(hub=10.0)), build=until_ready) as client:
        outcome = await client.run(job, show)
    print("the flow works" if isinstance(outcome, Done) else "the flow is broken: see above")
    return 0 if isinstance(outcome, Done) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("video", "audio"):
        parser.add_argument(name, type=Path)
    try:
        sys.exit(asyncio.run(main(**vars(parser.parse_args()))))
    except WakestreamError as error:
        sys.exit(f"wakestream: {error}")
