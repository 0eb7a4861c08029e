"""Fault tests in two lengths: a choice of cases in the usual test run, all of them in `make faults`."""

import os
from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

LONG = os.environ.get("WAKESTREAM_FAULTS") == "long"


def some(cases: Sequence[T], count: int) -> list[T]:
    """All cases in a long run, a seeded choice of `count` in a short one, in their order."""
    if LONG or count >= len(cases):
        return list(cases)
    return [cases[at] for at in sorted(Random(1).sample(range(len(cases)), count))]
