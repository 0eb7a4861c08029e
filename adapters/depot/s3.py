"""A depot in a bucket: the hub signs links, and the bytes go from the peers to the bucket.

Nothing is used that AWS, MinIO, R2, Ceph or Garage lacks. The calls of boto3 block, so they run in threads.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from wakestream.adapters.depot.bucket import CALLS, Bucket, bucket_errors, clients, code_of
from wakestream.adapters.depot.store import LINKS, Method
from wakestream.adapters.runtime.tasks import background, end
from wakestream.operators.model.errors import DepotError
from wakestream.streams.protocol import depot_messages as d

T = TypeVar("T")

MIB: Final = 1024 * 1024

WHOLE: Final = 64 * MIB
"""Larger files are put in parts."""

PART: Final = 16 * MIB
"""Bytes of each part but the last (R2 demands equal ones); larger where there would be more than `MOST_PARTS`."""

MOST_PARTS: Final = 10_000

MOST_WHOLE: Final = 5 * 1024 * MIB
"""The most bytes of one PUT."""

ABANDONED: Final = 86400.0
"""Seconds without use after which an unfinished upload is removed."""

SWEEP: Final = 6 * 3600.0
"""Seconds between two looks for such uploads."""

FRAME, FILE, LINK = 60_000, 400, 1000
"""About the bytes of a message, of a file in it, and of a link."""

NO_SUCH: Final = frozenset({"404", "NoSuchKey", "NoSuchUpload"})
LACKS: Final = frozenset({"405", "501", "MethodNotAllowed", "NotImplemented"})


@dataclass(slots=True)
class _Upload:
    """An upload in parts: its id, the bytes of a part, and the ETags of the parts that the bucket has."""

    id: str
    size: int
    parts: dict[int, str] = field(default_factory=dict)
    used: float = field(default_factory=time.monotonic)

    @property
    def part_size(self) -> int:
        """The bytes of each part but the last, in whole MiB."""
        return max(PART, MIB * -(-self.size // (MIB * MOST_PARTS)))

    @property
    def count(self) -> int:
        """How many parts the file has."""
        return -(-self.size // self.part_size)

    def length(self, number: int) -> int:
        """The bytes of a part."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)


