"""Checks of uploads and their names. Pure."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final, Literal

from wakestream.adapters.daemon.api.auth import bad_request

Kind = Literal["video", "audio"]

NAME_MOST: Final = 255

ENDINGS: Final[dict[Kind, frozenset[str]]] = {
    "video": frozenset({
        ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".mxf",
    }),
    "audio": frozenset({
        ".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".oga", ".opus", ".wma", ".aif", ".aiff", ".amr", ".ac3",
        ".webm",
    }),
}  # fmt: skip
"""The extensions that engines can read."""

_JOINER = "\N{ZERO WIDTH JOINER}"
"""Invisible, and part of many emojis."""


def checked(body: dict[str, Any]) -> tuple[Kind, str, int]:
    """Kind, name and size of an announced file."""
    kind, name, size = body.get("kind"), body.get("name"), body.get("size")
    if kind not in ("video", "audio") or not isinstance(name, str) or type(size) is not int:
        raise bad_request('send "kind" (video or audio), "name" and "size" in bytes')
    return kind, shown_name(name), size


def shown_name(name: str) -> str:
    """The last part of a file's name, without control characters."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    kept = "".join(char for char in last if char.isprintable() or char == _JOINER)
    head, dot, tail = kept.rpartition(".")
    if len(kept) > NAME_MOST:
        kept = f"{head[: NAME_MOST - 1 - len(tail)]}.{tail}" if dot and len(tail) < 12 else kept[:NAME_MOST]
    return kept or "file"


def ending_of(name: str) -> str:
    """The extension of a name with its dot, in lower case; empty if it is not ASCII."""
    ending = Path(name).suffix.lower()
    return ending if ending.isascii() else ""


def file_name(job: str) -> str:
    """A file name for a job: its id if that is valid and distinct on every system, otherwise a digest of it.

    Windows does not allow names such as `con`; Windows and macOS ignore case.
    """
    plain = job.isascii() and all(char.isalnum() or char in "-_" for char in job) and 4 < len(job) <= 80
    return job if plain and job == job.lower() else hashlib.sha256(job.encode()).hexdigest()[:32]
