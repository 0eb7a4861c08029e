"""Converts frames to messages and back, by the fields that `messages.py` declares.

`decode` accepts what deployed peers send (old names, both spellings, unknown fields), and raises `Malformed` with a
sentence for the author of the frame. `encode` leaves out fields without a value, so old peers get no additions.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import msgspec
import orjson

from wakestream.streams.protocol import messages as m

MAX_FRAME = 64 * 1024
"""The largest frame, in bytes, that a program accepts."""

MAX_DEPTH = 100
"""The deepest nesting of a frame. It may be passed on, and encoders have limits, too."""

MAX_ID = 200
"""The longest request id or task id, in characters."""

MAX_URL = 2000
"""The longest address, in characters; hubs repeat a worker's address in many frames."""


class Malformed(ValueError):
    """The peer's frame does not follow the protocol; `str()` says what to send instead."""


_OBJECT = "an object"
_WORDS: dict[type, str] = {str: "a string", int: "a whole number", bool: "true or false", float: "a number"}


def _checker(annotation: Any) -> tuple[Callable[[Any], bool], str]:
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        inner = next(arg for arg in typing.get_args(annotation) if arg is not type(None))
        check, word = _checker(inner)
        return (lambda value: value is None or check(value)), word
    if origin is tuple:
        check, word = _checker(typing.get_args(annotation)[0])
        return (lambda value: isinstance(value, list) and all(map(check, value))), f"a list, each {word}"
    if origin is not None and issubclass(origin, Mapping):
        return (lambda value: isinstance(value, dict)), _OBJECT
    if annotation is int:
        return (lambda value: type(value) is int), _WORDS[int]
    if annotation is float:
        return (lambda value: type(value) in (int, float)), _WORDS[float]
    return (lambda value: isinstance(value, annotation)), _WORDS[annotation]


BARE = frozenset({"gpu.job.submit", "gpu_task", "url"})
"""Types that deployed hubs copy to monitors without required fields: there they are `Unknown`, not malformed."""

_EXACT: dict[str, type] = {word: kind for kind, word in _WORDS.items()} | {_OBJECT: dict}


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    name: str
    nested: bool
    required: bool
    check: Callable[[Any], bool]
    word: str
    listed: bool
    exact: type | None  # a value of exactly this type (text: up to `limit`) needs no other check
    limit: int


def _field(field: msgspec.structs.FieldInfo) -> _Field:
    nested = typing.get_origin(field.type) is typing.Annotated
    check, word = _checker(typing.get_args(field.type)[0] if nested else field.type)
    listed = word.startswith("a list")
    return _Field(field.name, nested, field.required, check, word, listed, _EXACT.get(word), _limit(field.name))


def _written(kind: type[m.Message]) -> tuple[dict[str, str], tuple[str, ...], tuple[str, ...], frozenset[str]]:
    """The constants of a frame, the names of its fields at the top and in `data`, and which of them are lists."""
    fields = _FIELDS[kind].values()
    outer, inner = (tuple(one.name for one in fields if one.nested is nested) for nested in (False, True))
    return {"type": kind.TYPE, **kind.ENVELOPE}, outer, inner, frozenset(one.name for one in fields if one.listed)


def _limit(name: str) -> int:
    return MAX_ID if name.endswith("_id") else MAX_URL if name == "url" else MAX_FRAME


_FIELDS: dict[type, dict[str, _Field]] = {
    kind: {one.name: _field(one) for one in msgspec.structs.fields(kind)} for kind in m.KNOWN
}
_WRITTEN = {kind: _written(kind) for kind in m.KNOWN}


_Read = tuple[type[m.Message], dict[str, _Field], dict[str, _Field], tuple[str, ...]]


def _read_as(kind: type[m.Message]) -> _Read:
    """All fields of a kind by name, those that may be in `data`, and the names of the required ones."""
    fields = _FIELDS[kind]
    nested = {name: one for name, one in fields.items() if one.nested}
    return kind, fields, nested, tuple(sorted(one.name for one in fields.values() if one.required))


_BY_NAME: dict[str, _Read] = {kind.TYPE: _read_as(kind) for kind in m.KNOWN}
_BY_NAME.update({kind.OLD: _read_as(kind) for kind in m.KNOWN if kind.OLD})


_MADE_IDS = {
    "gpu.job.submit": "gt_", "gpu_task": "gt_", "gpu.power.boot": "boot_", "gpu.status.query": "sq_",
    "chatglm_video": "cv_", "mobile_task": "mt_",
}  # fmt: skip
"""Types that clients may send without a `request_id`, and the start of the id that a hub makes for them."""


def decode(text: str | bytes, *, strict: bool = True, make_id: Callable[[str], str] | None = None) -> m.Message:
    """Read one frame.

    Args:
        text: The frame.
        strict: False for clients: an optional field of a wrong type counts as absent, because old hubs differ there.
        make_id: For hubs: makes the `request_id` that old clients leave out, from the start of the id.

    Returns:
        The message; `Unknown` for an unknown type.

    Raises:
        Malformed: The text is not a valid frame.
    """
    if len(text) > MAX_DEPTH and size(text) > MAX_FRAME:
        raise Malformed(f"a frame may have {MAX_FRAME} bytes at most, this one has {size(text)}")
    try:
        frame = orjson.loads(text)
    except ValueError:
        return _bare(text)
    if isinstance(frame, str):
        return _bare(frame)
    if len(text) > MAX_DEPTH and _brackets(text) > MAX_DEPTH and is_deeper(frame, MAX_DEPTH):
        raise Malformed(f"a frame may be nested {MAX_DEPTH} deep at most")
    if not isinstance(frame, dict):
        raise Malformed(f"a frame is a JSON object, this is {_kind(frame)}")
    if make_id is not None and frame.get("request_id") in (None, ""):
        kind = frame.get("type")
        if isinstance(kind, str) and kind in _MADE_IDS:
            frame["request_id"] = make_id(_MADE_IDS[kind])
    return from_frame(frame, strict=strict)


