"""A job's events as JSON objects: what `--json` prints and what the log keeps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, get_args

from wakestream.operators.model.events import Checked, Done, Downloading, JobEvent, Outcome, Queued, Waking


def kind(event: JobEvent) -> str:
    """Return the name of an event, in lower case with underscores.

    Example:
        >>> kind(TimedOut("reply", 30.0))
        'timed_out'

    Args:
        event: The event.

    Returns:
        The name.
    """
    found: type = type(event)
    return kind_of(found)


@cache
def kind_of(event: type) -> str:
    """Return the name of a class of events, as `kind` does."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower()


EVENT_KINDS: Final = tuple(kind_of(each) for each in get_args(JobEvent))
"""All kinds of events, as the header of a log names them."""

UNNAMED_KINDS: Final = (
    "queued", "waking", "granted", "online", "fingerprinted", "checked", "uploading", "uploaded", "submitted",
    "running", "rendered", "downloading", "retrying", "note", "done", "failed", "timed_out", "cancelled",
)  # fmt: skip
"""The kinds of events of logs whose header does not name them. This list never changes."""

OUTCOME_KINDS: Final = tuple(kind_of(each) for each in get_args(Outcome))
"""Kinds of the events that end a job: `done`, `failed`, `timed_out`, `cancelled`."""


def plain_text(value: Path | str) -> str:
    """A path, or a sentence with a path, as text for any encoding: undecodable bytes are written as `\\udcNN`."""
    return str(value).encode(errors="backslashreplace").decode()


def plain_event(event: JobEvent) -> dict[str, Any]:
    """Return an event as a JSON object.

    Example:
        >>> plain_event(Uploading(5, 10, "a.mp4"))
        {'event': 'uploading', 'bytes': 5, 'of': 10, 'name': 'a.mp4'}

    Args:
        event: The event.

    Returns:
        Its fields; `event` is its kind. Times are seconds, sizes are bytes.
    """
    return _plain_fields(event, {"event": kind(event)})


_NAMES: dict[type, tuple[str, ...]] = {}


def _plain_fields(value: Any, plain: dict[str, Any]) -> dict[str, Any]:
    """Add the fields of `value` to `plain`. A waiting job emits thousands of events, so the common case comes first."""
    kind = type(value)
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = tuple(field.name for field in fields(kind))
    for name in names:
        item = getattr(value, name)
        of = type(item)
        plain[name] = item if of in _UNCHANGED or (of is str and item.isascii()) else _plain(item)
    if kind in _AS_BEFORE:
        _AS_BEFORE[kind](plain)
    return plain


def _old_checked(plain: dict[str, Any]) -> None:
    if [*plain["inputs"]] == ["video", "audio"]:
        plain |= plain.pop("inputs")


def _without(names: tuple[str, ...], plain: dict[str, Any]) -> None:
    for name in names:
        if not plain[name]:
            del plain[name]


_AS_BEFORE: Final[Mapping[type, Callable[[dict[str, Any]], None]]] = {
    Checked: _old_checked, Done: partial(_without, ("files", "absent")), Downloading: partial(_without, ("name",)),
    Queued: partial(_without, ("until", "retry_in")), Waking: partial(_without, ("until", "retry_in")),
}  # fmt: skip
"""A job of a video and an audio file has the fields that it had before there were other kinds and budgets."""


_UNCHANGED = frozenset({int, bool, type(None)})


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is float:
        return round(value, 3)
    if kind in _UNCHANGED or (kind is str and value.isascii()):
        return value
    if is_dataclass(value):
        return _plain_fields(value, {})
    if isinstance(value, Path | str):
        return plain_text(value)
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return {name: _plain(each) for name, each in value.items()} if isinstance(value, Mapping) else value
