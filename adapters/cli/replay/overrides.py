"""`--set NAME=VALUE`: the settings under which a log is replayed, checked against what its program knows."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wakestream.adapters.config.numbers import seconds
from wakestream.streams.recording.recording import Log, UnusableLog
from wakestream.streams.replay.replay import policy_of

SHORTEST = 0.01
"""Minimum in seconds: with zero, a wait would repeat endlessly while virtual time stands."""


class BadSetting(ValueError):
    """No program of these logs has it, or not with this value; `str()` says what there is."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The settings asked for, by the program that knows them."""

    by_program: Mapping[str, Mapping[str, float | None]]

    def of(self, log: Log) -> Mapping[str, float | None]:
        """Those that concern this log."""
        return self.by_program.get(log.header.program, {})

    @property
    def all(self) -> Mapping[str, float | None]:
        """All of them, for programs that are replayed together."""
        return {name: value for each in self.by_program.values() for name, value in each.items()}


def what_if(changes: Sequence[str], logs: Sequence[Log]) -> WhatIf:
    """The settings in `changes`. In the logs of one run each goes to the programs that have it; one has to."""
    found: dict[str, dict[str, float | None]] = {}
    for change in changes:
        name, sign, text = change.partition("=")
        if not sign or not name.strip() or not text.strip():
            raise BadSetting(f"--set {change[:60]!r}: write NAME=VALUE, such as online_timeout=60")
        unknown: dict[str, str] = {}
        for log in logs:
            try:
                found.setdefault(log.header.program, {})[name.strip()] = _value(log, name.strip(), text.strip())
            except _Unknown as error:
                unknown[log.header.program] = str(error)
            except UnusableLog:
                unknown[log.header.program] = "it cannot be replayed"
        if len(unknown) == len({log.header.program for log in logs}):
            raise BadSetting("--set: " + "; ".join(f"{program}: {why}" for program, why in unknown.items()))
    return WhatIf(found)


class _Unknown(ValueError):
    """This program has no such setting."""


def _value(log: Log, name: str, text: str) -> float | None:
    """The value, as its setting takes it."""
    try:
        policy_of(log, {name: 1.0})
    except ValueError as error:
        raise (error if isinstance(error, UnusableLog) else _Unknown(str(error))) from None
    policy = policy_of(log)
    inner = "." in name
    kind, today = _field(policy, name)
    if text == "none":
        if type(None) not in typing.get_args(kind):
            raise BadSetting(f"--set {name}: cannot be none; give a number")
        return None
    if not any(each in (int, float) for each in (kind, *typing.get_args(kind))):
        what = "a function" if callable(today) else f"{today!r} in this log"
        raise BadSetting(f"--set {name}: is {what}, and no number; only numbers can be changed")
    return _number(name, text, 0.0 if inner else SHORTEST)


def _field(policy: Any, name: str) -> tuple[Any, Any]:
    """The annotation and today's value of a setting."""
    first, _, rest = name.partition(".")
    hints = typing.get_type_hints(type(policy))
    first = first if first in hints else first.removesuffix("_timeout")
    value = getattr(policy, first)
    return _field(value, rest) if rest and dataclasses.is_dataclass(value) else (hints[first], value)


def _number(name: str, text: str, least: float) -> float:
    try:
        number = int(text) if text.isascii() and text.isdigit() else float(text)
    except ValueError:
        try:
            number = seconds(text)
        except ValueError as error:
            raise BadSetting(f"--set {name}: {text[:40]!r} {error}") from None
    if not least <= number < 1e9:
        raise BadSetting(f"--set {name}: {text[:40]!r} is not between {least:g} and 1e9")
    return number
