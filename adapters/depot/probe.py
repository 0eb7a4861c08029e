"""The check of a bucket: tries what the depot needs and what must be refused, with files of its own.

Stores differ in what they leave unsigned: with a link for an upload, some let its holder copy a file that he cannot
read (`x-amz-copy-source`) or publish his own (`x-amz-acl`). So each bucket is tried.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any, Final, Literal

from blake3 import blake3

from wakestream.adapters.config import addresses
from wakestream.adapters.depot.bucket import code_of
from wakestream.adapters.depot.s3 import LACKS, S3Depot
from wakestream.operators.model.errors import DepotError

OWNER: Final = "wakestream-check"
"""Stands in the place of a license."""

UNSAFE: Final = frozenset({"signatures", "lengths", "expiry", "public", "copies", "copies_by_putter", "acl"})
"""A bucket with a fault in one of these is not used."""

SKEW: Final = 60
"""Seconds that two clocks may differ. Stores refuse more than 15 minutes."""

_REACH: Final = {
    "NoSuchBucket": "no_bucket", "InvalidAccessKeyId": "key", "SignatureDoesNotMatch": "key", "InvalidToken": "key",
    "ExpiredToken": "key", "401": "key", "RequestTimeTooSkewed": "skewed",
}  # fmt: skip
_DENIED: Final = frozenset({"AccessDenied", "403"})
_EVERYBODY: Final = "http://acs.amazonaws.com/groups/global/AllUsers"


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that was tried.

    Its text is `bucket.CHECK.LEVEL` of the catalogs, filled with `values`; what to do is `bucket.CHECK.do`.
    """

    check: str
    level: Literal["ok", "warning", "fault", "skipped"]
    values: Mapping[str, object] = field(default_factory=dict)


async def check(depot: S3Depot, *, quick: bool = False) -> list[Found]:
    """Try the bucket, and remove the files of the check.

    Args:
        depot: The depot.
        quick: Without what takes seconds or only informs: expiry, versions, rules.

    Returns:
        What was tried.

    Example:
        >>> [found.check for found in await check(depot) if found.level == "fault"]
        []
    """
    return await asyncio.to_thread(lambda: [*_Probe(depot).results(quick)])


async def refuse_unsafe(depot: S3Depot) -> list[Found]:
    """Try the quick part, when a hub starts.

    Returns:
        Other faults, such as a bucket that does not answer. Then the bucket is tried again before it is used.

    Raises:
        DepotError: The bucket is not safe to use.
    """
    faults = [finding for finding in await check(depot, quick=True) if finding.level == "fault"]
    depot.trial = _before_use if faults else None
    if unsafe := sorted(fault.check for fault in faults if fault.check in UNSAFE):
        why = f"the bucket {depot.bucket.name} is not safe for files of several licenses ({', '.join(unsafe)})"
        raise DepotError(f"{why}; `wakestream depot check` says what to do", code="denied")
    return faults


async def _before_use(depot: S3Depot) -> None:
    for fault in await refuse_unsafe(depot):
        why = f"the bucket {depot.bucket.name} has a fault ({fault.check}); `wakestream depot check` says what to do"
        raise DepotError(why, code="down" if fault.check == "silent" else "denied")


def _found(check: str, fine: bool, **values: object) -> Found:
    return Found(check, "ok" if fine else "fault", values)


