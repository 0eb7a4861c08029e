"""The settings that the daemon keeps, and the names of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wakestream.adapters.daemon import program
from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console.preferences import (
    FILE,
    Preferences,
    ResultName,
    fault_of,
    filled,
    legal,
    load,
    save,
)
from wakestream.streams.jobs.turn_stages import LaneLimits


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def test_settings_are_kept_and_others_stay(state: Path, tmp_path: Path) -> None:
    assert load(state) == Preferences()
    save(state, {"output_folder": str(tmp_path), "at_once": 3})
    save(state, {"name_pattern": "{date} {name}"})
    assert load(state) == Preferences(str(tmp_path), "{date} {name}", 3)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"at_once": "many"}', b'{"name_pattern": "../{name}"}'])
def test_a_faulty_file_gives_the_defaults(state: Path, content: bytes) -> None:
    (state / FILE).write_bytes(content)
    assert load(state) == Preferences()


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"output_folder": "results"}, "folder_missing"),
        ({"output_folder": "/no/such/folder"}, "folder_missing"),
        ({"output_folder": "~no-such-user/results"}, "folder_missing"),
        ({"output_folder": "/" + "a" * 300}, "folder_missing"),
        ({"output_folder": 3}, "folder_missing"),
        ({"output_folder": "a\0b"}, "folder_missing"),
        ({"name_pattern": "{user}-{name}"}, "pattern_field"),
        ({"name_pattern": "{name"}, "pattern_field"),
        ({"name_pattern": "{date}"}, "pattern_unique"),
        ({"name_pattern": "../{name}"}, "pattern_characters"),
        ({"name_pattern": "a\\{name}"}, "pattern_characters"),
        ({"name_pattern": "{name}."}, "pattern_characters"),
        ({"name_pattern": ".{name}"}, "pattern_characters"),
        ({"name_pattern": "x" * 95 + "{name}"}, "pattern_long"),
        ({"at_once": 0.5}, "at_once"),
        ({"at_once": -1}, "at_once"),
        ({"at_once": 1000}, "at_once"),
    ],
)
def test_bad_values_are_refused_and_change_nothing(state: Path, wish: dict[str, Any], code: str) -> None:
    save(state, {"at_once": 5})
    with pytest.raises(ApiError) as refused:
        save(state, wish)
    assert refused.value.code == code
    assert load(state) == Preferences(at_once=5)


def test_results_do_not_go_where_programs_look_for_their_files(state: Path, tmp_path: Path) -> None:
    places = [state, state / "console", tmp_path / ".config" / "autostart", tmp_path / "AppData" / "x"]
    places.append(tmp_path / "Library" / "LaunchAgents")
    (tmp_path / "link").symlink_to(tmp_path / ".config" / "autostart")
    for folder in [*places, tmp_path / "link"]:
        folder.resolve().mkdir(parents=True, exist_ok=True)
        with pytest.raises(ApiError) as refused:
            save(state, {"output_folder": str(folder)})
        assert refused.value.code == "folder_private", folder


@pytest.mark.parametrize(
    ("pattern", "name", "said"),
    [
        ("{name}", "clip", "clip"),
        ("{date} {name} ({kind})", "clip", "2001-09-09 clip (lipsync)"),
        ("{job}", "clip", "ws-1"),
        ("{name}", "../../etc/passwd", "_.._etc_passwd"),
        ("{name}", "con", "_con"),
        ("{name}", "COM1.backup", "_COM1.backup"),
        ("{name}", 'a<b>:"|?*', "a_b______"),
        ("{name}", "dots... ", "dots"),
        ("{name}", "...", "_"),
        ("{name}", "{job}", "{job}"),
    ],
)
def test_a_name_is_allowed_on_every_system(pattern: str, name: str, said: str) -> None:
    assert fault_of(pattern) == ""
    assert filled(pattern, ResultName(name, "lipsync", "ws-1", 1_000_000_000.0 + 43_200)) == said


def test_a_long_name_is_cut_at_a_character() -> None:
    assert legal("名" * 200) == "名" * 60


@pytest.mark.parametrize(("wanted", "most", "applies"), [(0, 4, 4), (2, 4, 2), (8, 4, 4), (8, 200, 8)])
def test_the_flag_of_the_daemon_is_the_ceiling_of_jobs_at_a_time(
    state: Path, wanted: int, most: int, applies: int
) -> None:
    save(state, {"at_once": wanted})
    config = program._preferred(program.DaemonConfig(state, limits=LaneLimits(running=most)))
    assert config.limits.running == applies
