"""Checks of uploads and their names. Pure."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final, Literal

from wakestream.adapters.daemon.api.auth import bad_request

Kind = Literal["video", "audio"]

NAME_MOST: Final = 255

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


def result_key(path: Path) -> str:
    """What the files of one job in the folder of the results have in common: their names up to the first dot."""
    return path.name.partition(".")[0]


def names_beside(output: Path) -> Path:
    """The file with the user's names of a job's inputs, in the folder of its results."""
    return output.with_name(f"{result_key(output)}.json")
