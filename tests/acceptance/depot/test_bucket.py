"""A depot in a bucket, at real stores: the port's cases, and what stores do that one would not expect."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from blake3 import blake3
from yarl import URL

from tests.support.depot.stores import Store, clock_off, only_radosgw
from wakestream.adapters.client import links
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.depot import s3
from wakestream.adapters.depot.bucket import PUT_KEY, Bucket
from wakestream.adapters.depot.s3 import MIB, S3Depot
from wakestream.adapters.depot.store import Method
from wakestream.operators.model.depot import DepotFile, Place
from wakestream.operators.model.errors import DepotError, LinkExpired
from wakestream.operators.model.events import Fingerprint
from wakestream.streams.protocol import depot_messages as d

pytestmark = pytest.mark.usefixtures("no_link_is_logged")

ME, OTHER = "license-me", "license-other"


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files above 5 MiB are put in parts of 5 MiB, the least that stores accept."""
    monkeypatch.setattr(s3, "WHOLE", 5 * MIB)
    monkeypatch.setattr(s3, "PART", 5 * MIB)


def film(folder: Path, size: int) -> Fingerprint:
    path = folder / f"film-{size}.mp4"
    path.write_bytes(os.urandom(size))
    status = path.stat()
    return Fingerprint(path, size, status.st_mtime_ns, {"blake3": blake3(path.read_bytes()).hexdigest()})


def offered(file: Fingerprint) -> d.DepotFile:
    return d.DepotFile(name="video", blake3=file.digests["blake3"], ext=".mp4", size=file.size)


def place(at: d.DepotPlace) -> Place:
    """As a client reads it."""
    parts = {int(number): link for number, link in at.parts.items()}
    file = DepotFile(at.name, at.blake3, at.ext, at.size)
    return Place(file, url=at.url, parts=parts, part_size=at.part_size, parted=at.parted, have=at.have)


async def where(depot: S3Depot, file: Fingerprint, method: Method = "put", owner: str = ME) -> Place:
    there = await depot.open(owner, [offered(file)])
    return place(*depot.sign([offered(file)], there, owner, method, 0.0))


async def put(session: HttpWorkers, file: Fingerprint, at: Place) -> None:
    async with aclosing(links.put(session, file, at)) as totals:
        async for _ in totals:
            pass


async def got(session: HttpWorkers, at: Place, output: Path) -> bytes:
    partial = session.partial(at.file.blake3, output)
    async with aclosing(links.get(session, at, partial)) as steps:
        async for _ in steps:
            pass
    return partial.output.read_bytes()


async def there(depot: S3Depot, file: Fingerprint, owner: str = ME) -> bool:
    return await depot.check(owner, [offered(file)]) == {file.digests["blake3"]: file.size}


async def call(method: str, link: str, body: Any = None, **headers: str) -> int:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        http.request(method, URL(link, encoded=True), data=body, headers=headers) as response,
    ):
        await response.read()
        return response.status


# The port's cases


async def test_a_file_is_put_found_fetched_and_removed(depot: S3Depot, session: HttpWorkers, tmp_path: Path) -> None:
    file = film(tmp_path, 300_000)
    assert await depot.open(ME, [offered(file)]) == {}
    assert not await there(depot, file)
    await put(session, file, await where(depot, file))
    assert await there(depot, file)
    assert (await where(depot, file)).have
    assert await got(session, await where(depot, file, "get"), tmp_path / "out") == file.path.read_bytes()
    assert not await there(depot, file, OTHER)
    for _ in range(2):
        await depot.remove(ME, [file.digests["blake3"]])
    assert not await there(depot, file)


async def test_a_large_file_goes_on_with_its_missing_parts_after_a_restart_of_the_hub(
    depot: S3Depot, store: Store, bucket: Bucket, session: HttpWorkers, tmp_path: Path, small_parts: None
) -> None:
    file = film(tmp_path, 12 * MIB + 1)
    first = await where(depot, file)
    if store.name == "s3rver":  # cannot list parts: one PUT, which starts again when it was interrupted
        assert first.url
        assert not first.parts
        await put(session, file, first)
    else:
        assert sorted(first.parts) == [1, 2, 3]
        await put(session, file, replace(first, parts={2: first.parts[2]}))
        again = S3Depot(bucket)
        assert not await there(again, file)  # completed only with all of its parts
        rest = place(*again.sign([offered(file)], (), ME, "put", 0.0))
        await again.close()
        assert sorted(rest.parts) == [1, 3]
        assert rest.parted == 1
        await put(session, file, rest)
    assert await there(depot, file)
    assert await got(session, await where(depot, file, "get"), tmp_path / "out") == file.path.read_bytes()


@only_radosgw
async def test_two_jobs_with_one_large_file_share_its_upload(
    depot: S3Depot, store: Store, bucket: Bucket, tmp_path: Path, small_parts: None
) -> None:
    file = film(tmp_path, 6 * MIB)
    await asyncio.gather(*(depot.open(ME, [offered(file)]) for _ in range(5)))
    assert len(store.client().list_multipart_uploads(Bucket=bucket.name)["Uploads"]) == 1


