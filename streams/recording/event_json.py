"""A job and its events as JSON objects: what `--json` prints, what logs and the API of the daemon have; and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from wakestream.operators.model.events import (
    Checked,
    Done,
    Downloading,
    Job,
    JobEvent,
    Outcome,
    Queued,
    Running,
    Uploaded,
    Waking,
)


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
    event_type: type = type(event)
    return kind_of(event_type)


@cache
def kind_of(event: type) -> str:
    """Return the name of a class of events, as `kind` does."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower()


EVENT_KINDS: Final = tuple(kind_of(event_type) for event_type in get_args(JobEvent))
"""All kinds of events, as the header of a log names them."""

UNNAMED_KINDS: Final = (
    "queued", "waking", "granted", "online", "fingerprinted", "checked", "uploading", "uploaded", "submitted",
    "running", "rendered", "downloading", "retrying", "note", "done", "failed", "timed_out", "cancelled",
)  # fmt: skip
"""The kinds of events of logs whose header does not name them. This list never changes."""

OUTCOME_KINDS: Final = tuple(kind_of(outcome_type) for outcome_type in get_args(Outcome))
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
    Queued: partial(_without, ("until", "retry_in")), Running: partial(_without, ("why",)),
    Waking: partial(_without, ("until", "retry_in")),
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
        return [_plain(item) for item in value]
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, Mapping) else value


_KINDS: dict[str, type] = {kind_of(event): event for event in get_args(JobEvent)}


def event_from(plain: Mapping[str, Any]) -> JobEvent | None:
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
    if known is Uploaded and isinstance(plain.get("checked"), Mapping):
        plain = {**plain, "checked": _with_inputs(plain["checked"])}
    if known is Checked:
        plain = _with_inputs(plain)
    try:
        event: JobEvent = msgspec.convert(plain, known, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise ValueError(f"no event of a job: {error}") from None
    return event


def _with_inputs(checked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The files of `Checked` by name; a job of the old shape has them beside the other fields."""
    inputs = {name: checked[name] for name in ("video", "audio") if name in checked}
    return {"inputs": inputs, **checked}


def _path(wanted: type, value: Any) -> Any:
    if wanted is Path:
        return Path(value)
    raise NotImplementedError(f"{wanted} in an event")


_CHOICES = {"gpus": tuple, "requires": tuple, "priority": int, "again": bool, "overwrite": bool, "unnamed": bool}
"""Fields of a job that are written only where they were chosen, and how each is read."""


def plain_job(job: Job) -> dict[str, Any]:
    """Return a job as JSON, without its id. A job of the old shape has the fields that it always had."""
    inputs = {name: plain_text(path) for name, path in job.inputs.items()}
    more: dict[str, Any] = {name: _plain(said) for name in _CHOICES if (said := getattr(job, name))}
    if job.old_shape:
        return {**inputs, "output": plain_text(job.output), "task_type": job.task_type, **more}
    outputs = {name: plain_text(path) for name, path in job.outputs.items()}
    return {"kind": job.kind, "inputs": inputs, "params": dict(job.params), "outputs": outputs, **more}


def job_from(job_id: str, plain: Mapping[str, Any]) -> Job:
    """Return the job that `plain_job` wrote. Raises `KeyError`, `TypeError` for other objects."""
    if "kind" in plain:
        inputs, outputs = (_paths(plain[name]) for name in ("inputs", "outputs"))
        job = Job(job_id, inputs, outputs, plain["kind"], plain.get("params", {}))
    else:
        video, audio, output = (Path(plain[name]) for name in ("video", "audio", "output"))
        job = Job.lipsync(job_id, video, audio, output, plain["task_type"])
    return replace(job, **{name: read(plain[name]) for name, read in _CHOICES.items() if name in plain})


def _paths(plain: Mapping[str, str]) -> dict[str, Path]:
    return {name: Path(path) for name, path in plain.items()}
