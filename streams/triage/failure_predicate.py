"""Conditions for a failed replay: a small language with a hand-written parser; nothing is evaluated as code. Pure.

    conditions = condition, {",", condition}          all must hold; those about a job hold for the same job
    condition  = "diverged" | "crashed" | "deadlock"  of the whole replay
               | ("outcome" | "code" | "event" | "job"), "=", word
               | ("events" | "seconds" | STAGE), ("=" | "<" | ">"), number

`wakestream shrink --help` explains each.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from wakestream.streams.recording.event_json import OUTCOME_KINDS
from wakestream.streams.recording.timeline import STAGES
from wakestream.streams.replay.report import UNFINISHED, JobReport

_TERM = re.compile(r"([a-z_]+)(?:\s*([=<>])\s*(.+))?")
_COMPARE: dict[str, Callable[[float, float], bool]] = {"=": operator.eq, "<": operator.lt, ">": operator.gt}

JobTest = Callable[[JobReport], bool]


class BadCondition(ValueError):
    """The text is not a valid condition; `str()` says why."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition.

    Args:
        of_log: Words about the whole replay: diverged, crashed, deadlock.
        of_job: Tests of one job.
        of_end: Whether a test depends on how the job ends.
    """

    of_log: frozenset[str] = frozenset()
    of_job: tuple[JobTest, ...] = ()
    of_end: bool = False

    def holds(self, jobs: Iterable[JobReport]) -> bool:
        """Whether one of `jobs` passes all tests of a job."""
        return not self.of_job or any(all(test(job) for test in self.of_job) for job in jobs)


def parse(text: str) -> Condition:
    """Parse a condition. `BadCondition`: the text is not valid."""
    words: set[str] = set()
    names: set[str] = set()
    tests: list[JobTest] = []
    for part in text.split(","):
        match = _TERM.fullmatch(part.strip())
        if match is None:
            raise BadCondition(f"{part.strip()[:60]!r} is not a condition; an example is outcome=failed")
        name, sign, value = match.groups()
        if sign is None:
            words.add(_word(name))
        else:
            names.add(name)
            tests.append(_test(name, sign, value.strip()))
    if len(words) > 1 or (words - {"diverged"} and tests):
        raise BadCondition("crashed and deadlock cannot be combined with other conditions: there are no outcomes then")
    return Condition(frozenset(words), tuple(tests), not names <= {"event", "events", "job"})


def _word(name: str) -> str:
    if name in ("diverged", "crashed", "deadlock"):
        return name
    raise BadCondition(f"{name!r} needs a value, such as {name}=…" if name in _NAMES else _unknown(name))


def _unknown(name: str) -> str:
    return f"unknown condition {name!r}; use one of {', '.join([*_NAMES, 'diverged', 'crashed', 'deadlock'])}"


def _test(name: str, sign: str, value: str) -> JobTest:
    if name in _EQUAL:
        if sign != "=":
            raise BadCondition(f"{name} can only be compared with =")
        return _EQUAL[name](value)
    if name not in _NAMES:
        raise BadCondition(_unknown(name))
    number, compare = _number(name, value), _COMPARE[sign]
    return lambda job: compare(_measure(name, job), number)


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise BadCondition(f"{name} needs a number, not {value[:40]!r}")
    return number


def _measure(name: str, job: JobReport) -> float:
    if name == "events":
        return len(job.kinds)
    return job.seconds if name == "seconds" else job.stages.get(name, 0.0)


def _outcome(value: str) -> JobTest:
    kind, _, detail = value.partition(":")
    if detail and kind not in ("failed", "timed_out"):
        raise BadCondition(f"{kind!r} has no detail; only failed and timed_out have one")
    if not re.fullmatch(r"[a-z_]+", kind):
        raise BadCondition(
            f"{kind[:40]!r} is not an outcome; use one of {', '.join(sorted({*OUTCOME_KINDS, UNFINISHED}))}"
        )
    return lambda job: job.outcome.kind == kind and detail in ("", job.outcome.detail)


_EQUAL: dict[str, Callable[[str], JobTest]] = {
    "outcome": _outcome,
    "code": lambda value: lambda job: job.outcome.kind == "failed" and job.outcome.detail == value,
    "event": lambda value: lambda job: value in job.kinds,
    "job": lambda value: lambda job: job.job == value,
}
_NAMES: tuple[Any, ...] = (*_EQUAL, "events", "seconds", *STAGES)