@only_radosgw
async def test_one_message_has_at_most_32_links_to_parts(depot: S3Depot) -> None:
    files = [d.DepotFile(name=f"{n}", blake3=f"{n}" * 64, size=30 * s3.PART) for n in range(3)]
    await depot.open(ME, files)
    places = depot.sign(files, (), ME, "put", 0.0)
    assert [len(each.parts) for each in places] == [30, 2, 0]


def test_a_huge_file_has_at_most_10000_parts() -> None:
    for size in (65 * MIB, s3.PART * s3.MOST_PARTS, s3.PART * s3.MOST_PARTS + 1, 1 << 42):
        upload = s3._Upload("id", size)
        assert upload.count <= 10_000
        assert upload.part_size % MIB == 0
        assert sum(upload.length(number) for number in range(1, upload.count + 1)) == size


async def test_a_file_that_was_removed_meanwhile_is_lost_and_not_there(
    depot: S3Depot, store: Store, bucket: Bucket, session: HttpWorkers, tmp_path: Path
) -> None:
    file = film(tmp_path, 1000)
    await put(session, file, await where(depot, file))
    at = await where(depot, file, "get")
    store.client().delete_object(Bucket=bucket.name, Key=bucket.key(ME, file.digests["blake3"]))
    with pytest.raises(DepotError) as raised:
        await got(session, at, tmp_path / "out")
    assert raised.value.code == "lost"
    assert not await there(depot, file)


@only_radosgw
async def test_abandoned_uploads_are_removed_and_those_in_use_stay(
    depot: S3Depot, store: Store, bucket: Bucket, tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.client().create_multipart_upload(Bucket=bucket.name, Key=bucket.key(OTHER, "0" * 64))
    store.client().create_multipart_upload(Bucket=bucket.name, Key="of another program")
    file = film(tmp_path, 6 * MIB)
    await depot.open(ME, [offered(file)])
    assert await depot.sweep() == 0
    monkeypatch.setattr(s3, "ABANDONED", -1.0)
    depot._uploads[bucket.key(ME, file.digests["blake3"])].used = float("inf")
    assert await depot.sweep() == 1
    left = {each["Key"] for each in store.client().list_multipart_uploads(Bucket=bucket.name)["Uploads"]}
    assert left == {"of another program", bucket.key(ME, file.digests["blake3"])}


# Lengths, sizes, ends


@only_radosgw  # s3rver checks no signature of version 4
async def test_a_link_takes_no_more_and_no_fewer_bytes_than_it_was_signed_for(depot: S3Depot, tmp_path: Path) -> None:
    file = film(tmp_path, 3)
    link = (await where(depot, file)).url
    assert "content-length" in link

    async def chunks() -> AsyncIterator[bytes]:
        yield b"123"

    for body in (b"123456789", b"12", chunks()):
        assert await call("PUT", link, body) == 403
    assert not await there(depot, file)


@only_radosgw
async def test_a_link_is_for_one_key_and_one_method(depot: S3Depot, tmp_path: Path) -> None:
    file = film(tmp_path, 3)
    link = (await where(depot, file)).url
    assert await call("GET", link) == 403
    assert await call("PUT", link.replace(ME, OTHER), b"123") == 403
    assert await call("DELETE", link) == 403


@only_radosgw
async def test_links_may_name_the_bucket_in_their_host(
    depot: S3Depot, store: Store, bucket: Bucket, tmp_path: Path
) -> None:
    file = film(tmp_path, 1000)
    local = store.url.replace("127.0.0.1", "localhost")
    virtual = S3Depot(replace(bucket, endpoint=local, style="virtual"), {})
    [at] = virtual.sign([offered(file)], (), ME, "put", 0.0)
    host = f"{bucket.name}.localhost"  # not every system resolves it
    assert at.url.startswith(f"http://{host}:")
    link = at.url.replace(host, "127.0.0.1", 1)
    assert await call("PUT", link, file.path.read_bytes(), Host=f"{host}:{URL(link).port}") == 200
    assert await there(depot, file)
    await virtual.close()


async def test_an_object_of_another_length_is_not_the_file(
    depot: S3Depot, store: Store, bucket: Bucket, tmp_path: Path
) -> None:
    file = film(tmp_path, 1000)
    store.client().put_object(Bucket=bucket.name, Key=bucket.key(ME, file.digests["blake3"]), Body=b"short")
    assert not await there(depot, file)
    assert (await where(depot, file)).url


@only_radosgw
async def test_an_upload_with_parts_of_another_size_begins_again(
    depot: S3Depot, store: Store, bucket: Bucket, session: HttpWorkers, tmp_path: Path, small_parts: None
) -> None:
    file = film(tmp_path, 12 * MIB)
    key, client = bucket.key(ME, file.digests["blake3"]), store.client()
    earlier = client.create_multipart_upload(Bucket=bucket.name, Key=key)["UploadId"]
    client.upload_part(Bucket=bucket.name, Key=key, UploadId=earlier, PartNumber=1, Body=bytes(6 * MIB))
    at = await where(depot, file)
    assert (at.parted, sorted(at.parts)) == (0, [1, 2, 3])
    uploads = client.list_multipart_uploads(Bucket=bucket.name)["Uploads"]
    assert earlier not in [each["UploadId"] for each in uploads]
    await put(session, file, at)
    assert await there(depot, file)


@only_radosgw
async def test_an_upload_that_was_removed_begins_again(
    depot: S3Depot, store: Store, bucket: Bucket, session: HttpWorkers, tmp_path: Path, small_parts: None
) -> None:
    file = film(tmp_path, 12 * MIB)
    at = await where(depot, file)
    key = bucket.key(ME, file.digests["blake3"])
    store.client().abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=depot._uploads[key].id)
    with pytest.raises(DepotError) as raised:
        await put(session, file, at)
    assert raised.value.code == "lost"
    await put(session, file, await where(depot, file))
    assert await there(depot, file)


