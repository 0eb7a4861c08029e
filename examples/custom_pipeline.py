"""A pipeline of your own: a livelier poll, and a last step that files the result away with a note beside it.

python examples/custom_pipeline.py VIDEO AUDIO FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from reactivex import Observable

from wakestream.adapters import logs, settings
from wakestream.adapters.client import open_client
from wakestream.operators.errors import WakestreamError
from wakestream.operators.events import Done, Job, JobEvent
from wakestream.operators.flow.from_async import from_async
from wakestream.operators.flow.then import then
from wakestream.operators.job.dedupe import dedupe
from wakestream.operators.job.download import download
from wakestream.operators.job.follow import follow
from wakestream.operators.job.online import online
from wakestream.operators.job.submit import submit
from wakestream.operators.job.synthesize import synthesize
from wakestream.operators.job.upload import upload
from wakestream.operators.policy import Policy
from wakestream.streams.job import World, guarded


def lively(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
    """The standard stages with another poll and one more stage at the end."""
    workers, random, quick = world.workers, world.random, replace(policy, poll_every=0.2)
    return guarded(
        lambda readings: submit(job, world.hub, readings, policy)
        .pipe(then(online(workers, policy, random)), then(dedupe(workers, readings, policy, random)))
        .pipe(then(upload(workers, policy, random)), then(synthesize(job, workers, policy, random)))
        .pipe(then(follow(workers, quick, random)), then(download(job.output, workers, policy, random)))
        .pipe(then(lambda done: from_async(lambda: noted(job, done)))),
        job, world, policy, cancel,
    )  # fmt: skip


async def noted(job: Job, done: Done) -> Done:
    """Leave a note beside the result; the pipeline's last step."""
    note = {"video": str(job.video), "audio": str(job.audio), "bytes": done.size}
    done.path.with_suffix(".json").write_text(json.dumps(note, indent=2))
    return done


async def main(video: Path, audio: Path, folder: Path) -> int:
    """Run one job through it."""
    found = settings.load({})
    logs.configure("ERROR", found.secrets)
    job = Job(f"lively-{uuid.uuid4().hex[:8]}", video, audio, folder / f"{video.stem}.mp4")
    async with open_client(found, found.policy(Policy(hub=10.0)), build=lively) as client:
        outcome = await client.run(job, print)
    return 0 if isinstance(outcome, Done) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("video", "audio", "folder"):
        parser.add_argument(name, type=Path)
    try:
        sys.exit(asyncio.run(main(**vars(parser.parse_args()))))
    except WakestreamError as error:
        sys.exit(f"wakestream: {error}")
