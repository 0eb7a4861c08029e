"""Counts what a server refuses, by reason, for metrics and tests. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

Tell = Callable[[str, int], object]


class Refusals(Counter[str]):
    """Refusals by reason. A reason is one of the server's own words, not text of a caller, so there are few of them.

    `tell` is called for each, with the reason and its count.
    """

    def __init__(self, tell: Tell | None = None) -> None:
        super().__init__()
        self._tell = tell

    def count(self, reason: str) -> None:
        """Count a refusal."""
        self[reason] += 1
        if self._tell is not None:
            self._tell(reason, self[reason])
