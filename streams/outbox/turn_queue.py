"""Jobs in the order of their turns, in which each can be moved."""

from __future__ import annotations

from collections.abc import Iterator


class TurnQueue:
    """A linked list: a move takes the same time however many jobs there are, since a start reads thousands of moves."""

    __slots__ = ("_after", "_before")

    def __init__(self) -> None:
        self._after = {"": ""}  # the empty name is before the first and after the last
        self._before = {"": ""}

    def __contains__(self, job: str) -> bool:
        return bool(job) and job in self._after

    def __len__(self) -> int:
        return len(self._after) - 1

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, TurnQueue) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[str]:
        return self.behind("")

    def __reversed__(self) -> Iterator[str]:
        job = self._before[""]
        while job:
            yield job
            job = self._before[job]

    def behind(self, job: str) -> Iterator[str]:
        """The jobs behind this one."""
        while job := self._after[job]:
            yield job

    def put(self, job: str, before: str = "") -> None:
        """Put a job before another one, or at the end if there is no such job."""
        if job == before:
            return
        self.remove(job)
        following = before if before in self else ""
        preceding = self._before[following]
        self._after[preceding] = self._before[following] = job
        self._after[job], self._before[job] = following, preceding

    def remove(self, job: str) -> None:
        """Remove a job, if it is there."""
        if job in self:
            following, preceding = self._after.pop(job), self._before.pop(job)
            self._after[preceding], self._before[following] = following, preceding
