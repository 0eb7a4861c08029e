"""Small files appear completely or not at all."""

import os
import stat
import sys
from pathlib import Path

import pytest

from wakestream.adapters.disk import atomic
from wakestream.adapters.disk.atomic import write_atomic


def test_a_small_file_is_replaced_and_nothing_else_stays_in_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "port.json"
    write_atomic(path, b"first")
    write_atomic(path, b"second", sync=False)
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_after_a_failed_write_the_former_file_is_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "port.json"
    write_atomic(path, b"first")

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match=os.strerror(28)):
        write_atomic(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
