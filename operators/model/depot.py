"""The depot as a job sees it: where its files are put, what the hub says of them, and who moves them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from wakestream.operators.model.events import Done, Downloading, Fingerprint, Note

FEATURE: Final = "depot"
"""The feature of hubs with a depot, and of clients that use it."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The first `bytes` bytes of the file are there already; the upload continues there."""

    bytes: int


@dataclass(frozen=True, slots=True)
class DepotFile:
    """A file by its content: the input or output `name` of a job."""

    name: str
    blake3: str
    ext: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is put, or where it is.

    Attributes:
        file: The file.
        job: The job whose permission is used at our own depot.
        have: The depot has it.
        depot: The address of our own depot; None for a bucket, which has links.
        url: A link for a PUT of the whole file, or for GETs.
        parts: Links for PUTs of the next missing parts, by the number of the part from 1.
        part_size: The bytes of each part but the last.
        parted: How many parts the depot has.
    """

    file: DepotFile
    job: str = ""
    have: bool = False
    depot: str | None = None
    url: str = field(default="", repr=False)
    parts: Mapping[int, str] = field(default_factory=dict, hash=False, repr=False)
    part_size: int = 0
    parted: int = 0


@dataclass(frozen=True, slots=True)
class Places:
    """The hub's reply to an offer. With a `code` the depot cannot be used, for the `reason`."""

    places: tuple[Place, ...] = ()
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class InDepotDone:
    """The results are in the depot. With a `code` the work failed, for the `reason`."""

    places: tuple[Place, ...] = ()
    gpu: str | None = None
    code: str = ""
    reason: str = ""


class Depot(Protocol):
    """Moves files between this machine and the depot."""

    def put(self, file: Fingerprint, place: Place) -> AsyncIterator[int | Resumed]:
        """Send one file.

        Args:
            file: The file on this machine.
            place: Where it is put.

        Yields:
            How many bytes the depot has; `Resumed` if an earlier attempt sent them. It ends without an error when all
            links of the place are used: a new offer gets the next ones.

        Raises:
            LinkExpired: The link is no longer valid: offer the file again.
            FileChanged: The file changed after it was hashed.
        """

    def get(self, place: Place, output: Path) -> AsyncIterator[Downloading | Note | Done]:
        """Fetch a file to `output`, which appears only when it is complete and its BLAKE3 is right."""
