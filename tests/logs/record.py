"""Records the logs of this folder anew, from real runs: python tests/logs/record.py

The offline branch (a job finds the GPU off and wakes it), then the online branch (a second job finds it on).
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import tempfile
from pathlib import Path

from wakestream.adapters.client import open_client
from wakestream.adapters.demo import house
from wakestream.adapters.engines.samples import make_speech, make_video
from wakestream.operators.events import Job
from wakestream.operators.policy import Policy

HERE = Path(__file__).parent


async def record() -> None:
    """Both branches into files of this folder."""
    await make_video(Path("clip.mp4"), 2)
    await make_speech(Path("speech.wav"), 3)
    await make_speech(Path("speech-2.wav"), 2, pitch=190)
    async with house(Path.cwd(), lambda _, line: print(line), boot_seconds=2, idle_after=60) as running:
        for branch, audio in (("offline", "speech.wav"), ("online", "speech-2.wav")):
            settings = dataclasses.replace(running.settings, record=Path(branch))
            job = Job(f"job-{branch}", Path("clip.mp4"), Path(audio), Path(f"{branch}.mp4"))
            async with open_client(settings, Policy(poll_every=0.2)) as client:
                print(await client.run(job, print))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        asyncio.run(record())
        for name in ("offline", "online"):
            (recorded,) = Path(name).glob("*.jsonl")
            recorded.replace(HERE / f"{name}.jsonl")
        os.chdir(HERE)
