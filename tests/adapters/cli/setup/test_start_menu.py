"""The entry of the start menu that opens the console."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wakestream.adapters.cli.setup import service as start_menu
from wakestream.adapters.config.settings import SettingsError

ODD = 'a "b" $HOME `c` 50% \\d'


@pytest.mark.skipif(sys.platform == "win32", reason="such entries are not for Windows")
def test_each_word_of_the_command_arrives_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    program = tmp_path / "show"
    program.write_text(f'#!/bin/sh\nprintf "%s" "$1" > "{tmp_path}/said"\n')
    program.chmod(0o755)
    app = start_menu.install([str(program), ODD], "darwin", tmp_path)
    assert plistlib.loads((app / "Contents/Info.plist").read_bytes())["CFBundleExecutable"] == "wakestream"
    subprocess.run([app / "Contents/MacOS/wakestream"], check=True)
    assert (tmp_path / "said").read_text() == ODD
    entry = start_menu.install(["/bin/x", ODD], "linux", tmp_path)
    assert entry == tmp_path / ".local/share/applications/wakestream.desktop"
    assert r'Exec="/bin/x" "a \\"b\\" \\$HOME \\`c\\` 50%% \\\\d"' in entry.read_text()
    if (checker := shutil.which("desktop-file-validate")) is not None:
        subprocess.run([checker, entry], check=True)


def test_windows_is_asked_for_a_shortcut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APPDATA", raising=False)
    asked: list[dict[str, str]] = []
    monkeypatch.setattr(subprocess, "run", lambda *_, env, **__: asked.append(env))
    path = start_menu.install(["python.exe", "-m", "x y"], "win32", tmp_path)
    assert path.name == "wakestream.lnk"
    assert path.parent.is_dir()
    [env] = asked
    assert [env[f"WAKESTREAM_{name}"] for name in ("LINK", "TARGET", "ARGUMENTS")] == [
        os.fspath(path),
        "python.exe",
        '-m "x y"',
    ]


def test_a_line_break_cannot_add_a_line_to_the_entry(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        start_menu.install(["/bin/x", "a\nExec=rm"], "linux", tmp_path)
