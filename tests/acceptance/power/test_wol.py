"""The power provider `wol` with a UDP socket, a real ssh server and a worker's health."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import asyncssh
import pytest

from tests.support.power.own_machine import MAC, OwnMachine, own_machine
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power import wol
from wakestream.adapters.power.config import CannotList, PowerConfig, Provider
from wakestream.adapters.testing.power_suite import PowerConformance
from wakestream.operators.model.errors import Denied, PowerError, Transient
from wakestream.operators.model.ports import PowerState

OPTIONS = {"worker": "http://10.0.0.7:8383", "ssh": "wake@10.0.0.7"}


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[OwnMachine]:
    async with own_machine(tmp_path) as machine:
        yield machine


@pytest.fixture
async def power(machine: OwnMachine) -> AsyncIterator[Provider]:
    power = machine.provider(timeout=10)
    yield power
    await power.close()


class TestWol(PowerConformance):
    @pytest.fixture
    def world(self, machine: OwnMachine) -> OwnMachine:
        return machine


async def until(power: Provider, state: PowerState) -> None:
    async with asyncio.timeout(100):
        while (await power.inspect()).state != state:
            pass


async def test_a_machine_is_woken_and_powered_off(machine: OwnMachine, power: Provider) -> None:
    assert (await power.inspect()).state == "stopped"
    await power.start()
    assert (await power.inspect()).state == "starting"
    async with asyncio.timeout(100):
        await machine.woken.wait()
    await machine.finish()
    reading = await power.inspect()
    assert (reading.state, reading.address) == ("running", machine.url)
    await power.stop()
    assert machine.commands == ["sudo systemctl poweroff"]
    assert (await power.inspect()).state == "stopping"
    await machine.finish()
    await until(power, "stopped")


async def test_a_connection_that_breaks_while_it_powers_off_is_no_error(machine: OwnMachine, power: Provider) -> None:
    await machine.become("running")
    machine.hangs_up = True
    await power.stop()
    await machine.finish()
    await until(power, "stopped")


async def test_a_machine_that_is_off_is_not_asked_to_power_off(machine: OwnMachine, power: Provider) -> None:
    await power.stop()
    assert machine.commands == []


async def test_a_command_that_fails_is_told_with_its_words(machine: OwnMachine, power: Provider) -> None:
    await machine.become("running")
    machine.code = 1
    with pytest.raises(PowerError, match=r"ended with code 1: sudo: a password is required"):
        await power.stop()
    assert (await power.inspect()).state == "running"


async def test_a_wrong_key_and_a_wrong_host_key_are_denied(machine: OwnMachine, tmp_path: Path) -> None:
    await machine.become("running")
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "other")
    (tmp_path / "empty").write_text("")
    for option, file, words in (
        ("ssh_key", "other", "authorized_keys"),
        ("known_hosts", "empty", "known_hosts"),
        ("ssh_key", "missing", "cannot be read"),
    ):
        power = machine.provider(timeout=10, **{option: str(tmp_path / file)})
        with pytest.raises(Denied, match=words):
            await power.stop()
        await power.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The provider's time, which is `now` until the test moves it."""
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(wol, "time", clock)
    return clock


async def test_a_machine_that_served_and_does_not_answer_is_unknown_before_it_is_off(
    machine: OwnMachine, clock: SimpleNamespace
) -> None:
    await machine.become("running")
    power = machine.provider(timeout=10, quiet="30s")
    assert (await power.inspect()).state == "running"
    await machine.become("stopped")
    clock.now += 29
    assert (await power.inspect()).state == "unknown"
    clock.now += 2
    assert (await power.inspect()).state == "stopped"
    await power.close()


async def test_a_boot_that_takes_too_long_is_stopped_again(machine: OwnMachine, clock: SimpleNamespace) -> None:
    power = machine.provider(timeout=10, boot="5min")
    await power.start()
    clock.now += 299
    assert (await power.inspect()).state == "starting"
    clock.now += 2
    assert (await power.inspect()).state == "stopped"
    await power.close()


async def test_it_cannot_list(power: Provider) -> None:
    with pytest.raises(CannotList, match="ip link"):
        await power.machines()


async def test_a_packet_that_cannot_be_sent_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    power = wol.create(PowerConfig(MAC, {**OPTIONS, "broadcast": "999.0.0.1:9"}))
    with pytest.raises(Transient, match="cannot be sent"):
        await power.start()
    await power.close()


@pytest.mark.parametrize(
    ("machine_id", "options", "words"),
    [
        ("00:11:22", {}, "00:11:22:aa:bb:cc"),
        (MAC, {"worker": "ftp://x"}, "worker=ftp://x"),
        (MAC, {"ssh": "10.0.0.7"}, "USER@HOST"),
        (MAC, {"broadcast": "everyone"}, "broadcast address"),
        (MAC, {"boot": "long"}, "boot=long"),
        (MAC, {"worker": ""}, "needs --power-option worker="),
    ],
)
def test_options_are_checked_before_anything_is_sent(machine_id: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        wol.create(PowerConfig(machine_id, {**OPTIONS, **options}))
