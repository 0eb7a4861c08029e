import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wakestream.adapters.disk.part_file import beside, said_of, taken, write_fresh

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX links and accounts")


@pytest.mark.parametrize("link", [Path.symlink_to, pytest.param(Path.hardlink_to, marks=posix)])
def test_a_part_that_is_a_link_is_not_opened(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    part = beside(tmp_path / "result.mp4", "job-1")
    link(part, victim)
    assert taken(part) is None
    assert victim.read_bytes() == b"precious"


def test_a_dangling_link_as_part_file_creates_no_target(tmp_path: Path) -> None:
    part = beside(tmp_path / "result.mp4", "job-1")
    part.symlink_to(tmp_path / "elsewhere")
    assert taken(part) is None
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_is_noticed_without_help_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wakestream.adapters.disk.part_file._NO_FOLLOW", None)
    test_a_part_that_is_a_link_is_not_opened(tmp_path, Path.symlink_to)


@posix
def test_a_part_of_another_account_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = beside(tmp_path / "result.mp4", "job-1")
    part.touch()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert taken(part) is None


def test_the_record_of_a_part_is_not_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    said = said_of(beside(tmp_path / "result.mp4", "job-1"))
    said.symlink_to(victim)
    write_fresh(said, b"{}")
    assert (victim.read_bytes(), said.read_bytes(), said.is_symlink()) == (b"precious", b"{}", False)
