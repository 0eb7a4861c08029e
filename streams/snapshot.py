"""A state as rows of JSON, and back: a journal is cut down to them, and the log of a running program begins with them.

The annotations of the state's class say what is in it, so no second list of its fields can become untrue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from wakestream.operators.model.errors import JournalError

S = TypeVar("S")

LONGEST: Final = 1_000_000
"""Bytes of a row, unless a single item has more."""

_UNREADABLE = "use the version of wakestream that wrote it, or restore a backup"

Copy = Callable[[Any], Any]


class _Row(msgspec.Struct):
    """Some items of one field, which is named by its path."""

    field: str
    items: msgspec.Raw


class _Field(NamedTuple):
    """One field: how its value is copied, and how the items of its rows are made and read."""

    copy: Copy
    items: Callable[[Any], Iterable[Any]]
    value: Callable[[list[Any]], Any]
    decode: Callable[[msgspec.Raw], list[Any]]


class Snapshot(Generic[S]):
    """Converts the durable part of a state to rows and back.

    A field of a dataclass is copied with what is in it; a struct, a tuple and a `Mapping` must never be changed, and
    are shared with the state. A field with `compare=False` is an index, and left out.

    Args:
        durable: The class of the durable part, a dataclass.
        state: The class of the whole state, if it is another one that inherits from `durable`.

    Example:
        >>> snapshot = Snapshot(Counter)
        >>> snapshot.restore(snapshot.rows(Counter(5)), Counter())
        Counter(5)
    """

    def __init__(self, durable: type[Any], state: type[S] | None = None) -> None:
        self._fields = dict(_fields_of(durable, state or durable, ""))
        self._encode = msgspec.json.Encoder(enc_hook=plain_path).encode
        self._row = msgspec.json.Decoder(_Row)

    def rows(self, state: S) -> Iterator[bytes]:
        """Copy what can change now, and return an iterator that encodes it; another thread may use that."""
        copies = {name: field.copy(_get(state, name)) for name, field in self._fields.items()}
        return self._encoded(copies)

    def restore(self, rows: Iterable[bytes], state: S) -> S:
        """Set the fields of `state` to what the rows say; a field without rows stays.

        Raises:
            JournalError: A row cannot be read.
        """
        items_by_field: dict[str, list[Any]] = {}
        for data in rows:
            try:
                row = self._row.decode(data)
                items_by_field.setdefault(row.field, []).extend(self._fields[row.field].decode(row.items))
            except KeyError as error:
                raise JournalError(f"the state has {error}, which this version does not know; {_UNREADABLE}") from None
            except msgspec.MsgspecError as error:
                raise JournalError(f"a row of the state cannot be read ({error}); {_UNREADABLE}") from error
        for name, items in items_by_field.items():
            path, _, last = name.rpartition(".")
            setattr(_get(state, path), last, self._fields[name].value(items))
        return state

    def _encoded(self, copies: Mapping[str, Any]) -> Iterator[bytes]:
        for name, value in copies.items():
            parts: list[bytes] = []
            size = 0
            for item in self._fields[name].items(value):
                part = self._encode(item)
                if parts and size + len(part) > LONGEST:
                    yield _row(name, parts)
                    parts, size = [], 0
                parts.append(part)
                size += len(part) + 1
            yield _row(name, parts)


def _row(name: str, parts: list[bytes]) -> bytes:
    return b'{"field":"%b","items":[%b]}' % (name.encode(), b",".join(parts))


def _get(state: Any, path: str) -> Any:
    return reduce(getattr, path.split("."), state) if path else state


def _fields_of(durable: type[Any], state: type[Any], path: str) -> Iterator[tuple[str, _Field]]:
    hints, types = get_type_hints(durable), get_type_hints(state)
    for field in fields(durable):
        hint = hints[field.name]
        name = path + field.name
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _fields_of(hint, types[field.name], f"{name}.")
        elif field.compare:
            yield name, _field(hint, types[field.name])


def _field(hint: Any, read_as: Any) -> _Field:
    origin, copy = get_origin(hint), _copier(hint) or _same
    args = get_args(read_as if get_origin(read_as) is origin else hint)
    if origin is dict:
        return _Field(copy, lambda value: value.items(), dict, _decoder(list[tuple[args]]))  # type: ignore[valid-type]
    if origin in (list, set):
        return _Field(copy, iter, origin, _decoder(list[args]))  # type: ignore[valid-type]
    return _Field(copy, lambda value: (value,), lambda items: items[0], _decoder(list[read_as]))


def _decoder(kind: Any) -> Callable[[msgspec.Raw], list[Any]]:
    decode: Callable[[msgspec.Raw], list[Any]] = msgspec.json.Decoder(kind, dec_hook=path_from).decode
    return decode


def _copier(hint: Any) -> Copy | None:
    """How a value of this type is copied; None if it never changes."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is dict:
        of_value = _copier(args[1])
        return dict if of_value is None else lambda value: {key: of_value(item) for key, item in value.items()}
    if origin in (list, set):
        of_item = _copier(args[0])
        return list if of_item is None else lambda value: [of_item(item) for item in value]
    if isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint)
        parts = [(field.name, _copier(hints[field.name]) or _same) for field in fields(hint) if field.compare]
        return lambda value: {name: copy(getattr(value, name)) for name, copy in parts}
    return None


def _same(value: Any) -> Any:
    return value


def plain_path(value: Any) -> Any:
    """A path as text, for msgspec. Raises `NotImplementedError` for other types that JSON does not know."""
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"facts and states cannot hold a {type(value).__name__}")


def path_from(kind: type, value: Any) -> Any:
    """The reverse of `plain_path`."""
    if issubclass(kind, Path) and isinstance(value, str):
        return kind(value)
    raise NotImplementedError(f"facts and states cannot hold a {kind.__name__}")
