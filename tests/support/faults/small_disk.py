"""A disk of a few hundred kilobytes that really fills up: a tmpfs of its own, where this account may mount one."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SIZE = 1024 * 1024
BLOCK = 4096
MOUNT, UMOUNT = shutil.which("mount") or "/bin/mount", shutil.which("umount") or "/bin/umount"


class SmallDisk:
    """The disk at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, leave: int = 0) -> None:
        """Leave room for no more than so many bytes (in whole blocks)."""
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(BLOCK))
        if leave:
            with self._filler.open("r+b") as file:
                file.truncate(max(0, self._filler.stat().st_size - leave // BLOCK * BLOCK))

    def make_room(self) -> None:
        """All that was filled is free again."""
        self._filler.unlink(missing_ok=True)

    @property
    def free(self) -> int:
        """Bytes that are left."""
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize


@contextlib.contextmanager
def small_disk(path: Path, size: int = SIZE) -> Iterator[SmallDisk]:
    """Mounted for as long as the block runs; the test is skipped where that is not allowed."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("a disk that fills up is a tmpfs, which only root on Linux may mount")
    path.mkdir()
    mounted = subprocess.run(
        [MOUNT, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run([UMOUNT, "-l", str(path)], check=True)
