"""The names of results: made from a pattern, and allowed on every system."""

from __future__ import annotations

import re
import time
from typing import Final, NamedTuple

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
    return legal(_FIELD.sub(lambda found: str(parts[found[1]]), pattern))


def legal(name: str) -> str:
    """A name that Windows, macOS and Linux allow, and that names no folder."""
    name = _ILLEGAL.sub("_", name).strip(" ").lstrip(".").encode()[:BYTES_MOST].decode(errors="ignore").rstrip(". ")
    return f"_{name}" if not name or _RESERVED.fullmatch(name) else name
