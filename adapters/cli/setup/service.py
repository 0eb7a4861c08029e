"""A program as a service of this account, started at boot or login: systemd, launchd or the Windows scheduler."""

from __future__ import annotations

import os
import plistlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from wakestream.adapters.cli.setup.files import SetupFile, check_words
from wakestream.adapters.config.settings import USER_FOLDER
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.operators.model.errors import FileUnusable

NAME: Final = "wakestream-{role}"

_PLAIN: Final = re.compile(r"[\w./:=@\\-]+")
"""Words that need no quotation marks."""


def service(
    role: str, base: Path, arguments: Sequence[str] = (), platform: str = sys.platform, home: Path | None = None
) -> tuple[SetupFile, str]:
    """The file of a service, and the command that starts it.

    Args:
        role: hub, monitor, worker or client; a client's program is the daemon.
        base: The folder of the user's own settings.
        arguments: Further arguments of the program.
        platform: As `sys.platform`.
        home: The user's home folder; by default the real one.

    Returns:
        The file to write, and the command line that a person runs once.

    Raises:
        SettingsError: A word has a control character, or on Windows a quotation mark.
    """
    program = "daemon" if role == "client" else role
    words = [sys.executable, "-m", "wakestream.adapters.cli", program, *arguments]
    name, home = NAME.format(role=role), home or Path.home()
    check_words(*words, str(base), str(home), more='"' if platform == "win32" else "")
    if platform == "darwin":
        path = home / "Library" / "LaunchAgents" / f"{name}.plist"
        listed = "\n".join(f"    <string>{escape(word)}</string>" for word in words)
        text = _filled("launchd.plist", name=name, arguments=listed, folder=escape(str(base)))
        return SetupFile(path, text), f"launchctl bootstrap gui/$(id -u) {shlex.quote(str(path))}"
    if platform == "win32":
        path = base / f"{name}.cmd"
        command = " ".join(map(_batch_word, words))
        folder = str(base).replace("%", "%%")
        text = _filled("windows.cmd", program=program, command=command, folder=folder)
        text = text.replace("\n", "\r\n")  # cmd.exe may miss a label after other ends of lines
        return SetupFile(
            path, text
        ), f'schtasks /Create /SC ONLOGON /TN {name} /TR "\\"{path}\\"" & schtasks /Run /TN {name}'
    path = home / ".config" / "systemd" / "user" / f"{name}.service"
    command = " ".join([_unit_word(words[0]), *(_unit_word(word).replace("$", "$$") for word in words[1:])])
    text = _filled("systemd.service", program=program, command=command, folder=_unit_word(f"{USER_FOLDER}={base}"))
    return SetupFile(path, text), f"systemctl --user enable --now {name}; loginctl enable-linger"


def _filled(template: str, **fields: str) -> str:
    return _template(template).format(folder_variable=USER_FOLDER, **fields)


def _template(name: str) -> str:
    return (Path(__file__).with_name("services") / name).read_text("utf-8")


def _unit_word(word: str) -> str:
    """A word for systemd. Only arguments of a command also have variables, which begin with `$`."""
    quoted = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return quoted if _PLAIN.fullmatch(word) else f'"{quoted}"'


def _batch_word(word: str) -> str:
    """A word for a batch file of Windows, in whose names there are no quotation marks."""
    quoted = word.replace("%", "%%")
    return quoted if _PLAIN.fullmatch(word) else f'"{quoted}"'


# An entry for the start menu of the user's desktop that opens the web console.

ENTRY: Final = "wakestream"

WITHIN: Final = 30.0
"""Seconds that Windows may take to write a shortcut."""


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
            shell = shutil.which("powershell") or "powershell"
            subprocess.run(
                [shell, "-NoProfile", "-NonInteractive", "-Command", _template("shortcut.ps1")],
                env={**os.environ, **{f"WAKESTREAM_{name}": text for name, text in texts.items()}},
                check=True, capture_output=True, timeout=WITHIN,
            )  # fmt: skip
        elif platform == "darwin":
            named = dict.fromkeys(("CFBundleName", "CFBundleExecutable", "CFBundleIdentifier"), ENTRY)
            about = {**named, "CFBundlePackageType": "APPL"}
            program = path / "Contents/MacOS" / ENTRY
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
        return programs / f"{ENTRY}.lnk"
    if platform == "darwin":
        return home / "Applications" / f"{ENTRY}.app"
    return Path(environment.get("XDG_DATA_HOME") or home / ".local/share") / "applications" / f"{ENTRY}.desktop"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.encode(), sync=False)


def _desktop(command: Sequence[str]) -> str:
    words = " ".join(map(_quoted, command))
    return f"[Desktop Entry]\nType=Application\nName={ENTRY}\nExec={words}\nTerminal=false\nCategories=AudioVideo;\n"


def _quoted(word: str) -> str:
    """A word of `Exec`: quoted, then escaped as each string of such a file."""
    for sign in ("\\", '"', "`", "$"):
        word = word.replace(sign, f"\\{sign}")
    return f'"{word}"'.replace("\\", "\\\\").replace("%", "%%")
