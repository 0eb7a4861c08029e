"""The words of JSON Schema that describe a kind's parameters, and whether values fit them.

What another machine says is reduced to a flat table (`flat`): no references, no combinations, no regular expressions.
So a check takes time in proportion to the description plus the value. The worker checks the job again.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

_Test = Callable[[Any], bool]


class Misfit(NamedTuple):
    """A value that does not fit: its place below the parameters, and a sentence that says what to give."""

    path: tuple[str | int, ...]
    sentence: str


# What a word of a schema may have as its value


def _is_number(value: Any) -> bool:
    return (type(value) is float and math.isfinite(value)) or type(value) is int


def _is_step(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_schema(value: Any) -> bool:
    return isinstance(value, Mapping)


def _are_choices(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0


def _are_types(value: Any) -> bool:
    names = _names(value)
    return 0 < len(names) <= len(_TYPES) and all(isinstance(name, str) and name in _TYPES for name in names)


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and re.compile(value) is not None
    except (re.error, OverflowError, RecursionError):
        return False


def _names(types: Any) -> list[Any]:
    return list(types) if isinstance(types, list | tuple) else [types]


# What keeps to a word

_TYPES: Final[Mapping[str, tuple[str, _Test]]] = {
    "integer": ("a whole number", lambda value: type(value) is int or (type(value) is float and value.is_integer())),
    "number": ("a number", lambda value: type(value) in (int, float)),
    "string": ("a text", _is_text),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "array": ("a list", lambda value: isinstance(value, list | tuple)),
    "object": ("an object", _is_schema),
    "null": ("null", lambda value: value is None),
}


def _of_type(types: Any) -> _Test:
    return lambda value: any(_TYPES[name][1](value) for name in _names(types))


def _of_choices(choices: Iterable[Any]) -> _Test:
    keys = {_key(choice) for choice in choices}
    return lambda value: _key(value) in keys


def _key(value: Any) -> object:
    """Equal for values that are equal in JSON: 1 and 1.0 are, 1 and true are not."""
    return json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else (isinstance(value, bool), value)


def _is_multiple(value: Any, step: Any) -> bool:
    try:
        times = value / step
        return bool(value % step == 0 or abs(times - round(times)) <= 1e-9 * max(1.0, abs(times)))
    except OverflowError:
        return False


def _number(holds: Callable[[Any, Any], bool]) -> Callable[[Any], _Test]:
    return lambda limit: lambda value: not _is_number(value) or holds(value, limit)


def _sized(holds: Callable[[Any, Any], bool], *types: type) -> Callable[[Any], _Test]:
    return lambda limit: lambda value: type(value) not in types or holds(len(value), limit)


def _matches(pattern: str) -> _Test:
    return lambda value: not isinstance(value, str) or re.search(pattern, value) is not None


class _Word(NamedTuple):
    """A word: which values it may have, whether a parameter keeps to such a value, and what to do if it does not."""

    valid: _Test
    rule: Callable[[Any], _Test] | None = None
    remedy: str = ""


_WORDS: Final[Mapping[str, _Word]] = {
    "type": _Word(_are_types, _of_type, "has the wrong type; give {}"),
    "enum": _Word(_are_choices, _of_choices, "is not a choice; give one of {}"),
    "minimum": _Word(_is_number, _number(operator.ge), "is too small; give {} or more"),
    "maximum": _Word(_is_number, _number(operator.le), "is too large; give {} or less"),
    "exclusiveMinimum": _Word(_is_number, _number(operator.gt), "is too small; give more than {}"),
    "exclusiveMaximum": _Word(_is_number, _number(operator.lt), "is too large; give less than {}"),
    "multipleOf": _Word(_is_step, _number(_is_multiple), "does not fit; give a multiple of {}"),
    "minLength": _Word(_is_count, _sized(operator.ge, str), "is too short; give {} characters or more"),
    "maxLength": _Word(_is_count, _sized(operator.le, str), "is too long; give {} characters or fewer"),
    "minItems": _Word(_is_count, _sized(operator.ge, list, tuple), "has too few items; give {} or more"),
    "maxItems": _Word(_is_count, _sized(operator.le, list, tuple), "has too many items; give {} or fewer"),
    "pattern": _Word(_is_pattern, _matches, "does not have the form {}"),
    "items": _Word(_is_schema),
    "title": _Word(_is_text),
    "description": _Word(_is_text),
    "format": _Word(_is_text),
    "x-step": _Word(_is_step),
    "default": _Word(lambda _: True),
}

_NOTES: Final = ("$comment", "examples", "deprecated", "readOnly", "writeOnly")
"""Words that a worker may write and that check nothing."""

_WHOLE: Final = ("type", "title", "description", "properties", "required")
"""The words of the description of all parameters together."""


def flat(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a peer's parameters without what only its worker checks.

    Args:
        params: The JSON Schema of the parameters; `properties` is an object of objects.

    Example:
        >>> flat({"properties": {"seed": {"type": "integer", "allOf": [{"$ref": "#"}]}}})
        {'properties': {'seed': {'type': 'integer'}}}
    """
    kept = {word: value for word, value in params.items() if word in _WHOLE}
    if "properties" in kept:
        kept["properties"] = {name: _flat(schema) for name, schema in kept["properties"].items()}
    return kept


