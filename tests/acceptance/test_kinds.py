"""Hub, daemon and clients know what the GPUs can do: real programs, over sockets and files."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.field.hub import field_hub
from tests.support.field.worker import field_worker
from tests.support.programs.any_kind_scene import KINDS, Joining, Scene
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon, state_of
from tests.support.programs.our_peers import SECRET, Place, gpu_online, until
from wakestream.adapters.client.hub_query import hub_kinds
from wakestream.adapters.config import settings
from wakestream.adapters.worker import program
from wakestream.operators.model import events as e
from wakestream.operators.model.engine import Kind, Slot
from wakestream.operators.model.errors import TaskFailed
from wakestream.streams.protocol.kinds import plain_kind
from wakestream.streams.protocol.known_kinds import UNKNOWN, KnownKinds

FLIP = Kind("flip", (Slot("image", ("image",)),), (Slot("image", (".png",)),))


@pytest.fixture
def scene(tmp_path: Path, user: User) -> Scene:
    return Scene(tmp_path, Place(tmp_path, user))


async def asked(scene: Scene) -> KnownKinds:
    found = settings.load({}, environment=scene.place.client_settings(), folder=scene.folder)
    return await hub_kinds(found)


def gpus(plain: dict[str, Any]) -> dict[str, list[bool]]:
    return {each["kind"]["name"]: [gpu["online"] for gpu in each["gpus"]] for each in plain["kinds"]}


async def test_a_client_gets_the_kinds_of_a_worker(scene: Scene) -> None:
    async with scene.gpu():
        found = await asked(scene)
        assert [each.kind for each in found.kinds] == [*KINDS]
        assert [[(one.gpu, one.online) for one in each.gpus] for each in found.kinds] == [[("gpu", True)]] * 2
        assert (found.known, found.complete) == (True, True)


async def test_kinds_that_change_while_the_engine_stays_ready_are_noticed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "CHECK_AGAIN", 0.02)
    async with scene.place.hub() as hub, scene.worker() as worker:
        await gpu_online(hub)
        scene.engine.kinds = [*KINDS, FLIP]
        peers = hub.state.connections
        await until(lambda: "flip" in (hub.state.gpus["gpu"].kinds or {}) or any(p.described for p in peers.values()))
        assert [kind.name for kind in worker.server.calls.readiness.kinds] == ["join", "reverse", "flip"]


async def test_an_engine_that_does_not_describe_itself_for_a_while_keeps_its_kinds(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "CHECK_AGAIN", 0.02)
    asked = asyncio.Event()

    async def describe() -> list[Kind]:
        asked.set()
        raise TaskFailed("busy")

    async with scene.place.hub() as hub, scene.worker() as worker:
        await gpu_online(hub)
        monkeypatch.setattr(scene.engine, "describe", describe)
        await asked.wait()
        asked.clear()
        await asked.wait()
        readiness = worker.server.calls.readiness
        assert (readiness.initialized, readiness.kinds) == (True, KINDS)


async def test_many_kinds_with_long_descriptions_reach_the_client(scene: Scene) -> None:
    scene.engine.kinds = [replace(FLIP, name=f"flip_{n}", help="x" * 12_000) for n in range(20)]
    async with scene.gpu():
        found = [each.kind for each in (await asked(scene)).kinds]
        assert found == sorted(scene.engine.kinds, key=lambda kind: kind.name)


async def test_a_description_that_no_frame_can_hold_leaves_the_kinds_unknown(scene: Scene) -> None:
    scene.engine.kinds = [replace(FLIP, help="x" * 70_000)]
    async with scene.gpu():
        assert await asked(scene) == KnownKinds((), known=True, complete=False)


async def test_each_of_two_gpus_gets_the_jobs_of_its_kind(scene: Scene) -> None:
    scene.engine.kinds, other = KINDS[:1], Joining()
    other.kinds = KINDS[1:]
    async with (
        scene.place.hub() as hub,
        scene.worker("studio"),
        scene.worker("attic", other),
        scene.client() as client,
    ):
        await until(lambda: sum(gpu.online for gpu in hub.state.gpus.values()) == 2)
        jobs = [scene.job(f"{kind}-{n}", kind=kind, outputs=["whole"], times=n) for n in (1, 2) for kind in ("join",)]
        jobs += [scene.job(f"reverse-{n}", kind="reverse", outputs=["whole"]) for n in (1, 2)]
        assert {type(done) for done in await asyncio.gather(*(scene.run(client, job) for job in jobs))} == {e.Done}
        granted = {job.id: scene.of(job.id, e.Granted)[0].gpu for job in jobs}
        assert granted == {"join-1": "studio", "join-2": "studio", "reverse-1": "attic", "reverse-2": "attic"}


async def test_a_deployed_hub_tells_no_kinds_and_a_deployed_worker_is_no_gap(scene: Scene) -> None:
    async with field_hub() as old:
        scene.place.hub_url = old.url
        assert await asked(scene) == UNKNOWN
    async with (
        scene.place.hub(open_roles=frozenset({"worker"})) as hub,
        field_worker(SECRET, hub=hub.url.removesuffix("/dsp")),
    ):
        await gpu_online(hub)
        assert await asked(scene) == KnownKinds((), known=True, complete=True)
        async with scene.client() as client:
            failed = await scene.run(client, scene.job("one"))
        assert isinstance(failed, e.Failed)
        assert failed.code == "unsupported"
        assert "update that worker" in failed.why


async def test_the_daemon_tells_the_kinds_also_when_worker_and_hub_are_gone(scene: Scene, user: User) -> None:
    async with scene.place.hub() as hub:
        async with scene.worker():
            await gpu_online(hub)
            async with daemon(user) as api:
                plain = await api.kinds(lambda plain: plain["known"] and bool(plain["kinds"]))
                assert plain["kinds"][0] == {
                    "kind": orjson.loads(orjson.dumps(plain_kind(KINDS[0]))),
                    "gpus": [{"gpu": "gpu", "online": True}],
                }
                assert (gpus(plain), plain["complete"]) == ({"join": [True], "reverse": [True]}, True)
                await until((state_of(user) / "kinds.json").exists)  # before the daemon is killed
        async with daemon(user) as api:
            sleeping = {"join": [False], "reverse": [False]}
            await api.kinds(lambda plain: plain["complete"] and gpus(plain) == sleeping)
    async with daemon(user) as api:
        plain = await api.kinds(lambda _: True)
        assert (gpus(plain), plain["known"]) == ({"join": [False], "reverse": [False]}, True)
        assert plain["complete"] is False, "there may be others by now"


async def test_the_daemon_hears_of_new_kinds_by_itself(scene: Scene, user: User) -> None:
    async with scene.place.hub() as hub, daemon(user) as api:
        await until(lambda: bool(hub.state.clients))
        async with scene.worker():
            file = state_of(user) / "kinds.json"
            await until(file.exists)
        names = [each["kind"]["name"] for each in orjson.loads(file.read_bytes())["kinds"]]
        assert names == ["join", "reverse"]
        await api.kinds(lambda plain: gpus(plain) == {"join": [False], "reverse": [False]})


async def test_the_kinds_of_another_hub_are_not_used(scene: Scene, user: User) -> None:
    async with scene.place.hub():
        folder = scene.folder / "daemon"
        folder.mkdir()
        user.environment["WAKESTREAM_DAEMON"] = str(folder)
        kind = {"kind": plain_kind(FLIP), "gpus": []}
        for content in (b"{", orjson.dumps({"hub": "ws://else", "kinds": [kind], "known": True})):
            (folder / "kinds.json").write_bytes(content)
            async with daemon(user) as api:
                assert (await api.kinds(lambda plain: plain["known"]))["kinds"] == []


async def test_at_a_deployed_hub_the_daemon_says_that_it_cannot_know(scene: Scene, user: User) -> None:
    async with field_hub() as old:
        user.environment |= {**scene.place.client_settings(), "API_SERVER_URL": old.url}
        async with daemon(user) as api:
            assert await api.kinds(lambda _: True) == {"kinds": [], "known": False, "complete": False}
