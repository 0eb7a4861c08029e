"""The power provider `docker` against Podman's service of Docker's API, where that runs, and a fake of it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.power.docker_engine import ID, DockerWorld, Podman
from tests.support.programs import plain_server
from tests.support.programs.certificates import Authority
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power import docker
from wakestream.adapters.power.config import PowerConfig
from wakestream.adapters.testing.http_stand_in import serving
from wakestream.adapters.testing.power_watch import calling
from wakestream.operators.model.errors import Denied, Gone, PowerError, Transient


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    podman = Podman(tmp_path_factory.mktemp("podman"))
    if why := podman.why_not():
        pytest.skip(why)
    yield podman
    podman.clean()


@pytest.fixture
async def engine(podman: Podman) -> AsyncIterator[str]:
    async with podman.serving() as url:
        yield url


async def test_a_container_of_podman_is_started_and_stopped(podman: Podman, engine: str) -> None:
    podman.create("lips")
    power = docker.create(PowerConfig("lips", {"grace": "1"}, base_url=engine))
    try:
        assert (await power.inspect()).state == "stopped"
        for _ in range(2):
            await power.start()
            await power.start()
            running = await power.inspect()
            assert (running.state, podman.inspect("lips")["State"]["Status"]) == ("running", "running")
            assert running.since is not None
            await power.stop()
            await power.stop()
            assert (await power.inspect()).state == "stopped"
        assert podman.inspect("lips")["State"]["Status"] in ("exited", "stopped")
    finally:
        await power.close()


async def test_podman_lists_its_containers_and_says_which_one_is_missing(podman: Podman, engine: str) -> None:
    podman.create("listed")
    lister = docker.create(PowerConfig(None, base_url=engine))
    found = {each.name: each for each in await lister.machines()}
    await lister.close()
    assert found["listed"].state == "stopped"
    power = docker.create(PowerConfig(found["listed"].id, base_url=engine))
    assert (await power.inspect()).state == "stopped"
    podman.run("rm", "listed")
    for call in (power.inspect, power.start, power.stop):
        with pytest.raises(Gone, match=r"(?i)no container with name or ID|no such container"):
            await call()
    await power.close()


async def test_a_container_of_podman_that_ends_with_an_error_has_failed(podman: Podman, engine: str) -> None:
    podman.create("broken", "--entrypoint", '["/bin/busybox", "sh", "-c", "exit 3", "--"]')
    power = docker.create(PowerConfig("broken", base_url=engine))
    await power.start()
    while (reading := await power.inspect()).state != "failed":
        pass
    assert "code 3" in reading.detail
    await power.close()


async def test_the_published_port_is_the_address_and_else_the_containers_own(tmp_path: Path) -> None:
    async with serving(DockerWorld()) as world, calling(world) as power:
        await world.become("running")
        assert (await power.inspect()).address == f"127.0.0.1:{world.port}"
        world.published = False
        assert (await power.inspect()).address is None, "a container's own address is good on its machine only"


async def test_a_paused_container_is_failed_and_the_start_says_what_to_do() -> None:
    async with serving(DockerWorld()) as world, calling(world) as power:
        world.machine.odd = "paused"
        assert (await power.inspect()).state == "failed"
        with pytest.raises(PowerError, match="try unpause instead"):
            await power.start()


async def test_an_error_of_the_container_is_in_the_detail() -> None:
    async with serving(DockerWorld()) as world, calling(world) as power:
        world.error, world.code = "could not select device driver", 128
        reading = await power.inspect()
        assert (reading.state, reading.since) == ("failed", None)
        assert reading.detail.endswith(": could not select device driver")


async def test_a_socket_without_an_engine_says_what_to_start(tmp_path: Path) -> None:
    power = docker.create(PowerConfig(ID, base_url=f"unix://{tmp_path}/none.sock"))
    with pytest.raises(Transient, match=r"no engine listens at .*none\.sock"):
        await power.inspect()
    await power.close()


async def test_a_socket_that_this_user_may_not_use_names_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forbidden(*_: object, **__: object) -> None:  # root may use any socket, so that the system cannot refuse
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", forbidden)
    power = docker.create(PowerConfig(ID, base_url=f"unix://{tmp_path}/none.sock"))
    with pytest.raises(Denied, match="usually docker"):
        await power.start()
    await power.close()


async def test_an_engine_on_another_machine_needs_tls() -> None:
    with pytest.raises(SettingsError, match="https"):
        docker.create(PowerConfig(ID, base_url="http://gpu.example:2375"))


def test_options_are_checked_before_anything_is_called(tmp_path: Path) -> None:
    for options, words in (
        ({"port": "0"}, "from 1 to 65535"),
        ({"grace": "60"}, "--call-timeout"),
        ({"tls_ca": str(tmp_path / "none.pem")}, "PEM"),
        ({"tag": "1"}, "no such option"),
    ):
        with pytest.raises(SettingsError, match=words):
            docker.create(PowerConfig(ID, options))


async def test_the_own_address_of_a_container_is_used_on_this_machine(tmp_path: Path) -> None:
    world = DockerWorld()
    await world.become("running")
    world.published = False
    app = web.Application()
    app.add_routes(world.routes())
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "d.sock")).start()
    power = docker.create(PowerConfig("lips", {"grace": "0"}, base_url=f"unix://{tmp_path}/d.sock"))
    assert (await power.inspect()).address == "172.17.0.2:8383"
    await power.close()
    await runner.cleanup()


async def test_an_engine_on_another_machine_is_reached_with_certificates_of_both_ends(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, key = authority.issue("engine")
    mine, my_key = authority.issue("monitor", "monitor.example")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.path))
    tls.load_cert_chain(server, key)
    tls.verify_mode = ssl.CERT_REQUIRED
    app = web.Application()
    app.add_routes(DockerWorld().routes())
    async with plain_server.serving(web.AppRunner(app), tls=tls) as port:
        url = f"https://127.0.0.1:{port}"
        files = {"tls_ca": str(authority.path), "tls_cert": str(mine), "tls_key": str(my_key)}
        power = docker.create(PowerConfig("lips", files, base_url=url))
        assert (await power.inspect()).state == "stopped"
        await power.close()
        stranger = docker.create(PowerConfig("lips", {"tls_ca": str(authority.path)}, base_url=url))
        with pytest.raises(Transient):
            await stranger.inspect()
        await stranger.close()
