"""Makes a job's event from its JSON object: the reverse of event_json."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from wakestream.operators.model import events as e
from wakestream.streams.recording.event_json import kind_of

_KINDS: dict[str, type] = {kind_of(each): each for each in typing.get_args(e.JobEvent)}


def event_from(plain: Mapping[str, Any]) -> e.JobEvent | None:
    """Return the event that `plain_event` wrote.

    Args:
        plain: The object.

    Returns:
        The event; None for a kind that this version does not know.

    Raises:
        ValueError: A field is missing or has a wrong type.
    """
    known = _KINDS.get(str(plain.get("event")))
    if known is None:
        return None
    if known is e.Uploaded and isinstance(plain.get("checked"), Mapping):
        plain = {**plain, "checked": _with_inputs(plain["checked"])}
    if known is e.Checked:
        plain = _with_inputs(plain)
    try:
        event: e.JobEvent = msgspec.convert(plain, known, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise ValueError(f"no event of a job: {error}") from None
    return event


def _with_inputs(checked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The files of `Checked` by name; a job of the old shape has them beside the other fields."""
    found = {name: checked[name] for name in ("video", "audio") if name in checked}
    return {"inputs": found, **checked}


def _path(wanted: type, value: Any) -> Any:
    if wanted is Path:
        return Path(value)
    raise NotImplementedError(f"{wanted} in an event")
