"""Small JSON files of a program's state. One of a later format is left as it is; a damaged one is moved aside.

The format's number is `v` in the file's object. A file without it has format 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from loguru import logger

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.disk.atomic import retry_in_use, write_atomic
from wakestream.adapters.runtime.tasks import finish_despite_cancel

T = TypeVar("T")

LATER = "{path} cannot be used: a later version of wakestream wrote it (format {number}); use that version"
"""The sentence that refuses a file of a later format."""

DAMAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What reading a damaged file may raise."""


class _Numbered(msgspec.Struct):
    v: int = 1


def later_format(path: Path | str, content: bytes, known: int = 1) -> str | None:
    """The sentence that refuses a file of a later format than `known`; None for any other file."""
    try:
        number = msgspec.json.decode(content, type=_Numbered).v
    except (ValueError, RecursionError):  # a list, or damaged
        return None
    return LATER.format(path=path, number=number) if number > known else None


def read_state(path: Path, parse: Callable[[bytes], T], default: T, *, cache: bool = False, mend: str = "") -> T:
    """Read a file that the program can do without.

    Args:
        path: The file.
        parse: Returns its content. An error in `DAMAGE` means that the file is damaged.
        default: The content of a missing file.
        cache: Whether its content can be made again, so that a later format is ignored.
        mend: Says what to do about a file that cannot be read; it stays as it is, and the program does not go on.

    Returns:
        The content; `default` also for a damaged file, which is moved aside with a warning.

    Raises:
        SettingsError: A later version wrote the file, or it needs `mend`.

    Example:
        >>> jobs = read_state(folder / "watched.json", msgspec.json.Decoder(list[str]).decode, [])
    """
    try:
        content = retry_in_use(path.read_bytes)
        if later := later_format(path, content):
            if cache:
                return default
            raise SettingsError(later)
        return parse(content)
    except FileNotFoundError:
        return default
    except DAMAGE as error:
        why = str(error)
        if not mend:
            move_aside(path, why)
    except OSError as error:
        why = error.strerror or str(error)
        if not mend:
            logger.warning("{} cannot be read ({}); correct its permissions", path, why)
    if mend:
        raise SettingsError(f"{path} cannot be used ({why}); {mend}")
    return default


async def keep_state(path: Path, content: bytes) -> None:
    """Write a file that the program can do without, also when cancelled; a warning when that is not possible."""
    try:
        await finish_despite_cancel(asyncio.to_thread(write_atomic, path, content, sync=False))
    except OSError as error:
        logger.warning("{} cannot be written: {}", path, error.strerror or error)


def move_aside(path: Path, why: str) -> None:
    """Give a damaged file another name, so that it is not replaced. Without that it stays, with the same warning."""
    names = (path.with_name(f"{path.name}.damaged{number}") for number in ("", *(f"-{n}" for n in range(2, 100))))
    aside = next((name for name in names if not name.exists()), path)
    try:
        path.rename(aside)
    except OSError as error:
        why = f"{why}; {error.strerror or error}"
    logger.warning("{} is damaged ({}); it is now {}, and the program continues without it", path, why, aside.name)