class S3Depot:
    """Implements `DepotStore` with a bucket.

    Args:
        bucket: Where it is.
        environment: Where `PUT_KEY` is read.

    Raises:
        SettingsError: boto3 is not installed, or there are no credentials.

    Example:
        >>> depot = S3Depot(Bucket.parse("s3://films/wakestream", "https://s3.example"))
        >>> there = await depot.open("license", files)
        >>> places = depot.sign(files, there, "license", "put", time.time())
    """

    def __init__(self, bucket: Bucket, environment: Mapping[str, str] = os.environ) -> None:
        self.bucket = bucket
        self.clients = self._client, self._putter = clients(bucket, environment)
        self._pool = ThreadPoolExecutor(CALLS, "wakestream-bucket")
        self._uploads: dict[str, _Upload] = {}
        self._beginning = threading.Lock()  # two jobs with the same file have one upload
        self._has_parts = True  # until it says that it cannot list them
        self.trial: Callable[[S3Depot], Awaitable[None]] | None = None  # before the next use
        self._swept = float("-inf")
        self._sweeping: asyncio.Task[int] | None = None

    async def open(self, owner: str, files: Sequence[d.DepotFile]) -> Mapping[str, int]:
        """See `DepotStore.open`. A file with another length is not there."""
        if self.trial is not None:
            await self.trial(self)
        if time.monotonic() - self._swept > SWEEP:
            self._swept = time.monotonic()
            self._sweeping = background("removing unfinished uploads", self.sweep())
        return await self._each(self._opened, owner, files)

    def sign(
        self, files: Sequence[d.DepotFile], have: Collection[str], owner: str, method: Method, now: float
    ) -> tuple[d.DepotPlace, ...]:
        """See `DepotStore.sign`. Links begin now, by this machine's clock."""
        keys, places = [self.bucket.key(owner, file.blake3) for file in files], []
        whole = sum(key not in self._uploads and file.blake3 not in have for key, file in zip(keys, files, strict=True))
        left = max(0, min(d.PARTS, (FRAME - FILE * len(files)) // LINK - whole))
        for key, file in zip(keys, files, strict=True):
            places.append(self._place(file, key, file.blake3 in have, method, left))
            left -= len(places[-1].parts)
        return tuple(places)

    def permission(self, owner: str, job: str, now: float) -> Mapping[str, str]:
        """See `DepotStore.permission`."""
        return {}

    def link_size(self) -> int:
        """About the most bytes of a link for a whole file: a temporary credential in it may get longer."""
        key = self.bucket.key("0" * 12, "0" * 64)
        return len(self._link(self._putter, "put_object", key, ContentLength=WHOLE)) * 11 // 10

    async def check(self, owner: str, files: Sequence[d.DepotFile]) -> Mapping[str, int]:
        """See `DepotStore.check`."""
        return await self._each(self._checked, owner, files)

    async def remove(self, owner: str, files: Collection[str]) -> None:
        """See `DepotStore.remove`. Other versions of a file go by the bucket's lifecycle rule."""
        await asyncio.gather(*(self._call(self._removed, self.bucket.key(owner, blake3)) for blake3 in files))

    async def sweep(self) -> int:
        """Remove uploads in parts that were not used for a day; returns how many."""
        return await self._call(self._sweep)

    async def close(self) -> None:
        """See `DepotStore.close`."""
        if self._sweeping is not None:
            await end(self._sweeping)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()
        self._putter.close()

    async def _each(
        self, work: Callable[[str, int], int | None], owner: str, files: Sequence[d.DepotFile]
    ) -> Mapping[str, int]:
        keys = {file.blake3: (self.bucket.key(owner, file.blake3), file.size) for file in files}
        sizes = await asyncio.gather(*(self._call(work, *key) for key in keys.values()))
        return {blake3: size for blake3, size in zip(keys, sizes, strict=True) if size is not None}

    async def _call(self, work: Callable[..., T], *args: Any) -> T:
        def guarded() -> T:
            with bucket_errors(self.bucket):
                return work(*args)

        return await asyncio.get_running_loop().run_in_executor(self._pool, guarded)

    def _place(self, file: d.DepotFile, key: str, there: bool, method: Method, most: int) -> d.DepotPlace:
        said = {name: getattr(file, name) for name in d.DepotFile.__struct_fields__}
        if method == "get":
            return d.DepotPlace(**said, have=there, url=self._link(self._client, "get_object", key))
        if there:
            return d.DepotPlace(**said, have=True)
        upload = self._uploads.get(key)
        if upload is None:
            return d.DepotPlace(**said, url=self._link(self._putter, "put_object", key, ContentLength=file.size))
        missing = [number for number in range(1, upload.count + 1) if number not in upload.parts][:most]
        links = {
            str(number): self._link(
                self._putter, "upload_part", key,
                UploadId=upload.id, PartNumber=number, ContentLength=upload.length(number),
            )
            for number in missing
        }  # fmt: skip
        return d.DepotPlace(**said, parts=links, part_size=upload.part_size, parted=len(upload.parts))

    def _link(self, client: Any, method: str, key: str, **params: Any) -> str:
        params |= {"Bucket": self.bucket.name, "Key": key}
        return str(client.generate_presigned_url(method, Params=params, ExpiresIn=int(LINKS)))

    # In a thread

    def _opened(self, key: str, size: int) -> int | None:
        stored = self._size(key, size)
        if stored is None and size > WHOLE and self._has_parts:
            with self._beginning:
                self._begin(key, size)
        if stored is None and size > MOST_WHOLE and not self._has_parts:
            why = f"the bucket {self.bucket.name} takes files of at most {MOST_WHOLE} bytes, this one has {size}"
            raise DepotError(why, code="too_large")
        return stored

    def _checked(self, key: str, size: int) -> int | None:
        stored, upload = self._opened(key, size), self._uploads.get(key)
        if stored is None and upload is not None and len(upload.parts) == upload.count:
            self._complete(key, upload)
            stored = self._size(key, size)
        if stored is not None:
            self._uploads.pop(key, None)
        return stored

    def _size(self, key: str, size: int) -> int | None:
        """The bytes of the object; None if it is missing or has another length."""
        try:
            stored = int(self._client.head_object(Bucket=self.bucket.name, Key=key)["ContentLength"])
        except self._client.exceptions.ClientError as error:
            if code_of(error) not in NO_SUCH:
                raise
            return None
        return stored if size in (0, stored) else None

    def _begin(self, key: str, size: int) -> None:
        """Go on with an upload in parts, also one of an earlier run, or begin one; see which parts are there."""
        upload = self._uploads.get(key)
        begun = [] if upload else [entry for entry in self._unfinished(key) if entry["Key"] == key]
        if begun:
            upload = _Upload(max(begun, key=lambda entry: entry["Initiated"])["UploadId"], size)
        if upload is None or not self._lists(key, upload):
            made = self._client.create_multipart_upload(Bucket=self.bucket.name, Key=key)
            upload = _Upload(made["UploadId"], size)
            if not self._lists(key, upload):
                return
        upload.used = time.monotonic()
        self._uploads[key] = upload

    def _unfinished(self, prefix: str) -> Iterator[Mapping[str, Any]]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket.name, Prefix=prefix)
        try:
            for page in pages:
                yield from page.get("Uploads", ())
        except self._client.exceptions.ClientError as error:
            if code_of(error) not in LACKS:
                raise

    def _lists(self, key: str, upload: _Upload) -> bool:
        """Read which parts are there. False, and the upload is gone, if they cannot be listed or do not fit."""
        pages = self._client.get_paginator("list_parts")
        try:
            parts = [
                part
                for page in pages.paginate(Bucket=self.bucket.name, Key=key, UploadId=upload.id)
                for part in page.get("Parts", ())
            ]
        except self._client.exceptions.ClientError as error:
            if code_of(error) not in NO_SUCH | LACKS:
                raise
            self._has_parts = code_of(error) not in LACKS  # without their ETags, no upload can be completed
            parts = [{"PartNumber": 0}]
        if all(0 < part["PartNumber"] <= upload.count and part["Size"] == upload.length(part["PartNumber"])
               for part in parts):  # fmt: skip
            upload.parts = {part["PartNumber"]: part["ETag"] for part in parts}
            return True
        self._uploads.pop(key, None)
        self._abort(key, upload.id)
        return False

    def _complete(self, key: str, upload: _Upload) -> None:
        parts = [{"PartNumber": number, "ETag": upload.parts[number]} for number in sorted(upload.parts)]
        try:  # boto3 repeats it after an error inside of a 200
            self._client.complete_multipart_upload(
                Bucket=self.bucket.name, Key=key, UploadId=upload.id, MultipartUpload={"Parts": parts}
            )
        except self._client.exceptions.ClientError as error:
            if code_of(error) not in NO_SUCH:  # of another check: the size tells
                raise

    def _abort(self, key: str, upload_id: str) -> None:
        with suppress(self._client.exceptions.ClientError):  # the sweep tries it again
            self._client.abort_multipart_upload(Bucket=self.bucket.name, Key=key, UploadId=upload_id)

    def _removed(self, key: str) -> None:
        if (upload := self._uploads.pop(key, None)) is not None:
            self._abort(key, upload.id)
        self._client.delete_object(Bucket=self.bucket.name, Key=key)

    def _sweep(self) -> int:
        removed = 0
        for begun in [*self._unfinished(self.bucket.prefix)]:
            if (datetime.now(UTC) - begun["Initiated"]).total_seconds() > ABANDONED:
                with self._beginning:  # a job may take it up meanwhile
                    upload = self._uploads.get(begun["Key"])
                    if upload is not None and upload.id == begun["UploadId"]:
                        if time.monotonic() - upload.used < ABANDONED:
                            continue
                        self._uploads.pop(begun["Key"], None)  # a check or a removal may have been first
                    self._abort(begun["Key"], begun["UploadId"])
                removed += 1
        return removed
