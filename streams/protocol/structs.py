"""The base of messages, events and facts: frozen, and much faster to create than a dataclass. And `read`, for JSON."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from wakestream.operators.model.errors import WrongInput

T = TypeVar("T")


class Frozen(msgspec.Struct, frozen=True):
    """A frozen type. `repr` (also that of rich) leaves out the secret fields, which `HIDDEN` names."""

    HIDDEN: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self.HIDDEN]


def read(kind: type[T], plain: object, at: str = "") -> T:
    """Return a JSON object as a struct.

    Args:
        kind: The struct. The description in the `Meta` of a field says what it must be.
        plain: The object.
        at: Where it is in a larger object, such as `inputs.image`.

    Returns:
        The struct.

    Raises:
        WrongInput: A field is missing, unknown or wrong. The message names it and says what it must be.

    Example:
        >>> class Move(msgspec.Struct):
        ...     place: Annotated[int, msgspec.Meta(ge=1, description="a whole number from 1")]
        >>> read(Move, {"place": 0})
        Traceback (most recent call last):
        wakestream.operators.model.errors.WrongInput: "place" must be a whole number from 1
    """
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        why, _, path = str(error).removesuffix("`").partition(" - at `$")
    named = re.search("field `(.*)`", why)
    names = [*re.findall(r"\w+", path), *([named[1]] if named else [])]
    field, need = _need(kind, names)
    whole = ".".join(filter(None, (at, field)))
    if named and "unknown" in why:
        raise WrongInput(whole, f'there is no field "{whole}"; known: {", ".join(sorted(fields_of(kind)))}')
    lacks = f"is missing; it must be {need}" if named else f"must be {need}"
    raise WrongInput(whole, f'"{whole}" {lacks}')


def fields_of(kind: type) -> frozenset[str]:
    """The names of a struct's fields."""
    return frozenset(kind.__struct_fields__)  # type: ignore[attr-defined]


def _need(kind: Any, names: list[str]) -> tuple[str, str]:
    """The first of the fields on this way that has a description, or the last one; and what it must be."""
    need, field = needed(kind), []
    for name in names:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            hint = get_type_hints(kind, include_extras=True).get(name, Any)
            field.append(name)
            need, kind = needed(hint), _inner(hint)
            if get_origin(hint) is Annotated:
                break
    return ".".join(field), need


def _inner(hint: Any) -> Any:
    """The type of the items of a list or the values of an object, else the type itself."""
    args = [arg for arg in get_args(hint) if arg not in (type(None), ...)]
    return _inner(args[-1]) if get_origin(hint) not in (None, Literal) and args else hint


_WORDS: Final[Mapping[Any, str]] = {
    str: "a string", int: "a whole number", bool: "true or false", float: "a number", Any: "a value",
}  # fmt: skip


def needed(hint: Any) -> str:
    """What a value of this type is called in a sentence, such as `a list, each a string`."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        described = (meta.description for meta in args[1:] if isinstance(meta, msgspec.Meta))
        return next(filter(None, described), None) or needed(args[0])
    if origin in (types.UnionType, Union):
        return needed(next(arg for arg in args if arg is not type(None)))
    if origin is Literal:
        return f"one of {', '.join(args)}"
    if origin in (tuple, list):
        return f"a list, each {needed(args[0])}"
    return _WORDS.get(hint, "an object")
