"""A program as a service of this account, started at boot or login: systemd, launchd or the Windows scheduler."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from wakestream.adapters.cli.setup.files import Wanted, check_words
from wakestream.adapters.config.settings import USER_FOLDER

NAME: Final = "wakestream-{role}"

_PLAIN: Final = re.compile(r"[\w./:=@\\-]+")
"""Words that need no quotation marks."""


def service(
    role: str, base: Path, arguments: Sequence[str] = (), platform: str = sys.platform, home: Path | None = None
) -> tuple[Wanted, str]:
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
        return Wanted(path, text), f"launchctl bootstrap gui/$(id -u) {shlex.quote(str(path))}"
    if platform == "win32":
        path = base / f"{name}.cmd"
        command = " ".join(map(_batch_word, words))
        folder = str(base).replace("%", "%%")
        text = _filled("windows.cmd", program=program, command=command, folder=folder)
        text = text.replace("\n", "\r\n")  # cmd.exe may miss a label after other ends of lines
        return Wanted(
            path, text
        ), f'schtasks /Create /SC ONLOGON /TN {name} /TR "\\"{path}\\"" & schtasks /Run /TN {name}'
    path = home / ".config" / "systemd" / "user" / f"{name}.service"
    command = " ".join([_unit_word(words[0]), *(_unit_word(word).replace("$", "$$") for word in words[1:])])
    text = _filled("systemd.service", program=program, command=command, folder=_unit_word(f"{USER_FOLDER}={base}"))
    return Wanted(path, text), f"systemctl --user enable --now {name}; loginctl enable-linger"


def _filled(template: str, **fields: str) -> str:
    text = (Path(__file__).with_name("services") / template).read_text("utf-8")
    return text.format(folder_variable=USER_FOLDER, **fields)


def _unit_word(word: str) -> str:
    """A word for systemd. Only arguments of a command also have variables, which begin with `$`."""
    quoted = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return quoted if _PLAIN.fullmatch(word) else f'"{quoted}"'


def _batch_word(word: str) -> str:
    """A word for a batch file of Windows, in whose names there are no quotation marks."""
    quoted = word.replace("%", "%%")
    return quoted if _PLAIN.fullmatch(word) else f'"{quoted}"'
