"""A program's policy as JSON for the header of its log, and back; and a policy with one value changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, TypeVar

P = TypeVar("P")

STORED_AS: Final = "stored_as"
"""In the metadata of a field that was renamed: its name in logs and settings, which stays."""


def plain_config(policy: Any) -> dict[str, Any]:
    """Write a policy as JSON.

    Example:
        >>> plain_config(Policy())["reply"]
        30.0

    Args:
        policy: A dataclass such as `Policy`. Functions in it are not kept.

    Returns:
        Its fields as a JSON object.
    """
    return {name: _plain(value) for name, value in _fields(policy).items()}


def config_from(base: P, plain: Mapping[str, Any]) -> P:
    """Read a policy from the header of a log.

    Example:
        >>> config_from(Policy(), {"reply": 5.0}).reply
        5.0

    Args:
        base: The policy that has the other values.
        plain: What `plain_config` made. Unknown names are ignored.

    Returns:
        A policy with the values of the header.
    """
    today = _fields(base)
    given = {name: _like(today[name], value) for name, value in plain.items() if name in today}
    return _with(base, given)


def changed(policy: P, name: str, value: float | None) -> P:
    """Return a policy with one number changed.

    Example:
        >>> changed(Policy(), "again.max_retries", 3)

    Args:
        policy: The policy.
        name: A field, such as `online` (or `online_timeout`), or a field in it, such as `again.max_retries`.
        value: The new value.

    Returns:
        The changed policy.

    Raises:
        ValueError: There is no such field; the message lists all fields.
    """
    known = _fields(policy)
    first, _, rest = name.partition(".")
    first = first if first in known else first.removesuffix("_timeout")
    if first not in known or bool(rest) != dataclasses.is_dataclass(known[first]):
        raise ValueError(f"there is no {name!r}; there are {', '.join(sorted(_names(known)))}")
    return _with(policy, {first: changed(known[first], rest, value) if rest else value})


def _names(fields: Mapping[str, Any]) -> list[str]:
    names = []
    for name, value in fields.items():
        inner = _plain(value)
        names += [f"{name}.{part}" for part in inner] if dataclasses.is_dataclass(value) else [name]
    return names


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {name: inner for name, inner in _fields(value).items() if not callable(inner)}
    return sorted(value) if isinstance(value, frozenset) else value


def _like(today: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(today):
        return config_from(today, value)
    return type(today)(value) if isinstance(today, frozenset | tuple) else value


def _fields(value: Any) -> dict[str, Any]:
    return {stored: getattr(value, name) for stored, name in _stored_names(value).items()}


def _with(policy: P, changes: Mapping[str, Any]) -> P:
    names = _stored_names(policy)
    return dataclasses.replace(policy, **{names[stored]: value for stored, value in changes.items()})  # type: ignore[type-var]


def _stored_names(policy: Any) -> dict[str, str]:
    """The fields' names in the class by those in logs and settings."""
    return {field.metadata.get(STORED_AS, field.name): field.name for field in dataclasses.fields(policy)}
