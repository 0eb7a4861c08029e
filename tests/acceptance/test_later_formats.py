"""A state of which a later version wrote any part: each program refuses it, and changes no byte of it."""

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.support.programs.mixed_versions import NOT_HERE, OURS, PROGRAMS, RELEASED, House
from tests.support.programs.state_folders import digests
from wakestream.adapters.disk.journal import open_journal
from wakestream.adapters.disk.journal_bound import bound_path
from wakestream.adapters.disk.sqlite_file import FORMAT
from wakestream.streams.hub.events import Fact, JobQueued

STATE = Path(__file__).parents[1] / "data" / "states" / "0.1.0.json"

LATER: dict[str, tuple[str, ...]] = {
    "hub": (
        "hub.sqlite3", "hub.sqlite3-seq", "licenses.json", "license_uses.json", "invites.json", "capability.key",
        "setup.json",
    ),
    "monitor": ("gpu-e3c5ba51.sqlite3",),
    "worker": ("worker.sqlite3", "secret-values.json", f"uploads/{'ab' * 16}.json"),
    "daemon": (
        "outbox.sqlite3", "secret-values.json", "watched.json", "preferences.json", "timeline.jsonl", "console.json",
        "tokens.json", "console/costs.json", "console/uploads/a1/about.json", "console/waiting/a1.json",
        "console/results/a1.due",
    ),
}  # fmt: skip
"""All files that outlive a program, without those whose content has its own name or can be made again."""


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in LATER.items() for file in files])
async def test_a_program_refuses_a_state_of_which_a_later_version_wrote_a_part_and_leaves_it_as_it_is(
    name: str, file: str, tmp_path: Path
) -> None:
    house = House(tmp_path, dict.fromkeys(PROGRAMS, OURS))
    house.take_over(json.loads(STATE.read_text()))
    path = tmp_path / name / file
    number = _raise(path)
    before = digests(tmp_path / name)
    refusal = await house.refuses(name)
    assert f"a later version of wakestream wrote it (format {number}); use that version" in refusal
    assert str(path) in refusal
    assert digests(tmp_path / name) == before


def _raise(path: Path) -> Any:
    """Let the file be one of a later format; returns its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".sqlite3":
        db = apsw.Connection(str(path))
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        db.execute("PRAGMA user_version = 99")
        db.close()
        assert path.with_name(f"{path.name}-wal").stat().st_size
        return 99
    if path.name.endswith("-seq"):
        path.write_text("wakestream-journal-bound-2 of whatever that is\n")
        return 2
    old = path.read_text().splitlines() if path.suffix == ".jsonl" else []
    path.write_text("\n".join([*old, '{"v":2,"boot":"ab","epoch":1.0}']))
    return 2


WRITE = """
import asyncio, os, signal, sys
from pathlib import Path
from wakestream.adapters.disk.journal import open_journal
from wakestream.streams.hub import state as hub
from wakestream.streams.outbox import state as outbox
from wakestream.streams.worker import state as worker
from wakestream.streams.hub.events import Fact, JobQueued
async def main():
    async with open_journal(Path(sys.argv[1]), Fact, program="hub") as journal:
        print([fact.id for fact in journal.read()])
        await journal.append([JobQueued(id, "owner", 1, "heygem_submit", {}, 1.0) for id in sys.argv[2:]])
        if sys.argv[2:]:
            os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def released(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(RELEASED), "-I", "-c", WRITE, *words]  # without the folder that we are in
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=150)


@pytest.mark.skipif(not RELEASED.exists(), reason=NOT_HERE)
async def test_the_last_release_refuses_our_journal_untouched_and_goes_on_with_the_copy(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite3"
    assert (await released(str(path), "a", "b")).returncode == -signal.SIGKILL
    async with open_journal(path, Fact, program="hub") as ours:
        assert [fact.id for fact in ours.read() if isinstance(fact, JobQueued)] == ["a", "b"]
        await ours.append([JobQueued("c", "owner", 1, "heygem_submit", {}, 1.0)])
    before = path.read_bytes(), bound_path(path).read_bytes()
    refused = await released(str(path))
    assert refused.returncode == 1
    assert f"a later version of wakestream wrote it (format {FORMAT})" in refused.stderr
    assert (path.read_bytes(), bound_path(path).read_bytes()) == before
    kept = await released(str(tmp_path / "hub.sqlite3.v1-backup"))
    assert kept.stdout.strip() == "['a', 'b']", kept.stderr
