"""A state of which a later version wrote any part: each program refuses it, and changes no byte of it."""

import json
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.support.programs.mixed_versions import OURS, PROGRAMS, House
from tests.support.programs.state_folders import digests

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