class _Probe:
    """One check, in a thread. After `_rights`, the file `own` is there."""

    def __init__(self, depot: S3Depot) -> None:
        self._bucket = depot.bucket
        self._client, self._putter = depot.clients
        self._http = import_module("botocore.httpsession").URLLib3Session(timeout=30)
        self._ahead = 0.0  # seconds that our clock is ahead of the store's

    def results(self, quick: bool) -> Iterator[Found]:
        where = {"bucket": self._bucket.name, "where": self._bucket.endpoint or "Amazon S3"}
        try:
            if (yield from self._reach(where)) and (yield from self._rights()):
                yield from self._links(quick)
                yield from self._headers()
                if not quick:
                    yield from self._rules()
        except import_module("botocore.exceptions").BotoCoreError as error:
            yield Found("silent", "fault", {**where, "why": type(error).__name__})
        finally:
            self._http.close()

    def _key(self, name: str) -> str:
        return self._bucket.key(OWNER, blake3(name.encode()).hexdigest())

    def _try(self, call: str, name: str = "", **params: Any) -> tuple[str, Any]:
        """Call the bucket; returns the word of its error (nothing without one), and its answer."""
        key = {"Key": self._key(name)} if name else {}
        try:
            return "", getattr(self._client, call)(Bucket=self._bucket.name, **key, **params)
        except self._client.exceptions.ClientError as error:
            return code_of(error) or "unknown", error.response

    def _link(self, call: str, name: str, seconds: int = 300, **params: Any) -> str:
        client = self._client if call == "get_object" else self._putter
        params |= {"Bucket": self._bucket.name, "Key": self._key(name)}
        return str(client.generate_presigned_url(call, Params=params, ExpiresIn=seconds))

    def _send(self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes | None:
        """The answer to a request that is not signed by a header; None if it is refused."""
        request = import_module("botocore.awsrequest").AWSRequest(method, url, {**(headers or {})}, body)
        answer = self._http.send(request.prepare())
        if date := answer.headers.get("Date"):
            self._ahead = time.time() - parsedate_to_datetime(date).timestamp()
        return bytes(answer.content) if answer.status_code == 200 else None

    def _puts(self, body: bytes = b"123", headers: Mapping[str, str] | None = None) -> bool:
        """Whether a link for three bytes accepts these."""
        return self._send("PUT", self._link("put_object", "own", ContentLength=3), body, headers) is not None

    def _part(self, use: str, headers: Mapping[str, str] | None = None) -> tuple[bytes | None, str]:
        """Put one part by a link; returns the answer, and the words of the errors of what is around it."""
        begun, answer = self._try("create_multipart_upload", "parts")
        if begun:
            return None, "not begun"
        upload = {"UploadId": answer["UploadId"]}
        link = self._link("upload_part", "parts", PartNumber=1, ContentLength=3, **upload)
        put, used = self._send("PUT", link, b"123", headers), self._try(use, "parts", **upload)[0]
        if use != "abort_multipart_upload":
            self._try("abort_multipart_upload", "parts", **upload)
        return put, used

    def _plain(self) -> str:
        """The address of the file `own`, without a signature."""
        return self._link("get_object", "own").partition("?")[0]

    def _reach(self, where: dict[str, str]) -> Generator[Found, None, bool]:
        region = self._client.meta.region_name
        word, answer = self._try("list_objects_v2", Prefix=f"{self._bucket.prefix}{OWNER}", MaxKeys=1)
        real = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region", region)
        if real != region or word not in ("", *_DENIED):
            why = f"{word} {answer.get('Error', {}).get('Message') or ''}".strip()[:200]
            reach = "region" if real != region else _REACH.get(word, "answer")
            yield Found(reach, "fault", {**where, "region": region, "real": real, "why": why})
            return False
        host = addresses.host_of(self._bucket.endpoint or "")
        secure = not (self._bucket.endpoint or "").startswith("http:") or addresses.is_loopback(host)
        yield Found("reach", "ok" if secure else "warning", where)
        return True

    def _rights(self) -> Generator[Found, None, bool]:
        put, listed = self._part("list_parts")
        words = {
            "ListBucket": self._try("list_objects_v2", Prefix=self._bucket.prefix, MaxKeys=1)[0],
            "PutObject": "" if self._puts() and put is not None else "403",
            "GetObject": "" if self._send("GET", self._link("get_object", "own")) else "403",
            "ListMultipartUploadParts": listed,
            "ListBucketMultipartUploads": self._try("list_multipart_uploads", Prefix=self._bucket.prefix)[0],
            "AbortMultipartUpload": self._part("abort_multipart_upload")[1],
            "DeleteObject": self._try("delete_object", "missing")[0],
        }
        missing = [f"s3:{right}" for right, word in words.items() if word in _DENIED]
        yield _found("rights", not missing, rights=", ".join(missing))
        if listed in LACKS:
            yield Found("parts", "warning")
        return not missing

    def _links(self, quick: bool) -> Iterator[Found]:
        link = self._link("put_object", "own", ContentLength=3)
        forged = link[:-1] + ("1" if link[-1] == "0" else "0")
        yield _found("signatures", self._send("PUT", forged, b"123") is None)
        yield _found("lengths", not self._puts(b"123456789"))
        if not quick:
            link = self._link("put_object", "own", 1, ContentLength=3)
            time.sleep(2.1)
            yield _found("expiry", self._send("PUT", link, b"123") is None)
        yield Found("clock", "ok" if abs(self._ahead) <= SKEW else "warning", {"seconds": abs(round(self._ahead))})
        grants = self._try("get_bucket_acl")[1].get("Grants", ())
        public = (
            any(grant.get("Grantee", {}).get("URI") == _EVERYBODY for grant in grants)
            or self._try("get_bucket_policy_status")[1].get("PolicyStatus", {}).get("IsPublic") is True
            or self._send("GET", self._plain()) is not None
            or self._send("GET", self._plain().partition(f"/{self._bucket.prefix}{OWNER}")[0]) is not None
        )
        yield _found("public", not public)

    def _headers(self) -> Iterator[Found]:
        """What the holder of a link for an upload can do by headers that it does not sign."""
        other = b"a file of another license"
        self._try("put_object", "other", Body=other)
        source = {"x-amz-copy-source": f"/{self._bucket.name}/{self._key('other')}"}
        self._puts(headers=source)
        copied = self._send("GET", self._link("get_object", "own")) == other
        copied = copied or b"CopyPartResult" in (self._part("list_parts", source)[0] or b"")
        yield _found("copies" if self._putter is self._client else "copies_by_putter", not copied)
        published = False
        for header in ({"x-amz-acl": "public-read"}, {"x-amz-grant-read": f"uri={_EVERYBODY}"}):
            self._puts(headers=header)
            published = published or self._send("GET", self._plain()) is not None
        yield _found("acl", not published)
        for name in ("own", "other"):
            self._try("delete_object", name)

    def _rules(self) -> Iterator[Found]:
        locked = self._try("get_object_lock_configuration")[1].get("ObjectLockConfiguration")
        if locked or self._try("get_bucket_versioning")[1].get("Status") == "Enabled":
            yield Found("versions", "warning")
        rules = self._try("get_bucket_lifecycle_configuration")[1].get("Rules", ())
        days = [rule["Expiration"]["Days"] for rule in rules if rule.get("Expiration", {}).get("Days")]
        if days:
            yield Found("removes", "warning", {"days": min(days)})
        aborts = any("AbortIncompleteMultipartUpload" in rule for rule in rules)
        yield Found("lifecycle", "ok" if aborts else "skipped")
