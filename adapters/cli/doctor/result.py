"""What an examination finds: one thing looked at, how it is, and what to do about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

from wakestream.adapters.cli.i18n.catalog import t
from wakestream.adapters.depot.probe import Found

Level = Literal["ok", "warning", "fault", "skipped"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`check` was looked at; `says` is a sentence about it, `todo` what to do, where there is something to do."""

    check: str
    level: Level
    says: str
    todo: str = ""


def _result(level: Level, check: str, says: str, todo: str = "") -> CheckResult:
    return CheckResult(check, level, says, todo)


ok, warning, fault, skipped = (partial(_result, level) for level in get_args(Level))


def of_bucket(found: Found) -> CheckResult:
    """What the check of a bucket found, in the user's language."""
    values = {**found.values}
    todo = t(f"bucket.{found.check}.do", **values) if found.level in ("warning", "fault") else ""
    return CheckResult(found.check, found.level, t(f"bucket.{found.check}.{found.level}", **values), todo)


async def each(*parts: AsyncIterator[CheckResult] | Iterable[CheckResult]) -> AsyncIterator[CheckResult]:
    """The results of all parts; a part begins when the one before has ended."""
    for part in parts:
        if isinstance(part, AsyncIterator):
            async for result in part:
                yield result
        else:
            for result in part:
                yield result
