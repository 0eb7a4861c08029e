"""`wakestream depot check` at real stores: each fault is made, and found."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.depot.stores import CLOSED, Store, clock_off, only_radosgw
from tests.support.ports import free_port
from tests.support.programs.here import ran_here
from tests.support.programs.our_peers import Place
from tests.support.programs.plain_server import answering
from wakestream.adapters.cli.doctor.run import examine
from wakestream.adapters.cli.i18n.catalog import catalog
from wakestream.adapters.config.settings import Secret, Settings
from wakestream.adapters.depot import probe
from wakestream.adapters.depot.bucket import PUT_KEY, Bucket
from wakestream.adapters.depot.probe import Found, check, refuse_unsafe
from wakestream.adapters.depot.s3 import S3Depot
from wakestream.operators.model.errors import DepotError

IGNORED = {"IgnorePublicAcls": True, "RestrictPublicBuckets": True}
EVERYBODY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}]}


def putter(store: Store) -> Mapping[str, str]:
    return dict(zip(PUT_KEY, (store.putter, store.secret), strict=True))


async def checked(bucket: Bucket, keys: Mapping[str, str] | None = None, *, quick: bool = True) -> dict[str, Found]:
    depot = S3Depot(bucket, keys or {})
    found = {each.check: each for each in await check(depot, quick=quick)}
    await depot.close()
    return found


def faults(found: Mapping[str, Found]) -> list[str]:
    return [each.check for each in found.values() if each.level == "fault"]


@only_radosgw
async def test_a_bucket_as_the_page_describes_it_has_no_fault_and_the_check_leaves_nothing_in_it(
    store: Store, bucket: Bucket, depot: S3Depot
) -> None:
    client = store.client()
    client.put_public_access_block(Bucket=bucket.name, PublicAccessBlockConfiguration=IGNORED)
    rule = {"ID": "ends", "Status": "Enabled", "Filter": {"Prefix": ""}}
    aborts = {"Rules": [{**rule, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}}]}
    client.put_bucket_lifecycle_configuration(Bucket=bucket.name, LifecycleConfiguration=aborts)
    found = await checked(bucket, putter(store), quick=False)
    assert {each.level for each in found.values()} == {"ok"}
    assert {*found} >= {"rights", "signatures", "lengths", "expiry", "public", "copies_by_putter", "acl", "lifecycle"}
    assert "Contents" not in client.list_objects_v2(Bucket=bucket.name)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket.name)


@only_radosgw
async def test_a_bucket_with_one_key_and_without_a_block_of_acls_is_refused_when_a_hub_starts(
    store: Store, bucket: Bucket, depot: S3Depot
) -> None:
    assert faults(await checked(bucket)) == ["copies", "acl"]
    with pytest.raises(DepotError, match=r"not safe.*\(acl, copies\)"):
        await refuse_unsafe(depot)


@only_radosgw
async def test_a_bucket_that_a_hub_could_not_try_at_its_start_is_tried_before_it_is_used(
    store: Store, depot: S3Depot
) -> None:
    late, client = S3Depot(Bucket("late", "", store.url), putter(store)), store.client()
    assert [found.check for found in await refuse_unsafe(late)] == ["no_bucket"]
    for why in ("no_bucket", "acl"):
        with pytest.raises(DepotError, match=why) as raised:
            await late.open("me", ())
        assert raised.value.code == "denied"
        if why == "no_bucket":
            client.create_bucket(Bucket="late")
    client.put_public_access_block(Bucket="late", PublicAccessBlockConfiguration=IGNORED)
    assert await late.open("me", ()) == {}
    assert late.trial is None
    await late.close()


@pytest.mark.parametrize("store", ["s3rver"], indirect=True)
async def test_a_store_that_checks_no_signature_is_refused(bucket: Bucket, depot: S3Depot) -> None:
    found = await checked(bucket)
    assert {"signatures", "lengths", "public"} <= {*faults(found)}
    assert found["parts"].level == "warning"


@only_radosgw
async def test_missing_rights_are_named(
    store: Store, bucket: Bucket, depot: S3Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.putter)
    found = await checked(bucket)
    assert faults(found) == ["rights"]
    assert {"s3:ListBucket", "s3:GetObject"} <= {*str(found["rights"].values["rights"]).split(", ")}


@only_radosgw
async def test_a_bucket_that_others_can_read_is_refused(store: Store, bucket: Bucket, depot: S3Depot) -> None:
    client = store.client()
    client.put_bucket_acl(Bucket=bucket.name, ACL="public-read")
    assert "public" in faults(await checked(bucket))
    client.put_bucket_acl(Bucket=bucket.name, ACL="private")
    assert "public" not in faults(await checked(bucket))
    statement = {**EVERYBODY["Statement"][0], "Resource": f"arn:aws:s3:::{bucket.name}/*"}  # type: ignore[dict-item]
    client.put_bucket_policy(Bucket=bucket.name, Policy=json.dumps({**EVERYBODY, "Statement": [statement]}))
    assert "public" in faults(await checked(bucket))


@only_radosgw
async def test_a_bucket_that_cannot_be_used_says_why(
    store: Store, bucket: Bucket, depot: S3Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert faults(await checked(Bucket("not-there", "", store.url))) == ["no_bucket"]
    silent = Bucket(bucket.name, "", f"http://127.0.0.1:{free_port()}")
    assert faults(await checked(silent)) == ["silent"]
    assert [found.check for found in await refuse_unsafe(S3Depot(silent, {}))] == ["silent"]
    with monkeypatch.context() as later:
        clock_off(later, timedelta(minutes=-20))
        assert faults(await checked(bucket)) == ["skewed"]
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_SECRET_ACCESS_KEY", "another")
        assert faults(await checked(bucket)) == ["key"]


async def test_a_wrong_region_is_named_with_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: web.Request) -> web.Response:
        text = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>expecting 'eu-west-1'</Message></Error>"
        return web.Response(status=400, text=text, headers={"x-amz-bucket-region": "eu-west-1"})

    for name, value in {**CLOSED, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    async with answering(answer) as url:
        found = await checked(Bucket("films", "", url))
    assert faults(found) == ["region"]
    assert found["region"].values["real"] == "eu-west-1"


@only_radosgw
async def test_a_clock_that_is_some_minutes_wrong_is_a_warning(
    store: Store, bucket: Bucket, depot: S3Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    monkeypatch.setattr("wakestream.adapters.depot.probe.time.time", lambda: now() + 300)
    found = (await checked(bucket))["clock"]
    assert (found.level, round(float(str(found.values["seconds"])) / 10)) == ("warning", 30)


@only_radosgw
@pytest.mark.parametrize("locked", [False, True])
async def test_versions_and_locks_work_and_are_told(store: Store, depot: S3Depot, locked: bool) -> None:
    name, client = f"versions-{locked}".lower(), store.client()
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    rules: dict[str, Any] = {"ID": "ends", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 3}}
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rules]})
    client.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=IGNORED)
    found = await checked(Bucket(name, "a/", store.url), putter(store), quick=False)
    assert faults(found) == []
    assert found["versions"].level == "warning"
    assert found["removes"].values == {"days": 3}
    assert "Contents" not in client.list_objects_v2(Bucket=name)


@only_radosgw
async def test_the_command_and_the_start_of_a_hub_say_what_is_unsafe(
    store: Store, bucket: Bucket, depot: S3Depot, tmp_path: Path
) -> None:
    at = ("--depot", f"s3://{bucket.name}/wakestream", "--depot-endpoint", store.url)
    said = await asyncio.to_thread(ran_here, "depot", "check", *at)
    assert said.code == 1
    assert "x-amz-copy-source" in said.out
    assert PUT_KEY[0] in said.out
    refused = await asyncio.to_thread(ran_here, "hub", *at, "--state", tmp_path, "--listen", "127.0.0.1:0")
    assert refused.code == 1
    assert "acl, copies" in refused.err
    assert store.secret not in said.out + refused.err


def test_each_finding_has_its_texts_in_both_languages() -> None:
    source = Path(probe.__file__).read_text()
    tried = {*re.findall(r'ound\("(\w+)"', source), *probe.UNSAFE, *probe._REACH.values(), "answer", "region"}
    for language in ("en", "zh"):
        texts = catalog(language)
        assert {name.split(".")[1] for name in texts if name.startswith("bucket.")} == tried
        assert {name for name in tried if f"bucket.{name}.do" not in texts} == {"lifecycle"}


async def test_doctor_puts_gets_and_removes_a_file_of_its_own_by_the_hubs_links(
    tmp_path: Path, place: Place, store: Store, bucket: Bucket, depot: S3Depot
) -> None:
    async with place.hub(bucket=depot):
        settings = Settings(hub_url=place.hub_url, key=Secret(place.keys["client"]))
        found = {result.check: result async for result in examine(settings, tmp_path)}
    assert (found["depot"].level, "removed it" in found["depot"].says) == ("ok", True), found["depot"]
    assert "Contents" not in store.client().list_objects_v2(Bucket=bucket.name)
