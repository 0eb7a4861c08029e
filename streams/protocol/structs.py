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
        field, fault = fault_of(kind, error)
    whole = ".".join(filter(None, (at, field)))
    raise WrongInput(whole, f'"{whole}" {fault}')


def fault_of(kind: type, error: msgspec.ValidationError) -> tuple[str, str]:
    """What msgspec says about a struct of this kind: the field, and a sentence that has the field as its subject."""
    why, _, path = str(error).removesuffix("`").partition(" - at `$")
    lacks = re.findall("missing required field `([^`]*)", why)
    hint: Any = kind
    need, fields = hint, list[str]()
    for name in [*re.findall(r"[^\W\d]\w*", path), *lacks]:
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            need = get_type_hints(hint, include_extras=True)[name]
            hint = _items(need)
            fields.append(name)
    field, meta = ".".join(fields), _meta(need)
    if lacks:
        described = meta is not None and meta.description
        return field, f"is missing: send {described}" if described else f"is missing, {needed(need)} is needed"
    if "`str` of length" in why and meta is not None and meta.description is None:
        most = f"{meta.max_length} characters"
        return field, f"must have {meta.min_length} to {most}" if meta.min_length else f"must have {most} at most"
    return field, f"must be {needed(need)}"


def _items(hint: Any) -> Any:
    """The type of the items of a list, else the type without its description."""
    return _items(get_args(hint)[0]) if get_origin(hint) in (*_WRAPPED, tuple, list) else hint


def _meta(hint: Any) -> msgspec.Meta | None:
    metas = (arg for arg in get_args(hint) if get_origin(hint) is Annotated and isinstance(arg, msgspec.Meta))
    return next(metas, None) or (_meta(get_args(hint)[0]) if get_origin(hint) in _WRAPPED else None)


_WRAPPED: Final = (Annotated, types.UnionType, Union)
_WORDS: Final[Mapping[Any, str]] = {str: "a string", int: "a whole number", bool: "true or false", float: "a number"}


def needed(hint: Any) -> str:
    """What a value of this type is called in a sentence, such as `a list, each a string`."""
    if (meta := _meta(hint)) is not None and meta.description:
        return meta.description
    if get_origin(hint) in _WRAPPED:
        return needed(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if get_origin(hint) in (tuple, list):
        return f"a list, each {needed(get_args(hint)[0])}"
    return _WORDS.get(hint, "an object")
