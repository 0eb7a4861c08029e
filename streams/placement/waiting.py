"""Waiting jobs alike, and which of them is next. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator
from typing import NamedTuple


class Entry(NamedTuple):
    """One waiting job: its place among those of its user, when it arrived, and its id."""

    order: int
    arrived: float
    id: str


class Line:
    """The waiting jobs of one shape. Its users take turns, each in the order of its own jobs.

    Example:
        >>> line = Line()
        >>> for order, (user, id_) in enumerate([("ann", "a1"), ("ann", "a2"), ("bob", "b1")]):
        ...     line.add(user, Entry(order, 0.0, id_))
        >>> taken = []
        >>> while line:
        ...     taken.append(line.next)
        ...     line.remove(*line.where(line.next), served=True)
        >>> taken
        ['a1', 'b1', 'a2']
    """

    __slots__ = ("_arrivals", "_known", "_served", "_users")

    def __init__(self) -> None:
        self._users: dict[Hashable, list[Entry]] = {}
        self._served: dict[Hashable, int] = {}
        self._known: dict[str, tuple[Hashable, Entry]] = {}
        self._arrivals: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def add(self, user: Hashable, entry: Entry) -> None:
        """Add a job. A user who comes later has no claim to the turns that the others had."""
        if user not in self._users:
            self._users[user], self._served[user] = [], min(self._served.values(), default=0)
        insort(self._users[user], entry)
        self._known[entry.id] = user, entry
        if self._arrivals is not None:
            first, last = self._arrivals
            self._arrivals = min(first, entry.arrived), max(last, entry.arrived)

    def where(self, id_: str) -> tuple[Hashable, Entry]:
        """The user of a job, and its entry."""
        return self._known[id_]

    def remove(self, user: Hashable, entry: Entry, *, served: bool = False) -> None:
        """Take a job out; `served`: it was its user's turn."""
        del self._known[entry.id]
        self._arrivals = None
        mine = self._users[user]
        del mine[bisect_left(mine, entry)]
        self._served[user] += served
        if not mine:
            del self._users[user], self._served[user]

    @property
    def next(self) -> str:
        """The id of the next job."""
        user = min(self._users, key=lambda user: (self._served[user], self._users[user][0]))
        return self._users[user][0].id

    @property
    def arrivals(self) -> tuple[float, float]:
        """When the first and the last of them arrived."""
        if self._arrivals is None:
            users = self._users.values()
            self._arrivals = min(mine[0].arrived for mine in users), max(mine[-1].arrived for mine in users)
        return self._arrivals

    def before(self, id_: str) -> int:
        """How many of them come before this one."""
        user, entry = self._known[id_]
        own = bisect_left(self._users[user], entry)
        turn = self._served[user] + own

        def of(other: Hashable) -> int:
            ahead = turn - self._served[other]
            mine = self._users[other]
            return min(len(mine), max(0, ahead + (0 <= ahead < len(mine) and mine[ahead] < entry)))

        return own + sum(of(other) for other in self._users if other != user)
