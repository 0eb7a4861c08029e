"""Keeps facts in memory with the port's promise: when `append` returns they are kept, while the process lives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

F = TypeVar("F")


class FakeJournal(Generic[F]):
    """Implements the port `Journal`. Beyond `limit` facts it is cut down to what `snapshot()` gives, if that is set.

    The limit is low, since a fact may hold a whole payload; a cut costs no more than the appends since the last one.
    """

    def __init__(self, limit: int = 256) -> None:
        self._facts: list[F] = []
        self._limit = limit
        self._next_cut = limit
        self.snapshot: Callable[[], Sequence[F]] | None = None

    async def append(self, facts: Sequence[F]) -> None:
        """See `Journal.append`."""
        self._facts.extend(facts)
        if self.snapshot is not None and len(self._facts) > self._next_cut:
            self._facts = list(self.snapshot())
            self._next_cut = max(self._limit, 2 * len(self._facts))

    def read(self) -> tuple[F, ...]:
        """See `Journal.read`."""
        return tuple(self._facts)
