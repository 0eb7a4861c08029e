"""A program's state folder: private to this account, of no later version, and not allowed as the folder of a result."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from loguru import logger

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.disk.state_file import later_format

RESULTS = Path("console", "results")
"""The one folder in a daemon's state that may contain results: those of its console."""

_NUMBERED = (
    "*.json", "*.jsonl", "capability.key", "uploads/*.json", "console/*.json", "console/uploads/*/about.json",
    "console/waiting/*.json", "console/results/*.due",
)  # fmt: skip
"""Files whose format has a number, beside the journals. In a `.jsonl` each line may have one."""

_AGAIN = frozenset({"kinds.json", "token-uses.json"})
"""Files that can be made again, so that one of a later version is ignored."""

_OURS = ("outbox.sqlite3", "hub.sqlite3", "worker.sqlite3", "licenses.json")


def prepare_state(folder: Path) -> None:
    """Create `folder` with mode 0700, or restrict an existing one to this account, with a warning.

    A folder of another account, or one that everyone can write to (such as `/tmp`), is not changed, with a warning.
    A program calls this before it changes anything in its folder.

    Raises:
        SettingsError: the folder cannot be made, or a later version wrote a file in it.
    """
    try:
        for path in (path for pattern in _NUMBERED for path in folder.glob(pattern) if path.name not in _AGAIN):
            with suppress(FileNotFoundError):  # a program that uses the folder may have removed it
                content = path.read_bytes()
                for part in content.splitlines() if path.suffix == ".jsonl" else (content,):
                    if later := later_format(path, part):
                        raise SettingsError(later)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if os.name != "posix" or not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return
        if status.st_uid == os.geteuid() and not status.st_mode & stat.S_ISVTX:
            folder.chmod(0o700)
            logger.warning("other accounts could read {}; its permissions are now 0700", folder)
        else:
            logger.warning("other accounts can read {}; choose a private folder with --state", folder)
    except OSError as error:
        reason = f"--state: {folder} cannot be used ({error.strerror or error}); choose another folder"
        raise SettingsError(reason) from error


def holds_state(folder: Path) -> bool:
    """Whether `folder` is in a program's state folder, where a result could replace one of its files."""
    return any(
        any((above / name).exists() for name in _OURS) and not folder.is_relative_to(above / RESULTS)
        for above in (folder, *folder.parents)
    )
