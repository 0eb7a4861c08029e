import os
import stat
from pathlib import Path

import pytest

from tests.support.log_lines import logged
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.disk.fingerprints import check_writable
from wakestream.adapters.disk.state_folder import prepare_state
from wakestream.operators.model.errors import FileUnusable

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def warned() -> list[str]:
    with logged("WARNING") as lines:
        yield lines


@posix
def test_a_new_folder_is_closed_to_others(tmp_path: Path, warned: list[str]) -> None:
    prepare_state(tmp_path / "state")
    assert mode(tmp_path / "state") == 0o700
    assert warned == []


@posix
@pytest.mark.parametrize(
    ("before", "after", "words"),
    [(0o755, 0o700, "its permissions are now 0700"), (0o1777, 0o1777, "choose a private folder")],
)
def test_a_folder_that_others_can_read_is_closed_with_a_warning_unless_all_share_it(
    tmp_path: Path, warned: list[str], before: int, after: int, words: str
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(before)
    prepare_state(tmp_path / "state")
    assert mode(tmp_path / "state") == after
    assert words in warned[0]


def test_a_folder_that_cannot_be_made_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"cannot be used .*; choose another folder"):
        prepare_state(tmp_path / "file")


@pytest.mark.parametrize("name", ["licenses.json", "capability.key", "timeline.jsonl", "console/waiting/a.json"])
def test_a_folder_with_a_file_of_a_later_version_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text('{"v": 1}\n{"v": 2}' if name.endswith("l") else '{"v": 2}')
    with pytest.raises(SettingsError, match=rf"{name} cannot be used: .* \(format 2\); use that version"):
        prepare_state(tmp_path)


def test_what_can_be_made_again_does_not_refuse_a_folder(tmp_path: Path) -> None:
    (tmp_path / "kinds.json").write_text('{"v": 2}')
    prepare_state(tmp_path)


@pytest.mark.parametrize("name", ["outbox.sqlite3", "hub.sqlite3", "worker.sqlite3", "licenses.json"])
def test_no_result_goes_into_a_state_folder(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "state" / "inside"
    inside.mkdir(parents=True)
    (tmp_path / "state" / name).touch()
    for output in (tmp_path / "state" / name, tmp_path / "state" / "new.mp4", inside / "new.mp4"):
        with pytest.raises(FileUnusable, match="belongs to a wakestream program's state"):
            check_writable(output)
    check_writable(tmp_path / "beside.mp4")


def test_the_results_of_the_console_belong_into_its_own_folder(tmp_path: Path) -> None:
    results = tmp_path / "console" / "results" / "job-1"
    results.mkdir(parents=True)
    (tmp_path / "outbox.sqlite3").touch()
    check_writable(results / "talking.mp4")
