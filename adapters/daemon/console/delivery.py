"""Copies results into the folder that the user chose. A file that is there is never replaced."""

from __future__ import annotations

import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from wakestream.adapters.daemon.console.result_name import legal, numbered


def deliver(result: Path, folder: Path, name: str) -> Path:
    """Copy a result.

    Args:
        result: The file.
        folder: An existing folder.
        name: The wanted name; with a number if it is taken.

    Returns:
        The copy.

    Raises:
        OSError: It cannot be written; nothing stays.
    """
    ending = Path(name).suffix
    partial = folder / f".wakestream-{uuid.uuid4().hex}.part"
    try:
        shutil.copyfile(result, partial)
        for each in numbered(legal(name.removesuffix(ending)), legal(ending[1:]) and ending):
            with suppress(FileExistsError):
                _take(folder / each, partial)
                return folder / each
        raise FileExistsError(f"{name} and a thousand names like it are taken")
    finally:
        partial.unlink(missing_ok=True)


def _take(path: Path, partial: Path) -> None:
    """Give the complete file its name. `FileExistsError` if that is taken."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a file system without hard links: reserve the name first
        path.touch(exist_ok=False)
        partial.replace(path)
