"""A program's state folder: private to this account, and not allowed as the folder of a result."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from loguru import logger

from wakestream.adapters.config.setting_files import SettingsError

RESULTS = Path("console", "results")
"""The one folder in a daemon's state that may contain results: those of its console."""

_OURS = ("outbox.sqlite3", "hub.sqlite3", "worker.sqlite3", "licenses.json")


def make_private(folder: Path) -> None:
    """Create `folder` with mode 0700, or restrict an existing one to this account, with a warning.

    A folder of another account, or one that everyone can write to (such as `/tmp`), is not changed, with a warning.

    Raises:
        SettingsError: the folder cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if os.name != "posix" or not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return
        if found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:
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
