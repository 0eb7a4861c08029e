"""Checks of a log that was read: types of fields, order of rows, no secrets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, get_args, get_type_hints

from wakestream.operators.model.backoff import Backoff
from wakestream.streams.recording.recording import Direction, Log, Row, UnusableLog
from wakestream.streams.recording.secrets import redact

_HEADER: Final[Mapping[str, tuple[type, ...]]] = {
    "program": (str,), "epoch": (int, float), "seed": (int,), "config": (dict,),
}  # fmt: skip
_ROW: Final[Mapping[str, tuple[type, ...]]] = {
    "seq": (int,), "t": (int, float), "label": (str,), "data": (dict,), "job": (str, type(None)),
}  # fmt: skip


def check(log: Log) -> None:
    """Check the header and the rows. `UnusableLog` names the line of the first fault."""
    wrong = _wrong(log.header, _HEADER)
    if wrong is not None:
        raise UnusableLog(f"the header (line 1) is wrong: {wrong}")
    before: Row | None = None
    for number, row in enumerate(log.rows, 2):
        fault = _fault(row, before)
        if fault is not None:
            raise UnusableLog(f"line {number} {fault}")
        before = row


def _wrong(value: object, kinds: Mapping[str, tuple[type, ...]]) -> str | None:
    for name, kind in kinds.items():
        field = getattr(value, name)
        if not isinstance(field, kind) or isinstance(field, bool):
            return f"{name!r} is {redact(field)!r}"[:200]
    return None


def _fault(row: Row, before: Row | None) -> str | None:
    """The fault of a row, or None."""
    wrong = _wrong(row, _ROW) or (None if row.dir in get_args(Direction) else f"'dir' is {row.dir!r}"[:200])
    if wrong is not None:
        return f"is no row: {wrong}"
    if before is not None and row.seq <= before.seq:
        return f"is out of order: seq {row.seq} comes after {before.seq}"
    if before is not None and row.t < before.t:
        return f"is out of order: t {row.t} comes after {before.t}"
    return None


def refuse_secrets(log: Log) -> None:
    """Check that a log has no secrets. `UnusableLog` names the first line that has one."""
    what = "holds a secret; `wakestream redact` removes it"
    if redact(log.header.config) != log.header.config:
        raise UnusableLog(f"the header (line 1) {what}")
    for number, row in enumerate(log.rows, 2):
        if redact(row.data) != row.data:
            raise UnusableLog(f"line {number} (seq {row.seq}, {row.label}) {what}")


@cache
def _hints(policy: type) -> dict[str, Any]:
    return get_type_hints(policy)


SHORTEST: Final = 0.001
"""The shortest wait in seconds: with a wait of 0, a replay would repeat it without any time passing."""


def check_policy(policy: Any, least: float = SHORTEST) -> None:
    """Check the numbers of a program's policy. `UnusableLog` names the first wrong one."""
    kind: Any = type(policy)
    for name, hint in _hints(kind).items():
        value, kinds = getattr(policy, name), (hint, *get_args(hint))
        if isinstance(value, Backoff):
            check_policy(value, 0.0)
        elif (int in kinds or float in kinds) and not (
            _number(value, least) or (value is None and type(None) in kinds)
        ):
            raise UnusableLog(f"the header's policy has {name!r} = {redact(value)!r}, which is no valid number"[:200])


def _number(value: object, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value < math.inf
