"""A worker that does jobs by itself, with files in a bucket."""

from pathlib import Path

from tests.support.programs.leaving_client import client
from tests.support.programs.our_peers import Joining, Place, until
from wakestream.adapters.depot.s3 import S3Depot


async def test_a_job_is_done_by_a_bucket_while_its_client_is_away(
    place: Place, tmp_path: Path, depot: S3Depot, no_link_is_logged: None
) -> None:
    film, sound = b"v" * 3_000_000, b"a" * 1000
    async with place.hub(bucket=depot, depot=True) as hub:
        async with client(place, tmp_path) as pc:
            await pc.store("j", video=film, audio=sound)
        async with place.worker(Joining()) as worker:
            await until(lambda: "j" in hub.state.delivered)
            assert worker.server.calls.transfers.moved == {"fetched": 3_001_000, "delivered": 3_001_000}
        async with client(place, tmp_path) as pc:
            assert await pc.results("j") == [film + sound]
