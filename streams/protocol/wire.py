"""Converts frames to messages and back, by the fields that `messages.py` declares.

`decode` accepts what deployed peers send (old names, both spellings, unknown fields), and raises `Malformed` with a
sentence for the author of the frame. `encode` leaves out fields without a value, so old peers get no additions.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import orjson

from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.messages import MAX_ID, MAX_URL
from wakestream.streams.protocol.structs import fault_of, needed

MAX_FRAME = 64 * 1024
"""The largest frame, in bytes, that a program accepts."""

MAX_DEPTH = 100
"""The deepest nesting of a frame. It may be passed on, and encoders have limits, too."""


class Malformed(ValueError):
    """The peer's frame does not follow the protocol; `str()` says what to send instead."""


BARE = frozenset({"gpu.job.submit", "gpu_task", "url"})
"""Types that deployed hubs copy to monitors without required fields: there they are `Unknown`, not malformed."""


class _Kind(NamedTuple):
    """How a type of frame is read and written: the names of its fields."""

    message: type[m.Message]
    required: frozenset[str]
    constants: dict[str, str]
    outer: tuple[str, ...]
    inner: tuple[str, ...]
    lists: frozenset[str]


def _kind_of(message: type[m.Message]) -> _Kind:
    fields = msgspec.structs.fields(message)
    inner = tuple(field.name for field in fields if "data" in getattr(field.type, "__metadata__", ()))
    return _Kind(
        message,
        frozenset(field.name for field in fields if field.required),
        {"type": message.TYPE, **message.ENVELOPE},
        tuple(field.name for field in fields if field.name not in inner),
        inner,
        frozenset(field.name for field in fields if needed(field.type).startswith("a list")),
    )


KNOWN: tuple[type[m.Message], ...] = (*m.KNOWN, *d.KNOWN)
"""All types of messages."""

_KINDS = {message: _kind_of(message) for message in KNOWN}
_BY_NAME = {name: kind for kind in _KINDS.values() for name in (kind.message.TYPE, kind.message.OLD) if name}

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
    kind = _BY_NAME.get(name)
    if kind is None:
        return m.Unknown(type=name[:MAX_ID], frame=frame)
    inner = frame.get("data") if kind.inner else None
    data = _present(inner, kind.required, kind.inner) if isinstance(inner, dict) else {}
    outer = frame
    if None in frame.values() or "" in frame.values():
        outer = _present(frame, kind.required, frame)
    while True:
        try:
            return msgspec.convert({**outer, **data} if data else outer, kind.message)
        except msgspec.ValidationError as error:
            field, fault = fault_of(kind.message, error)
        if field in kind.required and fault.startswith("is missing") and name in BARE and not strict:
            return m.Unknown(type=name, frame=frame)
        if strict or field in kind.required or not (field in data or field in outer):
            raise Malformed(f'{name}: "{field}" {fault}')
        if field in data:  # of an old hub: it counts as absent
            del data[field]
        else:
            outer = {key: value for key, value in outer.items() if key != field}


def _present(frame: Mapping[str, Any], required: Container[str], names: Container[str]) -> dict[str, Any]:
    """Those fields of the `names` that have a value: null and an empty text count as absent."""
    return {
        key: value
        for key, value in frame.items()
        if key in names and value is not None and (value != "" or key in required)
    }


def to_frame(message: m.Message) -> dict[str, Any]:
    """Return a message as the JSON object of its frame. Fields without a value are left out."""
    if isinstance(message, m.Unknown):
        return dict(message.frame)
    kind = _KINDS[type(message)]
    frame: dict[str, Any] = kind.constants.copy()
    _write(frame, message, kind.outer, kind.lists)
    if kind.inner:
        data: dict[str, Any] = {}
        _write(data, message, kind.inner, kind.lists)
        if data:
            frame["data"] = data
    return frame


def _write(into: dict[str, Any], message: m.Message, names: Iterable[str], lists: Container[str]) -> None:
    for name in names:
        if (value := getattr(message, name)) is not None:
            into[name] = value if name not in lists else [_plain(item) for item in value]


def _plain(item: Any) -> Any:
    return msgspec.to_builtins(item) if isinstance(item, msgspec.Struct) else item


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
