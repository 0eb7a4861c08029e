"""The files that set-up writes: shown as they are written, written once, and removed by `leave`."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from wakestream.adapters.config.setting_files import toml_text
from wakestream.adapters.config.settings import SettingsError, user_folder
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.disk.state_file import later_format

RECORD: Final = "setup.json"
"""The file that lists what set-up has written, in the role's folder."""

ROLES: Final = ("hub", "depot", "monitor", "worker", "client")


def folder_of(role: str, given: Path | None = None) -> Path:
    """The folder of a role's settings: below the user's own folder; the client's is that folder itself.

    Raises:
        SettingsError: Its name has a control character, which would begin a line of its own in the file of a service.
    """
    base = given.expanduser().absolute() if given is not None else user_folder()
    check_words(str(base))
    return base if role == "client" else base / role


def check_words(*words: str, more: str = "") -> None:
    """Check words for the file of a service. `SettingsError`: a control character is in one, or one of `more`."""
    for word in words:
        if any(ord(letter) < 32 or 127 <= ord(letter) < 160 or letter in f"\u2028\u2029{more}" for letter in word):
            raise SettingsError(f"{word[:80]!r} has a character that the file of a service cannot have; leave it out")


@dataclass(slots=True)
class Setup:
    """What set-up has written for one role.

    Attributes:
        role: The role.
        files: Each file's path and the SHA-256 of what was written.
        public: The hub's address for others.
        license: The id of the license at the hub, for `license revoke`.
        arguments: The arguments that the program needs beside its settings.
        code: The public half of the code that was used.
    """

    role: str
    files: dict[str, str] = field(default_factory=dict)
    public: str = ""
    license: str = ""
    arguments: list[str] = field(default_factory=list)
    code: str = ""


@dataclass(frozen=True, slots=True)
class SetupFile:
    """A file to write: its path, its content, and whether it is private to this account."""

    path: Path
    content: str
    private: bool = False


def recorded(folder: Path) -> Setup | None:
    """What set-up has written into this folder, if anything. Raises `SettingsError`: the record is damaged."""
    path = folder / RECORD
    try:
        content = path.read_bytes()
        if later := later_format(path, content):
            raise SettingsError(later)
        return msgspec.convert(orjson.loads(content), Setup)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be used ({error}); move it away, and set up again") from None


def write(folder: Path, setup: Setup, files: Iterable[SetupFile]) -> list[tuple[Path, str]]:
    """Write files, and record them.

    Args:
        folder: The role's folder.
        setup: The record so far.
        files: The files.

    Returns:
        Each path with `written`, or `kept` if it had this content already.

    Raises:
        SettingsError: A file is there that set-up did not write, or cannot be written.
    """
    wanted = list(files)
    for file in wanted:
        if _content(file.path) != file.content.encode():
            check_ours(file.path, setup.files)
    done = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in wanted:
            data = file.content.encode()
            same = _content(file.path) == data
            if not same:
                file.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_atomic(file.path, data, mode=0o600 if file.private else 0o644)
            setup.files[str(file.path)] = _mark(data)
            done.append((file.path, "kept" if same else "written"))
        write_atomic(folder / RECORD, orjson.dumps(msgspec.to_builtins(setup), option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be written ({error.strerror or error}); choose another --folder"
        ) from None
    return done


def check_ours(path: Path, ours: Mapping[str, str]) -> None:
    """Raise `SettingsError` if a file is there that is not as set-up wrote it."""
    if not is_ours(path, ours):
        raise SettingsError(
            f"{path} is there already, and set-up did not write it or it was changed since; "
            "move it away, or give --folder"
        )


def is_ours(path: Path, ours: Mapping[str, str]) -> bool:
    """Whether a file is missing or as set-up wrote it."""
    content = _content(path)
    return content is None or ours.get(str(path)) == _mark(content)


def remove(folder: Path, setup: Setup) -> list[tuple[Path, str]]:
    """Remove what set-up wrote; returns each path with `removed`, or `changed` for a file that was changed since."""
    done = []
    for name, mark in setup.files.items():
        path = Path(name)
        content = _content(path)
        if content is not None and _mark(content) != mark:
            done.append((path, "changed"))
            continue
        path.unlink(missing_ok=True)
        done.append((path, "removed"))
    (folder / RECORD).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other files are in it
        folder.rmdir()
    return done


def toml(heading: str, values: Mapping[str, Any]) -> str:
    """Settings as `wakestream.toml`; values of None are left out."""
    lines = [f"# {heading}"]
    for name, value in values.items():
        if value is not None:
            lines.append(f"{name} = {toml_text(str(value) if isinstance(value, Path) else value)}")
    return "\n".join(lines) + "\n"


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror or error})") from None


def _mark(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
