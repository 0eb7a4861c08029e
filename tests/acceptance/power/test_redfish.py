"""The power provider `redfish` against sushy-emulator with TLS and accounts, and a fake of what that has not."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trustme

from tests.support.engines.real_servers import Server, running
from tests.support.power.redfish_bmc import ID, RedfishWorld
from tests.support.power.stand_ins import needs_clouds, sushy
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power import redfish
from wakestream.adapters.power.config import PowerConfig
from wakestream.adapters.power.redfish import RedfishPower
from wakestream.adapters.testing.http_stand_in import serving
from wakestream.adapters.testing.power_watch import calling
from wakestream.operators.model.errors import Denied, PowerError, Transient
from wakestream.operators.model.ports import Reading

UUID = "27946b59-9e44-4fa7-8e91-f3527a1ef094"
SYSTEM = {"uuid": UUID, "name": "gpu-server", "power_state": "Off", "nics": []}
BCRYPT = "$2b$04$WJeENLvfRkcxxzLraDHotu3rGUzp6/DacU8WMetqQir2pkGIh53le"  # of the password below
KEYS = {"REDFISH_USER": "wakestream", "REDFISH_PASSWORD": "correct horse"}


class Controller:
    """sushy-emulator with a certificate for another name, as controllers have them."""

    def __init__(self, folder: Path) -> None:
        self.cert, key, auth = folder / "bmc.pem", folder / "bmc.key", folder / "accounts"
        made = trustme.CA().issue_cert("idrac-5FG3X.local")
        self.cert.write_bytes(made.cert_chain_pems[0].bytes())
        key.write_bytes(made.private_key_pem.bytes())
        auth.write_text(f"wakestream:{BCRYPT}\n")
        self.server: Server = sushy(
            folder, [SYSTEM], "--ssl-certificate", str(self.cert), "--ssl-key", str(key), auth=auth
        )

    @property
    def url(self) -> str:
        return self.server.url.replace("http:", "https:")

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.cert.read_text())).hexdigest()

    def power(self, machine: str | None = UUID, keys: dict[str, str] = KEYS, **options: str) -> RedfishPower:
        options = options or {"certificate": str(self.cert)}
        return redfish.create(PowerConfig(machine, options, keys.__getitem__, timeout=20, base_url=self.url))


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[Controller]:
    controller = Controller(tmp_path)
    async with running(controller.server):
        yield controller


async def until(power: RedfishPower, holds: Callable[[Reading], bool]) -> Reading:
    async with asyncio.timeout(100):
        while not holds(reading := await power.inspect()):
            pass
    return reading


@needs_clouds()
async def test_a_server_behind_sushy_is_switched_on_and_off(controller: Controller) -> None:
    power = controller.power()
    assert (await power.inspect()).state == "stopped"
    await power.start()
    await until(power, lambda reading: reading.state == "running")
    await power.stop()
    await until(power, lambda reading: reading.state == "stopped")
    await power.close()


@needs_clouds()
async def test_the_systems_of_sushy_are_listed_and_found_by_name(controller: Controller) -> None:
    lister = controller.power(None)
    assert [(each.id, each.name, each.state) for each in await lister.machines()] == [(UUID, "gpu-server", "stopped")]
    await lister.close()
    power = controller.power("gpu-server")
    assert (await power.inspect()).state == "stopped"
    await power.close()


@needs_clouds()
async def test_only_the_pinned_certificate_is_accepted(controller: Controller) -> None:
    pinned = controller.power(fingerprint=controller.fingerprint)
    assert (await pinned.inspect()).state == "stopped"
    await pinned.close()
    other = controller.power(fingerprint="ab" * 32)
    with pytest.raises(PowerError, match="another certificate than the pinned one"):
        await other.inspect()
    await other.close()
    unpinned = redfish.create(PowerConfig(UUID, {}, KEYS.__getitem__, base_url=controller.url))
    with pytest.raises(PowerError, match="--power-option certificate=FILE or fingerprint=SHA256"):
        await unpinned.inspect()
    await unpinned.close()


@needs_clouds()
async def test_a_wrong_password_is_denied(controller: Controller) -> None:
    power = controller.power(keys={"REDFISH_USER": "wakestream", "REDFISH_PASSWORD": "wrong password"})
    with pytest.raises(Denied) as caught:
        await power.inspect()
    assert "wrong password" not in str(caught.value)
    await power.close()


async def test_a_shutdown_that_is_ignored_is_forced_after_the_grace() -> None:
    async with serving(RedfishWorld()) as world:
        await world.become("running")
        world.ignores, world.options = True, {"grace": "0.2s"}
        power = world.provider()
        async with asyncio.timeout(100):
            while world.machine.state == "running":  # the monitor repeats a stop without effect
                await power.stop()
        assert world.resets == ["GracefulShutdown", "ForceOff"]
        await world.finish()
        assert (await power.inspect()).state == "stopped"
        await world.become("running")
        await power.stop()
        assert world.resets[2:] == ["GracefulShutdown"], "the next stop is a graceful one again"
        await power.close()


async def test_a_system_without_a_graceful_shutdown_is_switched_off() -> None:
    async with serving(RedfishWorld()) as world, calling(world) as power:
        await world.become("running")
        world.kinds = ["On", "ForceOff"]
        await power.stop()
        assert world.resets == ["ForceOff"]
        world.kinds = ["Nmi"]
        await world.become("stopped")
        with pytest.raises(PowerError, match="knows none of On, ForceOn, PushPowerButton; it has Nmi"):
            await power.start()


async def test_a_system_that_is_so_already_is_left_alone() -> None:
    async with serving(RedfishWorld()) as world, calling(world) as power:
        await power.stop()
        await world.become("running")
        await power.start()
        assert world.resets == []


async def test_a_controller_that_starts_itself_does_not_make_the_machine_gone() -> None:
    async with serving(RedfishWorld()) as world, calling(world) as power:
        world.booting = True
        with pytest.raises(Transient, match="is --machine the id of a system"):
            await power.inspect()


@pytest.mark.parametrize("path", ["//elsewhere.example/redfish", "@elsewhere.example/redfish"])
def test_a_path_that_leads_elsewhere_gets_no_password(path: str) -> None:
    with pytest.raises(PowerError, match="not one of its own"):
        redfish._path(path)


def test_settings_are_checked_before_anything_is_called(tmp_path: Path) -> None:
    for options, url, words in (
        ({}, None, "base_url=https://BMC"),
        ({}, "http://bmc.example", "https"),
        ({"fingerprint": "abc"}, "https://bmc.example", "64 hexadecimal digits"),
        ({"certificate": str(tmp_path / "none")}, "https://bmc.example", "PEM"),
        ({"grace": "soon"}, "https://bmc.example", "grace=soon"),
    ):
        with pytest.raises(SettingsError, match=words):
            redfish.create(PowerConfig(ID, options, KEYS.__getitem__, base_url=url))
