"""What the user's desktop does for us: it opens a file, shows it in its folder, and shows a notification."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from wakestream.adapters.runtime.printing import ring
from wakestream.streams.protocol.printable import printable

NOTIFY_WITHIN = 10.0
"""Seconds that the program for a notification may take."""

_APPLE = (
    "on run argv", "display notification (item 3 of argv) with title (item 2 of argv)", "end run",
)  # fmt: skip
"""The first argument is the name of this program, since a file's name there could be read as an option."""

_WINDOWS = """\
Add-Type -AssemblyName System.Windows.Forms
$icon = New-Object System.Windows.Forms.NotifyIcon
$icon.Icon = [System.Drawing.SystemIcons]::Information
$icon.Visible = $true
$icon.ShowBalloonTip(5000, $env:WAKESTREAM_NOTE_TITLE, $env:WAKESTREAM_NOTE_TEXT, 'Info')
Start-Sleep -Seconds 5
$icon.Dispose()
"""
"""The texts are variables of the environment: quoted in the script they could be read as commands."""


def open_file(path: Path) -> bool:
    """Open a file with the program that the system has for it. False without one.

    The path is an argument of its own, without a shell, and absolute, so that it is no option.
    """
    where = path.absolute()
    if sys.platform == "win32":
        try:
            os.startfile(where)  # noqa: S606 - what the user asks to see
        except OSError:  # no program is registered for such files
            return False
        return True
    if sys.platform == "darwin":
        return _start(["open", str(where)])
    return has_desktop(os.environ) and _start(["xdg-open", str(where)])


def show_in_folder(path: Path) -> bool:
    """Open the folder of a file in the system's file manager, with the file selected where that is possible.

    Args:
        path: The file.

    Returns:
        False if there is no file manager here.

    Example:
        >>> show_in_folder(Path("/home/ana/Videos/talking.mp4"))
        True
    """
    where = path.absolute()
    if sys.platform == "win32":
        return _start(["explorer", "/select,", str(where)])
    if sys.platform == "darwin":
        return _start(["open", "-R", str(where)])
    return open_file(where.parent)


def has_desktop(environment: Mapping[str, str]) -> bool:
    """Whether a screen is there on Linux and its like: without one, the opener starts something in the terminal."""
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def _start(command: Sequence[str]) -> bool:
    """Start a program that may outlive this one."""
    program = shutil.which(command[0])
    if program is None:
        return False
    quiet = subprocess.DEVNULL
    try:
        subprocess.Popen(
            [program, *command[1:]], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        ).returncode = 0  # it is not waited for, which is not worth a warning
    except OSError:
        return False
    return True


def notify(title: str, text: str) -> None:
    """Show a notification on the desktop; where that is not possible, ring the terminal's bell."""
    title, text = printable(title), printable(text)
    command, environment = _notification(title, text)
    if command is None or not _runs(command, environment):
        ring()


def _notification(title: str, text: str) -> tuple[list[str] | None, Mapping[str, str]]:
    """The command that shows it here, or None, and what it needs in its environment."""
    if sys.platform == "darwin":
        return _command("osascript", *(part for line in _APPLE for part in ("-e", line)), "wakestream", title, text), {}
    if sys.platform == "win32":
        named = {"WAKESTREAM_NOTE_TITLE": title, "WAKESTREAM_NOTE_TEXT": text}
        return _command("powershell", "-NoProfile", "-NonInteractive", "-Command", _WINDOWS), named
    if not has_desktop(os.environ):
        return None, {}
    return _command("notify-send", "--app-name=wakestream", "--", title, text), {}


def _command(program: str, *arguments: str) -> list[str] | None:
    path = shutil.which(program)
    return None if path is None else [path, *arguments]


def _runs(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    quiet = subprocess.DEVNULL
    try:
        ended = subprocess.run(
            command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=NOTIFY_WITHIN, check=False,
            env={**os.environ, **environment},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0
