"""Each file is read once: whoever needs the hashes first starts the reading, the others share it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from reactivex import abc

from wakestream.operators.model.events import Algorithm, Fingerprinted, Job
from wakestream.operators.model.ports import Files
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.shared import Shared

EVERY_ALGORITHM: Final[frozenset[Algorithm]] = frozenset({"md5", "blake3"})
"""What is taken while there is time: before anyone knows which kind of worker will wake."""


class Fingerprints(abc.DisposableBase):
    """The fingerprints of one job's two files, taken at most once for each set of algorithms that is asked for."""

    __slots__ = ("_files", "_job", "_taken")

    def __init__(self, job: Job, files: Files) -> None:
        self._job = job
        self._files = files
        self._taken: list[tuple[frozenset[Algorithm], Shared[Fingerprinted]]] = []

    def of(self, algorithms: Collection[Algorithm]) -> Shared[Fingerprinted]:
        """One `Fingerprinted` with (at least) these algorithms; the reading starts at the first subscription."""
        wanted = frozenset(algorithms)
        for have, reading in self._taken:
            if wanted <= have:
                return reading
        reading = Shared(from_async(lambda: self._read(wanted), f"fingerprint {self._job.id}"))
        self._taken.append((wanted, reading))
        return reading

    async def _read(self, wanted: frozenset[Algorithm]) -> Fingerprinted:
        video = await self._files.fingerprint(self._job.video, wanted)
        audio = await self._files.fingerprint(self._job.audio, wanted)
        return Fingerprinted((video, audio))

    def dispose(self) -> None:
        """Stop reading; the job is over."""
        for _, reading in self._taken:
            reading.dispose()
