"""Small state files: a damaged one is moved aside, one of a later version is left as it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from tests.support.late_thread import cancelled_before_its_thread
from wakestream.adapters.cli.setup import files as setup
from wakestream.adapters.daemon import kinds
from wakestream.adapters.daemon.console import costs, preferences, records, timeline
from wakestream.adapters.disk.state_file import keep_state, read_state
from wakestream.adapters.hub.invites import Invites
from wakestream.adapters.hub.license_uses import LicenseUses
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.operators.model.errors import WakestreamError

NAMES = msgspec.json.Decoder(list[str]).decode


@pytest.mark.parametrize("content", [b"", b"[", b"{}", b"[1]", b"\xff\xfe", b"[" * 5000])
def test_a_damaged_file_is_moved_aside_and_none_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "names.json"
    for name in ("names.json.damaged", "names.json.damaged-2"):
        path.write_bytes(content)
        assert read_state(path, NAMES, ["default"]) == ["default"]
        assert not path.exists()
        assert (tmp_path / name).read_bytes() == content


async def test_a_file_is_written_though_its_writer_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cancelled_before_its_thread(keep_state(tmp_path / "names.json", b'["a"]'), monkeypatch)
    assert read_state(tmp_path / "names.json", NAMES, []) == ["a"]


def test_a_file_without_a_number_is_read_and_a_missing_one_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    assert read_state(path, NAMES, []) == []
    path.write_bytes(b'["a"]')
    assert read_state(path, NAMES, []) == ["a"]


LATER = {"v": 99, "licenses": [], "kinds": [], "known": True}


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("costs.json", lambda folder: costs.Costs(None, None, folder)),  # type: ignore[arg-type]
        ("license_uses.json", LicenseUses.of_folder),
        ("preferences.json", preferences.load),
        ("kinds.json", lambda folder: kinds._read(folder / "kinds.json", None)),
        ("timeline.jsonl", lambda folder: timeline._read(folder / "timeline.jsonl", aside=True)),
    ],
)
def test_state_that_a_program_can_do_without_is_moved_aside_when_it_is_damaged(
    tmp_path: Path, name: str, read: Callable[[Path], Any]
) -> None:
    damaged = b'{"boot": "a", "ep\n{"seq": 1}\n'
    (tmp_path / name).write_bytes(damaged)
    read(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {f"{name}.damaged": damaged}


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("costs.json", lambda folder: costs.Costs(None, None, folder)),  # type: ignore[arg-type]
        ("license_uses.json", LicenseUses.of_folder),
        ("preferences.json", preferences.load),
        ("licenses.json", lambda folder: LicenseBook(folder).all()),
        ("invites.json", lambda folder: Invites(folder).valid(0.0)),
        (setup.RECORD, setup.recorded),
    ],
)
def test_a_file_of_a_later_version_is_refused_and_left_as_it_is(
    tmp_path: Path, name: str, read: Callable[[Path], Any]
) -> None:
    (tmp_path / name).write_bytes(orjson.dumps(LATER))
    with pytest.raises(WakestreamError, match=r"a later version of wakestream wrote it \(format 99\)"):
        read(tmp_path)
    assert (tmp_path / name).read_bytes() == orjson.dumps(LATER)


def test_a_record_of_a_result_that_a_later_version_wrote_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4.json"
    records._write(path, {"job": "a"})
    assert orjson.loads(path.read_bytes()) == {"v": 1, "job": "a"}
    path.write_bytes(b'{"v":99,"job":"a"}')
    with pytest.raises(ValueError, match=r"a later version of wakestream wrote it \(format 99\)"):
        records._write(path, {"job": "a", "cost": 1.0})
    assert path.read_bytes() == b'{"v":99,"job":"a"}'


def test_what_can_be_asked_again_is_ignored_when_a_later_version_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "kinds.json").write_bytes(orjson.dumps(LATER))
    assert kinds._read(tmp_path / "kinds.json", None) == kinds.UNKNOWN
