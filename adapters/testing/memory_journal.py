"""A fake journal that keeps facts in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
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
        self._rows: list[bytes] = []
        self._facts: list[F] = []
        self._limit = limit
        self.snapshot: Callable[[], Iterable[bytes]] | None = None
        self.snapshot_includes_append = True
        self.confirm: Callable[[], Awaitable[None]] | None = None

    async def append(self, facts: Sequence[F]) -> None:
        """See `Journal.append`."""
        if self.snapshot is not None and len(self._facts) + len(facts) > self._limit:
            self._rows, self._facts = list(self.snapshot()), []
            if self.snapshot_includes_append:
                return
        self._facts.extend(facts)

    def restore(self) -> list[bytes]:
        """See `Journal.restore`."""
        return list(self._rows)

    def read(self) -> tuple[F, ...]:
        """See `Journal.read`."""
        return tuple(self._facts)
