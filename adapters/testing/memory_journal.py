"""A fake journal that keeps facts in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

F = TypeVar("F")


class FakeJournal(Generic[F]):
    """Implements the port `Journal`.

    Args:
        limit: With more facts than this, the journal is replaced by `snapshot()`, if that is set.

    Example:
        >>> journal = FakeJournal[OutboxFact]()
        >>> await journal.append([fact])
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
