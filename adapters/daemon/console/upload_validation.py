"""What a file must be like to be taken, and what it may be called. Pure."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final, Literal

from wakestream.adapters.daemon.api.auth import ApiError

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
"""What engines are known to read."""

_JOINER = "\N{ZERO WIDTH JOINER}"
"""Invisible, and part of many an emoji."""


def checked(body: dict[str, Any]) -> tuple[Kind, str, int]:
    """Kind, name and size of an announcement."""
    kind, name, size = body.get("kind"), body.get("name"), body.get("size")
    if (
        kind not in ("video", "audio")
        or not isinstance(name, str)
        or isinstance(size, bool)
        or not isinstance(size, int)
    ):
        raise ApiError(400, "bad_request", 'send "kind" (video or audio), "name" and "size" in bytes')
    return kind, shown_name(name), size


def shown_name(name: str) -> str:
    """A file's name as it may be shown: its last part, without what a page or a terminal would act on."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    kept = "".join(char for char in last if char.isprintable() or char == _JOINER)
    head, dot, tail = kept.rpartition(".")
    if len(kept) > NAME_MOST:
        kept = f"{head[: NAME_MOST - 1 - len(tail)]}.{tail}" if dot and len(tail) < 12 else kept[:NAME_MOST]
    return kept or "file"


def ending_of(name: str) -> str:
    """A name's ending with its dot, in lower case; empty where it is nothing that we know."""
    ending = Path(name).suffix.lower()
    return ending if ending.isascii() else ""


def in_words(count: int) -> str:
    """A size for people."""
    value, unit = float(count), "bytes"
    for bigger in ("kB", "MB", "GB", "TB"):
        if value < (1000 if unit == "bytes" else 999.95):
            break
        value, unit = value / 1000, bigger
    return f"{value:.1f} {unit}" if unit != "bytes" else f"{count} bytes"


def file_name(job: str) -> str:
    """A name for a file of that job: as it is where every system takes it and tells it apart, else a digest of it.

    Windows has no files of the name `con` or `com1`, and takes `A` for `a`, as macOS does.
    """
    plain = job.isascii() and all(char.isalnum() or char in "-_" for char in job) and 4 < len(job) <= 80
    plain = plain and job == job.lower()
    return job if plain else hashlib.sha256(job.encode()).hexdigest()[:32]
