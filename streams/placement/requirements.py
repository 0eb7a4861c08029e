"""What a job requires of a GPU: expressions about labels, such as `memory>=24`. Pure.

A label is a name with a text or a number. Numbers are compared as numbers, also with a unit of bytes: `24GB`, `24GiB`
and `24G` are the same, and a number without a unit counts in GB beside one that has a unit.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from wakestream.streams.protocol.printable import LONGEST_NAME, is_name

MAX_LABELS: Final = 32
"""The most labels that a peer may give a GPU."""

LONGEST: Final = 64
"""Characters of a label's name, and of its value."""

MAX_SLOTS: Final = 64
"""The most tasks that a worker may do at one time."""

MAX_REQUIREMENTS: Final = 32
"""The most requirements of a job."""

KIND: Final = "kind:"
"""The begin of the label that a GPU has for each of its kinds. The hub gives it, and `gpu` and `machine`."""

_NAME: Final = re.compile(r"[^\s<>=!~,;]+")
_WHOLE: Final = re.compile(rf"\s*({_NAME.pattern})\s*(?:(>=|<=|!=|==|=|>|<)\s*([^\s<>=!~](?:.*\S)?))?\s*", re.DOTALL)
_NUMBER: Final = re.compile(r"([-+]?(?:\d+(?:\.\d*)?|\.\d+))\s*(?:([kmgt])(?:i?b)?)?", re.IGNORECASE)
_POWERS: Final = {"k": -2, "m": -1, "g": 0, "t": 1}
_SAME: Final[Mapping[str, Callable[[Any, Any], bool]]] = {"=": operator.eq, "==": operator.eq, "!=": operator.ne}
_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


class Requirement(NamedTuple):
    """One expression; without an operator, the label must only be there."""

    name: str
    operator: str = ""
    value: str = ""


@lru_cache(maxsize=4096)
def parse(text: str) -> Requirement:
    """Read an expression.

    Example:
        >>> parse("memory>=24")
        Requirement(name='memory', operator='>=', value='24')

    Args:
        text: A label's name, or one with `=`, `!=`, `>`, `>=`, `<` or `<=` and a value.

    Returns:
        The requirement.

    Raises:
        ValueError: It cannot be read; the text is a sentence that says what to write.
    """
    match = _WHOLE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text[:LONGEST]!r} is no requirement; write a label, or a label with one of = != > >= < <= and a value, "
            "such as memory>=24"
        )
    name, sign, value = match[1], match[2] or "", match[3] or ""
    if len(name) > LONGEST or len(value) > LONGEST_NAME:
        raise ValueError(f"the requirement {text[:LONGEST]!r} is too long; a label has {LONGEST} characters at most")
    if sign in _ORDER and _NUMBER.fullmatch(value) is None:
        raise ValueError(f"{text!r} compares with {value!r}, which is no number; use = or !=, or a number such as 24")
    return Requirement(name, sign, value)


def all_of(said: object) -> tuple[str, ...]:
    """Check the requirements of a job.

    Args:
        said: What the job says: a list of expressions, or None.

    Returns:
        The expressions, sorted, each once.

    Raises:
        ValueError: They cannot be read, or are too many; the text is a sentence that says what to write.
    """
    if said is None:
        return ()
    if not isinstance(said, list | tuple) or not all(isinstance(text, str) for text in said):
        raise ValueError('"requires" must be a list of texts such as "memory>=24"')
    if len(said) > MAX_REQUIREMENTS:
        raise ValueError(f"the job has {len(said)} requirements; {MAX_REQUIREMENTS} are allowed")
    return tuple(sorted({"".join(parse(text)) for text in said}))


@lru_cache(maxsize=16384)
def met(requirement: Requirement, label: str | float | None) -> bool:
    """Whether a label's value (None: there is no such label) is as required.

    Example:
        >>> met(parse("memory>=24"), "48GB")
        True

    Args:
        requirement: What is required.
        label: The value.

    Returns:
        Whether it is so. `zone!=eu` is also met where there is no label `zone`.
    """
    _, sign, value = requirement
    if label is None:
        return sign == "!="
    if not sign:
        return True
    has, wants = _number(label), _number(value)
    if has is None or wants is None:
        return sign in _SAME and _SAME[sign](str(label), value)
    return {**_SAME, **_ORDER}[sign](has, wants)


def _number(value: str | float) -> float | None:
    """A number; one with a unit of bytes, in GB."""
    if not isinstance(value, str):
        return value
    match = _NUMBER.fullmatch(value.strip())
    return None if match is None else float(match[1]) * 1024.0 ** _POWERS.get((match[2] or "g").lower(), 0)


def misfit(labels: Mapping[str, Any] | None, slots: int | None) -> str | None:
    """Why a peer may not say this of its GPU; None if it may.

    Args:
        labels: Its labels.
        slots: How many tasks its worker does at one time.

    Returns:
        A sentence that says what to do, or None.
    """
    if slots is not None and not 1 <= slots <= MAX_SLOTS:
        return f"a worker does 1 to {MAX_SLOTS} tasks at one time, not {slots}; give it another --slots"
    if labels is None:
        return None
    if len(labels) > MAX_LABELS:
        return f"{len(labels)} labels are too many; give {MAX_LABELS} at most"
    return next((fault for name, value in labels.items() if (fault := _fault(name, value)) is not None), None)


def _fault(name: str, value: object) -> str | None:
    shown = repr(name[:LONGEST])
    if len(name) > LONGEST or _NAME.fullmatch(name) is None or not is_name(name):
        return f"{shown} is no label; its name has 1 to {LONGEST} printable characters, none of them a space or <>=!~,;"
    if name in ("gpu", "machine") or name.startswith(KIND):
        return f"the label {shown} is given by the hub; use another name"
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    text = isinstance(value, str) and len(value) <= LONGEST and (not value or is_name(value))
    if not (number or text):
        return f"the label {shown} must be a number, or a text of {LONGEST} printable characters at most"
    return None
