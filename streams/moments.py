"""Times from which durations are counted. When the wall clock is set, all of them are moved by as much. Pure.

The type of a field says that it is such a time, so no list of these fields can miss one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import replace

Moment = Annotated[float, "moved when the clock is set"]
"""A time in UNIX seconds, as far as the clock knew it then."""

Move = Callable[[float], float]
Mover = Callable[[Any, Move], Any]


def mover(kind: Any) -> Mover | None:
    """Return how the moments in a value of this type are moved; None if it has none.

    Args:
        kind: A dataclass, which is changed in place, or the type of a field: what it contains is made again.

    Example:
        >>> mover(dict[str, Moment])({"a": 5.0}, lambda at: at + 1)
        {'a': 6.0}
    """
    origin, args = get_origin(kind), get_args(kind)
    if kind == Moment:
        return lambda at, move: move(at)
    if origin in (Union, UnionType):
        return _optional(next(filter(None, map(mover, args)), None))
    if origin is dict and (of_value := mover(args[1])) is not None:
        return lambda values, move: {key: of_value(value, move) for key, value in values.items()}
    if origin is list and (of_item := mover(args[0])) is not None:
        return lambda items, move: [of_item(item, move) for item in items]
    if origin is tuple and ... not in args:
        return _tuple([mover(arg) for arg in args])
    return _fields(kind) if isinstance(kind, type) else None


def _optional(inner: Mover | None) -> Mover | None:
    return inner and (lambda value, move: None if value is None else inner(value, move))


def _tuple(movers: list[Mover | None]) -> Mover | None:
    if not any(movers):
        return None
    return lambda values, move: tuple(
        value if of_value is None else of_value(value, move) for value, of_value in zip(values, movers, strict=True)
    )


def _fields(kind: type) -> Mover | None:
    if not (is_dataclass(kind) or issubclass(kind, Struct)):
        return None
    hints = get_type_hints(kind, include_extras=True)
    movers = [(name, of_field) for name, hint in hints.items() if (of_field := mover(hint)) is not None]
    plain = [name for name, hint in hints.items() if hint in (Moment, Moment | None)]
    movers = [(name, of_field) for name, of_field in movers if name not in plain]

    def moved(value: Any, move: Move) -> Any:
        changes: dict[str, Any] = {}
        for name in plain:  # of 100,000 jobs: a hub that takes over waits for this
            if (at := getattr(value, name)) is not None and (then := move(at)) != at:
                changes[name] = then
        for name, of_field in movers:
            if (before := getattr(value, name)) is not None and (then := of_field(before, move)) is not before:
                changes[name] = then
        if isinstance(value, Struct):
            return replace(value, **changes) if changes else value
        for name, change in changes.items():
            setattr(value, name, change)
        return value

    return moved if movers or plain else None