def _flat(schema: Mapping[str, Any], but: Collection[str] = ("pattern",)) -> dict[str, Any]:
    kept = {
        word: value
        for word, value in without_null_branch(schema).items()
        if word in _WORDS and word not in but and _WORDS[word].valid(value)
    }
    return {**kept, "items": _flat(kept["items"], (*but, "items", "default"))} if "items" in kept else kept


def without_null_branch(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema whose `anyOf` of something and null is this something, with "null" as one more type.

    Example:
        >>> without_null_branch({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]})
        {'type': ['integer', 'null'], 'minimum': 1}
    """
    branches: Any = schema.get("anyOf")
    if not _are_choices(branches) or not all(map(_is_schema, branches)):
        return schema
    some = [branch for branch in branches if branch.get("type") != "null"]
    if len(some) != 1 or len(branches) == 1:
        return schema
    whole = {**some[0], **{word: value for word, value in schema.items() if word != "anyOf"}}
    if _are_types(types := whole.get("type")):
        whole["type"] = [*dict.fromkeys([*_names(types), "null"])]
    if _are_choices(whole.get("enum")) and None not in whole["enum"]:
        whole["enum"] = [*whole["enum"], None]
    return whole


def is_secret(schema: Mapping[str, Any]) -> bool:
    """Whether the value must be hidden: `format` is `password`, as Cog's `Secret` has it, or it is `writeOnly`.

    Example:
        >>> is_secret({"type": "string", "format": "password"})
        True
    """
    return schema.get("format") == "password" or schema.get("writeOnly") is True


def check_own(schema: Mapping[str, Any]) -> None:
    """Check the schema of one parameter of a worker's own kind, and its default against it.

    Raises:
        ValueError: It is not valid. The text begins with the place in the schema, such as `.default: `.
    """
    for word, value in without_null_branch(schema).items():
        if word not in _WORDS and word not in _NOTES and not word.startswith("x-"):
            raise ValueError(f': "{word}" is unknown; use {", ".join(_WORDS)}')
        if word in _WORDS and not _WORDS[word].valid(value):
            raise ValueError(f'.{word}: {str(value)[:60]!r} is not valid for "{word}" in JSON Schema')
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f": a value is not JSON: {error}") from None
    for fault in misfits(schema, schema["default"], ("default",)) if "default" in schema else ():
        raise ValueError(f".{'.'.join(map(str, fault.path))}: {fault.sentence}")


def misfits(schema: Mapping[str, Any], value: Any, path: tuple[str | int, ...] = ()) -> Iterator[Misfit]:
    """Yield what does not fit. The work grows with the schema plus the value, not with their product.

    Args:
        schema: The schema of one parameter. Words that are unknown or have an impossible value check nothing.
        value: The value.
        path: Where the value is, such as `("seed",)`.
    """
    schema = without_null_branch(schema)
    yield from _broken([*_rules(schema)], value, path, hidden=is_secret(schema))
    if isinstance(value, list | tuple) and _is_schema(schema.get("items")):
        rules = [*_rules(without_null_branch(schema["items"]))]
        for at, item in enumerate(value):
            yield from _broken(rules, item, (*path, at))


_Rule = tuple[str, Any, _Test]
"""A word, its value in the schema, and whether a parameter keeps to it."""


def _rules(schema: Mapping[str, Any]) -> Iterator[_Rule]:
    for word, value in sorted(schema.items(), key=lambda item: item[0] != "type"):
        definition = _WORDS.get(word)
        if definition is not None and definition.rule is not None and definition.valid(value):
            yield word, value, definition.rule(value)


def _broken(
    rules: Iterable[_Rule], value: Any, path: tuple[str | int, ...], *, hidden: bool = False
) -> Iterator[Misfit]:
    shown = "the value" if hidden else repr(value)[:60]
    return (Misfit(path, _sentence(word, limit, shown)) for word, limit, keeps in rules if not keeps(value))


def _sentence(word: str, limit: Any, shown: str) -> str:
    if word == "enum":
        limit = ", ".join(map(str, limit))
    elif word == "type":
        limit = " or ".join(_TYPES[name][0] for name in _names(limit))
    return f"{shown} {_WORDS[word].remedy.format(str(limit)[:300])}"
