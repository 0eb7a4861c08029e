"""A job by way of a bucket, with a real store, hub, worker and client, which goes and comes back for its result."""

import os
from datetime import timedelta
from typing import Any

import pytest
from blake3 import blake3

from tests.support.depot.stores import Store, clock_off, only_radosgw
from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import Joining, Place, until
from wakestream.adapters.depot import s3
from wakestream.adapters.depot.bucket import Bucket
from wakestream.adapters.depot.s3 import MIB, S3Depot

SUBMIT = ("clip.mp4", "speech.wav", "-o", "out.mp4", "--plain", "--job-id", "job-1")


async def test_a_job_is_done_while_its_pc_is_off_and_the_result_is_fetched_from_the_bucket(
    user: User, place: Place, store: Store, bucket: Bucket, depot: S3Depot, monkeypatch: pytest.MonkeyPatch,
    no_link_is_logged: None,
) -> None:  # fmt: skip
    monkeypatch.setattr(s3, "WHOLE", 5 * MIB)
    monkeypatch.setattr(s3, "PART", 5 * MIB)
    user.video.write_bytes(video := os.urandom(12 * MIB))
    async with place.hub(bucket=depot) as hub:
        said = await user.run("submit", *SUBMIT, "--leave")
        assert said.code == 0, said
        assert "Leave this PC on: the hub runs on it" in said.out
        async with place.worker(Joining()) as worker:
            await until(lambda: "job-1" in hub.state.delivered)
            size = len(video) + user.audio.stat().st_size
            assert worker.server.calls.transfers.moved == {"fetched": size, "delivered": size}
        again = await user.run("submit", *SUBMIT)
        assert again.code == 0, again
        assert user.out.read_bytes() == video + user.audio.read_bytes()
        assert "Signature=" not in said.out + said.err + again.out + again.err
        await until(lambda: not hub.state.delivered)
        keys = [each["Key"] for each in store.client().list_objects_v2(Bucket=bucket.name)["Contents"]]
    owner = place.licenses["client"].id
    assert len(keys) == 3
    assert all(key.startswith(f"wakestream/{owner}/files/") for key in keys)


@only_radosgw
async def test_files_that_were_removed_or_changed_in_the_bucket_are_sent_again_by_their_pc(
    user: User, place: Place, store: Store, bucket: Bucket, depot: S3Depot
) -> None:
    owner, client = place.licenses["client"].id, store.client()
    async with place.hub(bucket=depot) as hub:
        assert (await user.run("submit", *SUBMIT, "--leave")).code == 0
        [one, other] = [bucket.key(owner, blake3(path.read_bytes()).hexdigest()) for path in (user.video, user.audio)]
        client.delete_object(Bucket=bucket.name, Key=one)
        client.put_object(Bucket=bucket.name, Key=other, Body=bytes(user.audio.stat().st_size))
        async with place.worker(Joining()):
            await until(lambda: not hub.state.jobs["job-1"].stored)
            again = await user.run("submit", *SUBMIT)
        assert again.code == 0, again
        assert user.out.read_bytes() == user.video.read_bytes() + user.audio.read_bytes()


@pytest.mark.parametrize("method", ["put", "get"])
async def test_a_link_that_has_expired_is_asked_for_again(
    user: User, place: Place, depot: S3Depot, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    ways: list[str] = []
    sign = depot.sign

    def late(files: Any, have: Any, owner: str, way: Any, now: float) -> Any:
        with monkeypatch.context() as earlier:
            if way == method and way not in ways:
                clock_off(earlier, -timedelta(minutes=61))
            ways.append(way)
            return sign(files, have, owner, way, now)

    monkeypatch.setattr(depot, "sign", late)
    async with place.hub(bucket=depot) as hub:
        said = await user.run("submit", *SUBMIT, "--leave")
        assert said.code == 0, said
        assert "Leave this PC on: the hub runs on it" in said.out
        async with place.worker(Joining()):
            await until(lambda: "job-1" in hub.state.delivered)
    assert ways.count(method) >= 2
