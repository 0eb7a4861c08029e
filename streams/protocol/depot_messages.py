"""The messages about the depot, the place of files and results; all are ours, and only for peers that announce `depot`.

    client -> hub   offer             what the job's files are
    hub -> client   places            which of them are missing, and where they are put
    client -> hub   progress, stored  how far that is; all of them are there
    hub -> client   stored            the job is in the hub's hands: the client may go
    hub -> worker   fetch             the work, and where its files are
    worker -> hub   progress, offer, delivered   how far it is, the results, and that they are in the depot
    hub -> worker   places, stored    where the results are put; they are on record
    hub -> client   progress, delivered          how far it is, and where the results are

A file is named by its BLAKE3. A message has links to a depot in a bucket, or the address of our own depot and a
capability for it; links end after an hour, and a repeated `offer` or `query` gets new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from msgspec import Meta

from wakestream.streams.protocol.messages import Address, Id, Message
from wakestream.streams.protocol.structs import Frozen

FEATURE: Final = "depot"
"""What clients, workers, hubs and depots announce for this."""

MOST_FILES: Final = 100
"""The most files of one job, and so of one message."""

PARTS: Final = 32
"""The most links to parts in one message, for all of its files; a repeated `offer` gets the next ones."""

LOST: Final = "lost"
"""The code of a result that is no longer in the depot."""

PROBE: Final = "probe of wakestream doctor"
"""The name of a small file that belongs to no job: it shows whether the depot works."""

MOST_OF_PROBE: Final = 4096
"""The most bytes of it."""

Blake3 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z", description="64 lower-case hex digits, the file's BLAKE3")]
Ext = Annotated[str, Meta(pattern=r"\A(?:\.[a-z0-9]{1,10})?\Z", description="an ending such as .mp4, or nothing")]
Size = Annotated[int, Meta(ge=0, le=1 << 50, description="the bytes of the file, a whole number")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]


class DepotFile(Frozen, frozen=True, kw_only=True):
    """A file: the input or output `name` of a job, its content, its ending and its bytes."""

    name: Name
    blake3: Blake3
    ext: Ext = ""
    size: Size = 0


class DepotPlace(DepotFile, frozen=True, kw_only=True):
    """Where a file is put, or where it is.

    Attributes:
        have: The depot has it.
        url: A link for a PUT of the whole file, or for GETs; empty at our own depot, which knows it by its BLAKE3.
        parts: Links for PUTs of parts, by the number of the part from 1: the next ones that are missing.
        part_size: The bytes of each part but the last.
        parted: How many parts the depot has.
    """

    have: bool = False
    url: str = ""
    parts: Mapping[str, str] = {}
    part_size: int = 0
    parted: int = 0


class _OfJob(Message, frozen=True, kw_only=True):
    request_id: Id


class _WithLinks(_OfJob, frozen=True, kw_only=True):
    """A message with links.

    `files` says where each file is; `depot` is the address of our own depot and `capability` the permission for it;
    all links end at `expires` (UNIX seconds).
    """

    HIDDEN: ClassVar[frozenset[str]] = frozenset({"files", "capability"})
    files: tuple[DepotPlace, ...] = ()
    depot: Address | None = None
    capability: str | None = None
    expires: int | None = None


class DepotOffer(_OfJob, frozen=True, kw_only=True):
    """client -> hub: the files of a job that waits; worker -> hub: the results of a job that it fetched.

    The same message again asks for new links. `again`: the result must be made for this job. A client may offer one
    file of the name `PROBE` without a job: it is answered with `places` until it is there, then with `delivered`.
    """

    TYPE: ClassVar[str] = "gpu.depot.offer"
    files: Annotated[tuple[DepotFile, ...], Meta(max_length=MOST_FILES)]
    again: bool | None = None


class DepotPlaces(_WithLinks, frozen=True, kw_only=True):
    """hub -> client, worker: where the offered files are put.

    With a `code` they cannot be put into the depot (`no_depot`, `down`, `full`, `quota`, `too_large`, `unsupported`,
    `unknown_job`, `too_fast`, `refused`), for the `reason`: the client sends them to the worker itself.
    """

    TYPE: ClassVar[str] = "gpu.depot.places"
    code: str | None = None
    reason: str | None = None


class DepotProgress(_OfJob, frozen=True, kw_only=True):
    """client -> hub: how far the upload is; worker -> hub -> client: how far the work is.

    Attributes:
        left: Bytes that the client has still to send.
        rate: Bytes a second of the last seconds.
        step: What is done at the GPU: `wait`, `fetch`, `render` or `deliver`.
        percent: How much of it, 0-100.
        gpu: The GPU that does it.
    """

    TYPE: ClassVar[str] = "gpu.depot.progress"
    left: int | None = None
    rate: float | None = None
    step: str | None = None
    percent: float | None = None
    gpu: str | None = None


class DepotStored(_OfJob, frozen=True, kw_only=True):
    """client -> hub: all files are in the depot; hub -> client: the hub checked it and does the job by itself.

    hub -> worker: the results are on record. `until` (UNIX seconds): how long the files are kept without a use.
    """

    TYPE: ClassVar[str] = "gpu.depot.stored"
    until: int | None = None


class DepotWithdraw(_OfJob, frozen=True, kw_only=True):
    """client -> hub: the client sends this job's files to the worker itself."""

    TYPE: ClassVar[str] = "gpu.depot.withdraw"


