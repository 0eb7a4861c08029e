"""Each program of this tree beside the programs of the last release, in every mix, and replaced while a job runs."""

import asyncio
import contextlib
import itertools
import json
from collections import deque
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.support.programs.mixed_versions import NOT_HERE, OURS, PROGRAMS, RELEASED, House
from tests.support.programs.state_folders import digests
from wakestream.adapters.disk.state_folder import _NUMBERED

pytestmark = pytest.mark.timeout(300)
released = pytest.mark.skipif(not RELEASED.exists(), reason=NOT_HERE)

STATES = sorted((Path(__file__).parents[1] / "data" / "states").glob("*.json"))
"""The state folders that each released version left when its programs were killed while jobs were on their way."""

MIXES = [dict(zip(PROGRAMS, pythons, strict=True)) for pythons in itertools.product((RELEASED, OURS), repeat=4)][:-1]
"""Without the last one, which is no mix."""

UNNUMBERED = ("*.sqlite3*", "*.lock", "files/*", "results/*", "unsynced")
"""What is in a state folder beside the files with a number in them."""


def name_of(mix: dict[str, Path]) -> str:
    return "-".join(f"{'new' if mix[name] == OURS else 'old'}_{name}" for name in PROGRAMS)


@released
@pytest.mark.parametrize("mix", MIXES, ids=name_of)
async def test_jobs_are_done_in_every_mix_and_while_its_old_programs_are_replaced(
    mix: dict[str, Path], tmp_path: Path
) -> None:
    old = deque(name for name in PROGRAMS if mix[name] != OURS)
    old.rotate(MIXES.index(mix))
    async with asyncio.timeout(280), House(tmp_path, mix).open() as house:
        assert await house.runs("while-off") == "done"
        assert await house.runs("while-on") == "done"
        house.hold.touch()
        async with house.submitted("while-replaced") as job:
            await job.event("running")
            for name in old:
                await house.replace(name, OURS)
            house.hold.unlink()
            assert await house.outcome("while-replaced", job) == "done"


@released
async def test_a_daemon_of_ours_has_its_turn_while_one_of_the_last_release_has_many_jobs_at_the_gpu(
    tmp_path: Path,
) -> None:
    mix = dict.fromkeys(PROGRAMS, OURS) | {"daemon": RELEASED, "daemon-new": OURS}
    async with asyncio.timeout(280), House(tmp_path, mix).open() as house, contextlib.AsyncExitStack() as jobs:
        await house.start("daemon-new")
        house.hold.touch()
        running = {}
        for name in ("old-1", "old-2", "old-3", "new"):
            daemon = "daemon-new" if name == "new" else "daemon"
            running[name] = await jobs.enter_async_context(house.submitted(name, daemon))
            await running[name].event("running")
        house.hold.unlink()
        outcomes = [await house.outcome(name, job) for name, job in running.items()]
        assert outcomes == ["done"] * 4


@pytest.mark.parametrize("new", ["all", *(pytest.param(name, marks=released) for name in PROGRAMS)])
@pytest.mark.parametrize("state", STATES, ids=lambda path: path.stem)
async def test_a_state_of_each_release_is_continued_by_our_programs_and_its_jobs_are_done(
    state: Path, new: str, tmp_path: Path
) -> None:
    mix = {name: OURS if new in ("all", name) else RELEASED for name in PROGRAMS}
    found = json.loads(state.read_text())
    house = House(tmp_path, mix)
    house.take_over(found)
    async with asyncio.timeout(280), house.open():
        assert [await house.ends(job) for job in ("rendering", "waiting")] == ["done", "done"]
        for name in PROGRAMS:
            await house.stop(name)  # what is killed may leave a file that it was writing
    for name in PROGRAMS:
        backups = [*(tmp_path / name).glob("*.sqlite3.v*-backup")]
        assert len(backups) == (mix[name] == OURS), backups
        files = (
            path.relative_to(tmp_path / name).as_posix() for path in (tmp_path / name).rglob("*") if path.is_file()
        )
        assert [file for file in files if not any(fnmatch(file, kind) for kind in (*_NUMBERED, *UNNUMBERED))] == []


@released
async def test_going_back_takes_the_copies_that_the_upgrade_made_and_a_second_upgrade_works(tmp_path: Path) -> None:
    async with asyncio.timeout(280), House(tmp_path, dict.fromkeys(PROGRAMS, RELEASED)).open() as house:
        house.hold.touch()
        async with house.submitted("kept") as job:
            await job.event("running")
            for name in PROGRAMS:
                await house.replace(name, OURS)
            for name in PROGRAMS:
                await house.stop(name)
                house.pythons[name] = RELEASED
                before = digests(tmp_path / name)
                assert "a later version of wakestream wrote it" in await house.refuses(name)
                assert digests(tmp_path / name) == before
                house.put_back(name)
                await house.start(name)
            house.hold.unlink()
            assert await house.outcome("kept", job) == "done"
        for name in PROGRAMS:
            await house.replace(name, OURS)
        assert await house.runs("again") == "done"