async def test_a_link_ends_and_a_new_one_works(
    depot: S3Depot, session: HttpWorkers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = film(tmp_path, 1000)
    with monkeypatch.context() as earlier:
        clock_off(earlier, -timedelta(minutes=61))
        at = place(*depot.sign([offered(file)], (), ME, "put", 0.0))
    with pytest.raises(LinkExpired):
        await put(session, file, at)
    await put(session, file, await where(depot, file))
    assert await there(depot, file)


@only_radosgw
async def test_a_hub_whose_clock_is_wrong_by_20_minutes_is_told_so(
    depot: S3Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_off(monkeypatch, -timedelta(minutes=20))
    with pytest.raises(DepotError) as raised:
        await depot.check(ME, [offered(film(tmp_path, 10))])
    assert raised.value.code == "denied"


# Headers that no link signs


@only_radosgw
@pytest.mark.parametrize("putter", [False, True])
async def test_only_a_key_that_may_only_put_keeps_a_link_from_copying_the_file_of_another_license(
    store: Store, bucket: Bucket, depot: S3Depot, tmp_path: Path, small_parts: None, putter: bool
) -> None:
    secret = film(tmp_path, 1000)
    store.client().put_object(Bucket=bucket.name, Key=bucket.key(OTHER, secret.digests["blake3"]), Body=b"s" * 1000)
    source = f"/{bucket.name}/{bucket.key(OTHER, secret.digests['blake3'])}"
    keys = dict(zip(PUT_KEY, (store.putter, store.secret), strict=True)) if putter else {}
    mine = S3Depot(bucket, keys)
    target, parts = film(tmp_path, 1), await where(mine, large := film(tmp_path, 6 * MIB))
    whole = await call("PUT", (await where(mine, target)).url, b"1", **{"x-amz-copy-source": source})
    part = await call("PUT", parts.parts[2], bytes(MIB), **{"x-amz-copy-source": source})
    assert (whole, part) == ((403, 403) if putter else (200, 400))  # with a length, Ceph copies no part
    assert (await where(mine, large)).parted == 0
    await mine.close()


@only_radosgw
@pytest.mark.parametrize("ignored", [False, True])
async def test_only_the_buckets_setting_keeps_a_link_from_publishing_its_file(
    store: Store, bucket: Bucket, depot: S3Depot, tmp_path: Path, ignored: bool
) -> None:
    if ignored:
        store.client().put_public_access_block(
            Bucket=bucket.name,
            PublicAccessBlockConfiguration={"IgnorePublicAcls": True, "RestrictPublicBuckets": True},
        )
    everybody = "uri=http://acs.amazonaws.com/groups/global/AllUsers"
    for size, header in enumerate(({"x-amz-acl": "public-read"}, {"x-amz-grant-read": everybody}), start=10):
        file = film(tmp_path, size)
        assert await call("PUT", (await where(depot, file)).url, file.path.read_bytes(), **header) == 200
        plain = f"{store.url}/{bucket.name}/{bucket.key(ME, file.digests['blake3'])}"
        assert await call("GET", plain) == (403 if ignored else 200)


@only_radosgw
async def test_a_key_that_may_only_put_is_enough_for_links_to_whole_files_and_parts(
    store: Store, bucket: Bucket, depot: S3Depot, session: HttpWorkers, tmp_path: Path, small_parts: None
) -> None:
    mine = S3Depot(bucket, dict(zip(PUT_KEY, (store.putter, store.secret), strict=True)))
    for size in (1000, 12 * MIB):
        file = film(tmp_path, size)
        at = await where(mine, file)
        assert "PUTTER" in (at.url or at.parts[1])
        await put(session, file, at)
        assert await there(mine, file)
        assert await got(session, await where(mine, file, "get"), tmp_path / f"out-{size}") == file.path.read_bytes()
    await mine.close()
