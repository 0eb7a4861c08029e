"""The port to a depot, as the hub uses it: our own depot (`builtin.py`) or a bucket (`s3.py`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol

from wakestream.streams.protocol import depot_messages as d

Method = Literal["put", "get"]

LINKS: float = 3600.0
"""Seconds for which a link is valid."""


class DepotStore(Protocol):
    """Where files are. The keys are made of the license's public id and the BLAKE3, never of a file's name.

    Each method but `sign` talks to the depot, and raises a `WakestreamError` with the `code` `down`, `full` or
    `denied` if it cannot.
    """

    async def open(self, owner: str, files: Sequence[d.DepotFile]) -> Mapping[str, int]:
        """Begin or go on with uploads.

        Args:
            owner: The license's public id.
            files: The files.

        Returns:
            The bytes of those that are there, by BLAKE3.
        """

    def sign(
        self, files: Sequence[d.DepotFile], have: Collection[str], owner: str, method: Method, now: float
    ) -> tuple[d.DepotPlace, ...]:
        """Return the places of these files, with links; it does no I/O, and knows parts from the last `open`.

        Args:
            files: The files.
            have: The BLAKE3s of those that are there: they get no link for a PUT.
            owner: The license's public id.
            method: What the links are for.
            now: UNIX seconds.
        """

    def permission(self, owner: str, job: str, now: float) -> Mapping[str, str]:
        """Return what a message needs beside its links: `depot` and `capability` of our own depot, none for a bucket.

        Args:
            owner: The license's public id.
            job: The job that may use it.
            now: UNIX seconds.
        """

    async def check(self, owner: str, files: Sequence[d.DepotFile]) -> Mapping[str, int]:
        """Return the bytes of those that are there, by BLAKE3. Uploads in parts are completed first."""

    async def remove(self, owner: str, files: Collection[str]) -> None:
        """Remove files by BLAKE3; one that is not there is no error."""

    async def close(self) -> None:
        """Close connections."""