def size(text: str | bytes) -> int:
    """Return the bytes of a frame on the wire."""
    return len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode(errors="surrogatepass"))


def weight(job: m.Submit) -> int:
    """Return the bytes of the parts of a job that may be long; this is fast, and the rest of its frame is short."""
    return len(orjson.dumps((job.task_type, job.payload)))


def _bare(text: str | bytes) -> m.Message:
    plain = (text if isinstance(text, bytes) else text.encode(errors="replace")).decode(errors="replace").strip()
    if plain.startswith(("http://", "https://")) and len(plain) <= MAX_URL:
        return m.Url(url=plain)
    raise Malformed("a frame is a JSON object in UTF-8; this does not parse as one")


def _brackets(text: str | bytes) -> int:
    """At least the nesting of the frame; fast."""
    if isinstance(text, bytes):
        return text.count(b"{") + text.count(b"[")
    return text.count("{") + text.count("[")


def is_deeper(value: Any, levels: int) -> bool:
    """Whether JSON is nested deeper than this many levels."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inner is not None and (levels == 0 or any(is_deeper(item, levels - 1) for item in inner))


def _kind(value: Any) -> str:
    return (
        "null" if value is None else {"list": "a list", "bool": "true or false"}.get(type(value).__name__, "a number")
    )


def from_frame(frame: Mapping[str, Any], *, strict: bool = True) -> m.Message:
    """Return a parsed frame as a message, see `decode`."""
    name = frame.get("type")
    if not isinstance(name, str) or not name:
        raise Malformed('a frame needs "type", a string such as "gpu.job.submit"')
    known = _BY_NAME.get(name)
    if known is None:
        return m.Unknown(type=name[:MAX_ID], frame=frame)
    kind, fields, nested, required = known
    values: dict[str, Any] = {}
    _read(values, name, fields, frame, strict)
    inner = frame.get("data")
    if nested and isinstance(inner, dict):
        _read(values, name, nested, inner, strict)
    for lacking in required:
        if lacking not in values:
            if not strict and name in BARE:
                return m.Unknown(type=name, frame=frame)
            raise Malformed(f'{name}: "{lacking}" is missing, {fields[lacking].word} is needed')
    return kind(**values)


def _read(
    values: dict[str, Any], name: str, fields: Mapping[str, _Field], frame: Mapping[str, Any], strict: bool
) -> None:
    """Read `fields` from a frame, or from its `data` object; `name` is the frame's type."""
    for key, value in frame.items():
        field = fields.get(key)
        if field is None:
            continue
        if type(value) is field.exact and (field.exact is not str or 0 < len(value) <= field.limit):  # type: ignore[arg-type]
            values[key] = value
        elif value is not None and (value != "" or field.required):
            _read_checked(values, name, field, value, strict)


def _read_checked(values: dict[str, Any], name: str, field: _Field, value: Any, strict: bool) -> None:
    fault = _fault(field, value)
    if fault and (strict or field.required):
        raise Malformed(f'{name}: "{field.name}" {fault}')
    if not fault:
        values[field.name] = tuple(value) if field.listed else value


def _fault(field: _Field, value: Any) -> str | None:
    if not field.check(value):
        return f"must be {field.word}"
    if field.name.endswith("_id") and not 0 < len(value) <= field.limit:
        return f"must have 1 to {field.limit} characters"
    if field.name == "url" and len(value) > field.limit:
        return f"must have {field.limit} characters at most"
    return None


def to_frame(message: m.Message) -> dict[str, Any]:
    """Return a message as the JSON object of its frame. Fields without a value are left out."""
    if isinstance(message, m.Unknown):
        return dict(message.frame)
    constants, outer, inner, lists = _WRITTEN[type(message)]
    frame: dict[str, Any] = constants.copy()
    _write(frame, message, outer, lists)
    if inner:
        data: dict[str, Any] = {}
        _write(data, message, inner, lists)
        if data:
            frame["data"] = data
    return frame


def _write(into: dict[str, Any], message: m.Message, names: Iterable[str], lists: Container[str]) -> None:
    for name in names:
        if (value := getattr(message, name)) is not None:
            into[name] = value if name not in lists else list(value)


def octets(message: m.Message) -> bytes:
    """Return a message as the bytes of a text frame."""
    return orjson.dumps(to_frame(message))


def encode(message: m.Message) -> str:
    """Return a message as the text of a frame."""
    return octets(message).decode()


def encode_old(message: m.Message) -> str | None:
    """Return a message under its older name, for old peers; None if it has no older name."""
    if message.OLD is None:
        return None
    frame = to_frame(message)
    inner = frame.pop("data", {})
    if "msg" in inner:
        frame["msg"] = inner["msg"]
    return orjson.dumps({**frame, "type": message.OLD}).decode()
