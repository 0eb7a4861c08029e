"""What an examination finds: one thing looked at, how it is, and what to do about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "fault", "skipped"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`check` was looked at; `says` is a sentence about it, `todo` what to do, where there is something to do."""

    check: str
    level: Level
    says: str
    todo: str = ""


def ok(check: str, says: str) -> CheckResult:
    """All is well."""
    return CheckResult(check, "ok", says)


def warning(check: str, says: str, todo: str = "") -> CheckResult:
    """It works, but."""
    return CheckResult(check, "warning", says, todo)


def fault(check: str, says: str, todo: str = "") -> CheckResult:
    """Jobs will not go through like this."""
    return CheckResult(check, "fault", says, todo)


def skipped(check: str, says: str, todo: str = "") -> CheckResult:
    """It could not or need not be looked at."""
    return CheckResult(check, "skipped", says, todo)


async def each(*parts: AsyncIterator[CheckResult] | Iterable[CheckResult]) -> AsyncIterator[CheckResult]:
    """The results of all parts; a part begins when the one before has ended."""
    for part in parts:
        if isinstance(part, AsyncIterator):
            async for result in part:
                yield result
        else:
            for result in part:
                yield result