class DepotFetch(_WithLinks, frozen=True, kw_only=True):
    """hub -> worker: do this work; its files are in the depot. The same message again has new links.

    `payload` is that of a submit with the BLAKE3 of each file, `license` the public id of its owner.
    """

    TYPE: ClassVar[str] = "gpu.depot.fetch"
    task_type: str
    payload: Mapping[str, Any]
    license: str | None = None
    again: bool | None = None


class DepotDelivered(_WithLinks, frozen=True, kw_only=True):
    """worker -> hub: the results are in the depot; hub -> client: where they are.

    With a `code` the work failed at the worker, for the `reason`.
    """

    TYPE: ClassVar[str] = "gpu.depot.delivered"
    task_id: Id | None = None
    gpu: str | None = None
    code: str | None = None
    reason: str | None = None


class DepotQuery(_OfJob, frozen=True, kw_only=True):
    """client, worker -> hub: send `delivered` or `fetch` again, with new links."""

    TYPE: ClassVar[str] = "gpu.depot.query"


class DepotList(_OfJob, frozen=True, kw_only=True):
    """client -> hub: what does this license have in the depot? `after` is the BLAKE3 of the last one of a page."""

    TYPE: ClassVar[str] = "gpu.depot.list"
    after: str | None = None


class DepotListed(_OfJob, frozen=True, kw_only=True):
    """hub -> client: the answer, in pages.

    Attributes:
        files: `{"blake3", "ext", "size", "used", "until"}` each; times are UNIX seconds.
        count: All files of the license.
        size: Their bytes.
        quota: The most bytes; None: no limit.
        more: Whether there are more files.
        late: Until when links to a bucket can put removed files there again (UNIX seconds); then they are removed.
    """

    TYPE: ClassVar[str] = "gpu.depot.listed"
    files: tuple[Mapping[str, Any], ...] = ()
    count: int = 0
    size: int = 0
    quota: int | None = None
    more: bool = False
    late: int | None = None


class DepotRemove(_OfJob, frozen=True, kw_only=True):
    """client -> hub: remove these files of the license; answered with `listed` (no files, the new numbers)."""

    TYPE: ClassVar[str] = "gpu.depot.remove"
    files: Annotated[tuple[Blake3, ...], Meta(min_length=1, max_length=MOST_FILES)]


class DepotExpiring(Message, frozen=True, kw_only=True):
    """hub -> client: these results of the license were not fetched, and are removed at `at` (UNIX seconds)."""

    TYPE: ClassVar[str] = "gpu.depot.expiring"
    jobs: tuple[Id, ...]
    at: int


KNOWN: tuple[type[Message], ...] = (
    DepotOffer, DepotPlaces, DepotProgress, DepotStored, DepotWithdraw, DepotFetch, DepotDelivered, DepotQuery,
    DepotList, DepotListed, DepotRemove, DepotExpiring,
)  # fmt: skip
