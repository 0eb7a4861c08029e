"""What an examination finds: one thing looked at, how it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "fault", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` was looked at; `says` is a sentence about it, `todo` what to do, where there is something to do."""

    check: str
    level: Level
    says: str
    todo: str = ""


def ok(check: str, says: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", says)


def warning(check: str, says: str, todo: str = "") -> Finding:
    """It works, but."""
    return Finding(check, "warning", says, todo)


def fault(check: str, says: str, todo: str = "") -> Finding:
    """Jobs will not go through like this."""
    return Finding(check, "fault", says, todo)


def skipped(check: str, says: str, todo: str = "") -> Finding:
    """It could not or need not be looked at."""
    return Finding(check, "skipped", says, todo)
