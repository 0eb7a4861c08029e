"""Records the logs of this folder again, from real runs: python tests/logs/record.py [INCIDENT…]

Each incident runs real programs on loopback in a folder of its own; what client, hub and monitor recorded is kept in
`<incident>/{daemon,hub,monitor}.jsonl` (`hub-2` is the hub's second life). The client's logs of the two branches, a job
that finds the machine off and one that finds it on, are `offline.jsonl` and `online.jsonl`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.incidents.catalog import INCIDENTS, Incident, expect, say, show
from tests.support.incidents.scene import KIB, RECORD, Scene, make_file, make_job, scene
from wakestream.adapters.cli.demo.processes import house
from wakestream.adapters.client.client import open_client
from wakestream.adapters.engines.samples import make_speech, make_video
from wakestream.operators.model.events import Done, Job
from wakestream.operators.model.policy import Policy
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import read_log

HERE = Path(__file__).parent

LARGE = 200_000
"""Bytes from which on a log is kept compressed."""

PROGRAMS = ("daemon", "hub", "monitor")


async def branches(scene: Scene) -> None:
    """Both branches: a job that has to wake the machine, then one that finds it on. With the demo's programs."""
    await make_video(Path("clip.mp4"), 2)
    await make_speech(Path("speech.wav"), 3)
    await make_speech(Path("speech-2.wav"), 2, pitch=190)
    here = Path.cwd()
    async with house(here, lambda _, line: say(line), boot_seconds=2, idle_after=60, record=RECORD) as running:
        scene.secrets += [str(running.settings.needs_key()), str(running.settings.api_secret)]
        for branch, audio in (("offline", "speech.wav"), ("online", "speech-2.wav")):
            settings = dataclasses.replace(running.settings, record=Path(branch))
            job = Job.lipsync(f"job-{branch}", Path("clip.mp4"), Path(audio), Path(f"{branch}.mp4"))
            async with open_client(settings, Policy(poll_every=0.2)) as client:
                expect(await client.run(job, show), Done)


async def system(scene: Scene) -> None:
    """All that happens between the programs: a job wakes the machine, the next finds it on, the idle stop ends it."""
    await scene.start_house(boot=1.0, render=1.0, idle_after=1.5)
    async with scene.client() as client:
        first = make_job("job-1")
        expect(await client.run(first, show), Done)
        client.link.send(m.StatusQuery(request_id="by-hand"))
        audio = make_file("speech-2.wav", KIB)
        again = Job.lipsync("job-2", first.inputs["video"], audio, Path("out-2.mp4"))
        expect(await client.run(again, show), Done)
        asleep = asyncio.Event()
        client.link.events.subscribe(lambda event: asleep.set() if _is_off(event) else None)
        await asleep.wait()


def _is_off(event: object) -> bool:
    return isinstance(event, m.PowerState) and event.state == "off"


ALL: dict[str, Incident] = {"branches": branches, "system": system, **INCIDENTS}


async def record(incident: Incident) -> list[str]:
    """Run one incident in the present folder; returns what must not be in its logs."""
    async with asyncio.timeout(180), scene() as running:
        await incident(running)
        return [*running.secrets, str(Path.cwd()), str(HERE), sys.prefix, sys.base_prefix, str(Path.home())]


def keep(name: str, forbidden: list[str]) -> None:
    """Put the logs that lie in the present folder into the library."""
    place = HERE / name
    shutil.rmtree(place, ignore_errors=True)  # a log may have been compressed, or a program have had more lives
    for program in PROGRAMS:
        for number, path in enumerate(sorted(RECORD.glob(f"{program}-*.jsonl"), key=begun), 1):
            put(path.read_bytes(), place / f"{program}{'' if number == 1 else f'-{number}'}.jsonl", forbidden)
    for branch in ("offline", "online"):
        for path in Path(branch).glob("daemon-*.jsonl"):
            put(path.read_bytes(), HERE / f"{branch}.jsonl", forbidden)


def put(log: bytes, place: Path, forbidden: list[str]) -> None:
    """One log into its place; a secret or a path of this machine in it is an error."""
    found = [word for word in forbidden if word.encode() in log]
    if found:
        raise AssertionError(f"{len(found)} secrets or paths of this machine stand in {place.name}; it is not kept")
    place.parent.mkdir(exist_ok=True)
    if len(log) > LARGE:
        place = place.with_name(f"{place.name}.gz")
        log = gzip.compress(log, mtime=0)
    place.write_bytes(log)
    say(f"   {place.relative_to(HERE)}: {len(log)} bytes")


def begun(path: Path) -> float:
    """When a log was begun."""
    return read_log(path.read_bytes().splitlines(keepends=True)).header.epoch


def main(names: list[str]) -> None:
    """Record the incidents of these names, or all."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        sys.exit(f"there is no incident {', '.join(unknown)}; there are {', '.join(ALL)}")
    for name in names or ALL:
        say(name)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            keep(name, asyncio.run(record(ALL[name])))
            os.chdir(HERE)


if __name__ == "__main__":
    main(sys.argv[1:])
