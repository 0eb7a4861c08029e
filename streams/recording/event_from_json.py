"""The reverse of event_json: a job's event from its JSON object."""

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
    """The event that `plain_event` made `plain` of; None for a kind that this version does not know.

    `ValueError` when fields are missing or are something else.
    """
    known = _KINDS.get(str(plain.get("event")))
    if known is None:
        return None
    try:
        event: e.JobEvent = msgspec.convert(plain, known, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise ValueError(f"no event of a job: {error}") from None
    return event


def _path(wanted: type, value: Any) -> Any:
    if wanted is Path:
        return Path(value)
    raise NotImplementedError(f"{wanted} in an event")
