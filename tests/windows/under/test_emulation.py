"""The emulation does what it says, so that what passes under it has passed something."""

import asyncio
import os
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from wakestream.adapters.disk import atomic, file_lock
from wakestream.adapters.runtime import child_processes as programs
from wakestream.adapters.runtime import rlimits as open_files

READER = "import sys; file = open(sys.argv[1], 'rb'); print('open', flush=True); sys.stdin.read()"


def _winerror(error: pytest.ExceptionInfo[OSError]) -> int:
    return int(getattr(error.value, "winerror", 0))


def test_our_modules_see_windows_and_others_do_not() -> None:
    assert (programs.sys.platform, programs.os.name, sys.platform) == ("win32", "nt", "linux")  # type: ignore[attr-defined]
    assert not hasattr(programs.signal, "SIGKILL")  # type: ignore[attr-defined]
    assert not hasattr(programs.os, "killpg")  # type: ignore[attr-defined]
    assert not hasattr(file_lock, "fcntl")
    assert open_files.connections_allowed(10**6) == 10**6


def test_an_open_file_cannot_be_removed_moved_or_replaced(tmp_path: Path) -> None:
    held, free = tmp_path / "held", tmp_path / "free"
    free.touch()
    with held.open("wb"):
        for refused in (held.unlink, lambda: held.replace(tmp_path / "x"), lambda: free.replace(held), tmp_path.rmdir):
            with pytest.raises(PermissionError) as found:
                refused()
            assert _winerror(found) == 32
    free.replace(held)
    held.unlink()


async def test_a_file_open_in_another_process_cannot_be_removed(tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.touch()
    process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", READER, held, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    with pytest.raises(PermissionError):
        held.unlink()
    await process.communicate(b"")
    held.unlink()


def test_folders_cannot_be_opened_and_ours_are_not_synced(tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        os.open(tmp_path, os.O_RDONLY)
    atomic.sync_folder(tmp_path)


def test_a_rename_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").touch()
    with pytest.raises(FileExistsError):
        (tmp_path / "a").rename(tmp_path / "b")


@pytest.mark.parametrize("name", ["a:b", "what?", "end.", "end ", "nul", "COM1.txt", "a|b"])
def test_names_that_there_are_not(name: str, tmp_path: Path) -> None:
    for refused in ((tmp_path / name).touch, (tmp_path / name).mkdir):
        with pytest.raises(OSError, match="Invalid argument") as found:
            refused()
        assert _winerror(found) == 123


def test_clocks_move_in_steps() -> None:
    seen = {time.monotonic() for _ in range(1000)} | {time.time() for _ in range(1000)}
    assert all(each % (1 / 64) == 0 for each in seen)
    assert time.get_clock_info("monotonic").resolution == 1 / 64


def test_text_in_the_systems_own_encoding_is_an_error_in_our_modules() -> None:
    code = (
        "import wakestream.adapters.config.setting_files as module, os\n"
        "try:\n"
        "    exec(compile('open(os.devnull)', module.__file__, 'exec'), {**vars(module), 'os': os})\n"
        "except EncodingWarning:\n"
        "    print('refused')\n"
        "print(open(os.devnull).encoding is not None)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert ran.stdout.split() == ["refused", "True"]


async def test_a_terminated_program_cleans_nothing_up() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, lambda *_: print('never')); print('up', flush=True); input()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", code, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    process.terminate()
    assert await process.stdout.read() == b""
    assert await process.wait() == -9
