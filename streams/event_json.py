"""A job's events as JSON objects: what `--json` prints and what the log keeps."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wakestream.operators.events import JobEvent


def kind(event: JobEvent) -> str:
    """The event's name in lower case with underscores (`TimedOut` is `timed_out`)."""
    return _word(type(event).__name__)


@cache
def _word(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def plain_text(value: Path | str) -> str:
    """A path, or a sentence with one in it, as text that every encoding takes.

    Bytes of a name that are no text appear as `\\udcNN`.
    """
    return str(value).encode(errors="backslashreplace").decode()


def plain_event(event: JobEvent) -> dict[str, Any]:
    """One event as an object; `event` is its kind, times are seconds, sizes bytes."""
    return {"event": kind(event), **_plain_fields(event)}


_NAMES: dict[type, tuple[str, ...]] = {}


def _plain_fields(value: Any) -> dict[str, Any]:
    kind = type(value)
    if kind not in _NAMES:  # a job that waits says thousands of one kind
        _NAMES[kind] = tuple(field.name for field in fields(kind))
    return {name: _plain(getattr(value, name)) for name in _NAMES[kind]}


def _plain(value: Any) -> Any:
    kind = type(value)
    if value is None or kind is int or kind is bool or (kind is str and value.isascii()):
        return value
    if kind is float:
        return round(value, 3)
    if is_dataclass(value):
        return _plain_fields(value)
    if isinstance(value, Path | str):
        return plain_text(value)
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return dict(value) if hasattr(value, "items") else value
