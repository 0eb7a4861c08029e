"""An entry for the start menu of the user's desktop that opens the web console."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from wakestream.adapters.cli.setup.files import check_words
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.operators.model.errors import FileUnusable

NAME: Final = "wakestream"

WITHIN: Final = 30.0
"""Seconds that Windows may take to write a shortcut."""

_SHORTCUT: Final = """\
$link = (New-Object -ComObject WScript.Shell).CreateShortcut($env:WAKESTREAM_LINK)
$link.TargetPath = $env:WAKESTREAM_TARGET
$link.Arguments = $env:WAKESTREAM_ARGUMENTS
$link.WindowStyle = 7
$link.Save()
"""
"""The texts are variables of the environment: quoted in the script they could be read as commands."""


def opens_console(state: str | None = None) -> Path:
    """Write the entry that opens the console of the daemon with this folder, and return its path (see `install`)."""
    of_state = () if state is None else ("--state", str(Path(state).absolute()))
    return install([sys.executable, "-m", "wakestream.adapters.cli", "console", "--open", *of_state])


def install(command: Sequence[str], platform: str = sys.platform, home: Path | None = None) -> Path:
    """Write the entry, or write it again.

    Args:
        command: The program that opens the console, and its arguments.
        platform: The system whose kind of entry is written.
        home: The folder of the user.

    Returns:
        The path of the entry.

    Raises:
        SettingsError: A word has a control character.
        FileUnusable: The entry cannot be written.

    Example:
        >>> install(["/usr/bin/wakestream", "console", "--open"])
        PosixPath('/home/ana/.local/share/applications/wakestream.desktop')
    """
    check_words(*command)
    path = _path(platform, home or Path.home(), os.environ)
    try:
        if platform == "win32":
            path.parent.mkdir(parents=True, exist_ok=True)
            texts = {"LINK": str(path), "TARGET": command[0], "ARGUMENTS": subprocess.list2cmdline(command[1:])}
            subprocess.run(
                [shutil.which("powershell") or "powershell", "-NoProfile", "-NonInteractive", "-Command", _SHORTCUT],
                env={**os.environ, **{f"WAKESTREAM_{name}": text for name, text in texts.items()}},
                check=True, capture_output=True, timeout=WITHIN,
            )  # fmt: skip
        elif platform == "darwin":
            about = {
                "CFBundleName": NAME,
                "CFBundleExecutable": NAME,
                "CFBundleIdentifier": NAME,
                "CFBundlePackageType": "APPL",
            }
            program = path / "Contents/MacOS" / NAME
            _write(path / "Contents/Info.plist", plistlib.dumps(about).decode())
            _write(program, f"#!/bin/sh\nexec {shlex.join(command)}\n")
            program.chmod(0o755)
        else:
            _write(path, _desktop(command))
    except (OSError, subprocess.SubprocessError) as error:
        raise FileUnusable(f"{path} cannot be written: {error}") from error
    return path


def _path(platform: str, home: Path, environment: Mapping[str, str]) -> Path:
    if platform == "win32":
        programs = (
            Path(environment.get("APPDATA") or home / "AppData/Roaming") / "Microsoft/Windows/Start Menu/Programs"
        )
        return programs / f"{NAME}.lnk"
    if platform == "darwin":
        return home / "Applications" / f"{NAME}.app"
    return Path(environment.get("XDG_DATA_HOME") or home / ".local/share") / "applications" / f"{NAME}.desktop"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.encode(), sync=False)


def _desktop(command: Sequence[str]) -> str:
    words = " ".join(map(_quoted, command))
    return f"[Desktop Entry]\nType=Application\nName={NAME}\nExec={words}\nTerminal=false\nCategories=AudioVideo;\n"


def _quoted(word: str) -> str:
    """A word of `Exec`: quoted, then escaped as each string of such a file."""
    for sign in ("\\", '"', "`", "$"):
        word = word.replace(sign, f"\\{sign}")
    return f'"{word}"'.replace("\\", "\\\\").replace("%", "%%")
