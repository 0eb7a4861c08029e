"""Hash each file of a job once, however many stages need the hashes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from reactivex import abc

from wakestream.operators.model.events import Algorithm, Fingerprinted, Job
from wakestream.operators.model.ports import Files
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.shared import Shared

EVERY_ALGORITHM: Final[frozenset[Algorithm]] = frozenset({"md5", "blake3"})
"""For the wait for a GPU, when the worker's features are still unknown."""


class Fingerprints(abc.DisposableBase):
    """The hashes of one job's files. Each set of algorithms is computed at most once.

    Example:
        >>> Fingerprints(job, world.files).of({"md5"}).subscribe(print, scheduler=scheduler)

    Args:
        job: The job.
        files: Reads the files.
    """

    __slots__ = ("_files", "_job", "_taken")

    def __init__(self, job: Job, files: Files) -> None:
        self._job = job
        self._files = files
        self._taken: list[tuple[frozenset[Algorithm], Shared[Fingerprinted]]] = []

    @property
    def order(self) -> tuple[str, ...]:
        """The names of the files, in the order of `Fingerprinted.files`."""
        return tuple(self._job.inputs)

    def of(self, algorithms: Collection[Algorithm]) -> Shared[Fingerprinted]:
        """Return an observable of one `Fingerprinted` with at least these algorithms.

        The files are read at the first subscription.

        Args:
            algorithms: The hash algorithms.

        Returns:
            An observable that all subscribers share. It may fail with `FileUnusable` or `FileChanged`.
        """
        wanted = frozenset(algorithms)
        for have, fingerprint in self._taken:
            if wanted <= have:
                return fingerprint
        fingerprint = Shared(from_async(lambda: self._read(wanted), f"fingerprint {self._job.id}"))
        self._taken.append((wanted, fingerprint))
        return fingerprint

    async def _read(self, wanted: frozenset[Algorithm]) -> Fingerprinted:
        paths = self._job.inputs.values()
        return Fingerprinted(tuple([await self._files.fingerprint(path, wanted) for path in paths]))

    def dispose(self) -> None:
        """Stop reading: the job is over."""
        for _, fingerprint in self._taken:
            fingerprint.dispose()
