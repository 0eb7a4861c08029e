"""The settings that the page changes and the daemon keeps, in a small file in its state folder."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from loguru import logger

from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.disk.full_disk import is_full
from wakestream.adapters.disk.state_file import read_state

# The names of results: made from a pattern, and allowed on every system.

DEFAULT: Final = "{name}"
PATTERN_MOST: Final = 100
BYTES_MOST: Final = 180
"""Bytes of a name without its ending: file systems allow 255 for all of it."""

FIELDS: Final = ("name", "date", "kind", "job")

_FIELD = re.compile(r"\{([^{}]*)\}")
_ILLEGAL = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


class ResultName(NamedTuple):
    """What a pattern is filled with: the names of the inputs, the job's kind and id, its start in UNIX seconds."""

    name: str
    kind: str
    job: str
    at: float


def fault_of(pattern: str) -> str:
    """Why a pattern cannot be used, as a word; empty if it can.

    Example:
        >>> fault_of("{date} {name}")
        ''
        >>> fault_of("../{name}")
        'pattern_characters'
    """
    rest = _FIELD.sub("", pattern)
    fields = _FIELD.findall(pattern)
    if not set(fields) <= set(FIELDS) or "{" in rest or "}" in rest:
        return "pattern_field"
    if not {"name", "job"} & set(fields):
        return "pattern_unique"
    if _ILLEGAL.search(rest) or not rest.isprintable() or pattern.startswith(".") or pattern.endswith((".", " ")):
        return "pattern_characters"
    return "pattern_long" if len(pattern) > PATTERN_MOST else ""


def filled(pattern: str, values: ResultName) -> str:
    """The name of a result without its ending.

    Example:
        >>> filled("{kind}-{name}", ResultName("a/b", "lipsync", "job-1", 0.0))
        'lipsync-a_b'
    """
    parts = {**values._asdict(), "date": time.strftime("%Y-%m-%d", time.localtime(values.at))}
    return legal(_FIELD.sub(lambda match: str(parts[match[1]]), pattern))


def legal(name: str) -> str:
    """A name that Windows, macOS and Linux allow, and that names no folder."""
    name = _ILLEGAL.sub("_", name).strip(" ").lstrip(".").encode()[:BYTES_MOST].decode(errors="ignore").rstrip(". ")
    return f"_{name}" if not name or _RESERVED.fullmatch(name) else name


FILE: Final = "preferences.json"
AT_ONCE_MOST: Final = 200
_PROGRAMS: Final = {"appdata", "startup", "launchagents", "launchdaemons"}
"""Folders of Windows and macOS whose files may be run."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """`output_folder` gets a copy of each result, if it is not empty. `at_once` limits the running jobs from the next
    start of the daemon on; 0: the limit in its flags, which also is the highest one."""

    output_folder: str = ""
    name_pattern: str = DEFAULT
    at_once: int = 0

    def plain(self) -> dict[str, Any]:
        """For the page and the file."""
        return asdict(self)


def load(state: Path) -> Preferences:
    """The settings in the state folder; the defaults in place of those that are missing or invalid."""
    plain: dict[str, Any] = read_state(state / FILE, msgspec.json.Decoder(dict[str, Any]).decode, {})
    try:
        return Preferences(**_valid(plain))
    except ApiError as error:
        logger.warning("{} cannot be used: {}; the defaults apply", state / FILE, error)
        return Preferences()


def save(state: Path, plain: Mapping[str, Any]) -> Preferences:
    """Check and store settings. `ApiError` says which cannot be used."""
    preferences = replace(load(state), **_valid(plain))
    if preferences.output_folder:
        check_folder(Path(preferences.output_folder), state)
    try:
        write_atomic(state / FILE, orjson.dumps(preferences.plain()))
    except OSError as error:
        if is_full(error):
            raise ApiError(507, "no_space", "the disk is full; free some space, then save again") from None
        raise ApiError(500, "disk", f"the settings cannot be written: {error.strerror or error}") from None
    return preferences


def _valid(plain: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: plain[name] for name in Preferences().plain() if name in plain}
    folder, pattern, at_once = (known.get(name) for name in Preferences().plain())
    if folder is not None and (not isinstance(folder, str) or "\0" in folder):
        raise ApiError(400, "folder_missing", "the folder for results must be a text")
    if folder:
        path = Path(folder.strip())
        with suppress(RuntimeError):  # `~name` of an unknown user
            path = path.expanduser()
        known["output_folder"] = str(path)
    if pattern is not None:
        fault = fault_of(pattern) if isinstance(pattern, str) else "pattern_field"
        if fault:
            raise ApiError(400, fault, f"the name pattern {str(pattern)[:40]!r} cannot be used: {fault}")
    if at_once is not None and (type(at_once) is not int or not 0 <= at_once <= AT_ONCE_MOST):
        raise ApiError(400, "at_once", f"give a whole number of jobs from 1 to {AT_ONCE_MOST}", count=AT_ONCE_MOST)
    return known


def check_folder(folder: Path, state: Path) -> None:
    """`ApiError` if results cannot or must not be saved in the folder.

    A result has its name and content from other machines, so it must not get where programs look for theirs.
    """
    is_folder = False
    with suppress(OSError):  # its name is too long, or a folder above it is closed
        is_folder = folder.is_dir()
    if not folder.is_absolute() or not is_folder:
        raise ApiError(400, "folder_missing", f"{folder} is no folder; give the full path of one that exists")
    real = folder.resolve()
    hidden = any(part.startswith(".") or part.lower() in _PROGRAMS for part in real.parts)
    if hidden or real.is_relative_to(state.resolve()):
        raise ApiError(400, "folder_private", f"{folder} is for the files of programs; choose another folder")
    try:
        handle, probe = tempfile.mkstemp(prefix=".wakestream-", dir=real)
        os.close(handle)
        Path(probe).unlink()
    except OSError as error:
        raise ApiError(400, "folder_readonly", f"{folder} cannot be written: {error.strerror or error}") from None
