"""Our own depot: what it keeps, for whom, how much, and what only its hub may do."""

from pathlib import Path

import pytest

from tests.support.programs.capability_scene import scene
from tests.support.programs.depot_scene import DepotScene, depot_scene, named, put
from tests.support.programs.our_peers import Place
from tests.support.programs.tus_scene import Tus, metadata
from wakestream.adapters.net.capabilities import of_depot
from wakestream.adapters.net.capability_keys import Signer

FILM = bytes(range(256)) * 40
WANTED = {"files": [{"hash": named(FILM), "ext": ".mp4"}]}
AT = f"file?hash={named(FILM)}&ext=.mp4"


async def sender(here: DepotScene, content: bytes) -> tuple[Tus, dict[str, str]]:
    """Who may send this file, and its headers."""
    await here.announce("one", content)
    said = {"Authorization": f"Bearer {here.token('one')}", "Tus_Resumable": "1.0.0"}
    return Tus(here.session, here.depot.address), said


async def test_a_license_gets_its_own_files_whole_and_in_parts_and_no_others(tmp_path: Path) -> None:
    async with depot_scene(tmp_path) as here:
        one, two = here.caller("one"), here.caller("two")
        assert await here.put("one", FILM) == 200
        assert (await one("GET", AT))[1]["bytes"] == FILM
        async with one.session.get(
            f"{one.address}/api/heygem/{AT}", headers=one.headers | {"Range": "bytes=100-199"}
        ) as part:
            assert (part.status, part.headers["ETag"], await part.read()) == (206, f'"{named(FILM)}"', FILM[100:200])
        assert (await two("GET", AT))[0] == 404
        assert (await two.data("POST", "check_files", json=WANTED)) == {named(FILM): False}
        assert (await two("POST", "prove", json=WANTED["files"][0]))[0] == 403
        await here.announce("two", FILM)
        assert "challenge" in await two.data("POST", "prove", json=WANTED["files"][0])
        assert (await here.caller("", "")("GET", AT))[0] == 403


@pytest.mark.parametrize("call", ["submit", "progress", "download", "queue", "cancel", "upload"])
async def test_a_depot_does_no_work(tmp_path: Path, call: str) -> None:
    async with depot_scene(tmp_path) as here:
        assert (await here.caller("one")("POST", call, json={}))[0] == 404
        _, health = await here.caller("one")("GET", "health")
        assert health["initialized"]
        assert "depot" in health["features"]


async def test_a_worker_serves_files_by_name_too(tmp_path: Path) -> None:
    async with scene(Place(tmp_path)) as here:
        assert await put(here.job("j"), FILM) == 200
        assert (await here.job("other")("GET", AT))[1]["bytes"] == FILM
        assert (await here.job("j", "another license")("GET", AT))[0] == 404


async def test_what_does_not_fit_is_refused_before_its_bytes(tmp_path: Path) -> None:
    async with depot_scene(tmp_path, size=len(FILM) + 100) as here:
        assert await here.put("one", FILM) == 200
        more = FILM[:-1] + b"x"
        for content, status in ((more, 507), (bytes(200), 507), (bytes(len(FILM) + 101), 413)):
            tus, said = await sender(here, content)
            assert (await tus.create(content, **said)).status == status
        assert await here.put("one", more) == 507
        assert await here.put("one", FILM) == 200  # it is there already
        assert await here.announce("one", FILM) == {
            "sizes": {named(FILM): len(FILM)}, "room": 100, "size": len(FILM) + 100,
        }  # fmt: skip
        await here.hub("one").data("POST", "remove", json=WANTED)
        assert await here.put("one", more) == 200
    async with depot_scene(tmp_path, size=len(FILM) + 100) as here:  # it counts what is there at its start
        assert await here.put("one", FILM) == 507


async def test_only_files_that_the_hub_has_announced_come(tmp_path: Path) -> None:
    async with depot_scene(tmp_path) as here:
        one, other = here.caller("one"), FILM[:-1] + b"y"
        assert await put(one, FILM) == 403
        await here.announce("one", FILM)
        tus, said = await sender(here, FILM)
        assert (await tus.create(other, **said)).status == 403
        assert (await tus.create(FILM, Upload_Length=str(len(FILM) + 1), **said)).status == 403
        assert (await tus.create(FILM, Upload_Metadata="filename YS5tcDQ=", **said)).status == 403  # without a hash
        assert await put(here.caller("two"), FILM) == 403
        assert await put(one, other) == 403
        assert not list((tmp_path / "files").iterdir())
        assert (await one("POST", "upload_file"))[0] == 404


async def test_a_revoked_license_has_nothing_here(tmp_path: Path) -> None:
    async with depot_scene(tmp_path) as here:
        assert await here.put("one", FILM) == 200
        verifier = here.depot.server.calls.verifier
        assert verifier is not None
        verifier.revoke("one")
        assert (await here.caller("one")("GET", AT))[0] == 403
        assert await put(here.caller("one"), FILM) == 403


async def test_only_the_hub_removes_files_and_only_those_that_no_license_has(tmp_path: Path) -> None:
    signer = Signer.fresh()
    async with depot_scene(tmp_path, signer=signer) as here:
        for owner in ("one", "two"):
            assert await here.put(owner, FILM) == 200
        for gpu in (of_depot("depot"), "depot", "gpu"):
            assert (await here.caller("one", gpu)("POST", "remove", json=WANTED))[0] == 403
        assert (await here.caller("one")("POST", "look", json=WANTED))[0] == 403
        await here.hub("one").data("POST", "remove", json=WANTED)
        assert (await here.caller("one")("GET", AT))[0] == 404
        assert await put(here.caller("one"), FILM) == 403  # until the hub announces it again
        assert (await here.caller("two")("GET", AT))[0] == 200
    async with depot_scene(tmp_path, signer=signer) as here:  # also after a restart
        assert (await here.caller("one")("GET", AT))[0] == 404
        await here.hub("two").data("POST", "remove", json=WANTED)
        assert not list((tmp_path / "files").iterdir())


async def test_a_file_that_no_license_has_is_removed_at_the_start(tmp_path: Path) -> None:
    async with depot_scene(tmp_path) as here:
        await here.put("one", FILM)
    (tmp_path / "files" / f"{'0' * 64}.mp4").write_bytes(b"published, and then the depot was killed")
    async with depot_scene(tmp_path):
        assert [path.stem for path in (tmp_path / "files").iterdir()] == [named(FILM)]


async def test_an_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    signer, half = Signer.fresh(), len(FILM) // 2

    async with depot_scene(tmp_path, signer=signer) as here:
        tus, said = await sender(here, FILM)
        path = await tus.created(FILM, **said)
        assert (await tus.patch(path, 0, FILM[:half], **said)).status == 204
    async with depot_scene(tmp_path, signer=signer) as here:
        tus, said = await sender(here, FILM)
        again = await tus.create(FILM, Upload_Metadata=metadata(FILM), **said)
        assert again.headers["Upload-Offset"] == str(half)
        assert (await tus.patch(path, half, FILM[half:], **said)).status == 204
        assert (await here.caller("one")("GET", AT))[1]["bytes"] == FILM
