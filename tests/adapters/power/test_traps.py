"""The traps of each HTTP provider, one by one, at its stand-in."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from loguru import logger

from tests.support.power.autodl_api import AutodlWorld
from tests.support.power.compshare_api import CompshareWorld
from tests.support.power.runpod_api import RunpodWorld, problem
from tests.support.power.vast_api import VastWorld
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power import autodl, compshare, ec2, runpod, vast
from wakestream.adapters.power.config import PowerConfig, Provider
from wakestream.adapters.testing.http_stand_in import HttpStandIn, serving
from wakestream.operators.model.errors import Denied, Gone, NoCapacity, PowerError, QuotaExceeded, Transient, TryAgain


@asynccontextmanager
async def at(world: HttpStandIn, **options: str) -> AsyncIterator[Provider]:
    async with serving(world):
        world.options = options
        power = world.provider()
        yield power
        await power.close()


@pytest.fixture
def lines() -> Any:
    said: list[str] = []
    sink = logger.add(said.append, level="WARNING", format="{message}")
    yield said
    logger.remove(sink)


# --- runpod


async def test_runpod_a_pod_with_an_http_port_is_reached_through_the_proxy() -> None:
    class Proxied(RunpodWorld):
        def pod(self) -> dict[str, Any]:
            return {**super().pod(), "ports": ["8383/http"], "runtime": {"ports": []}}

    world = Proxied()
    async with at(world) as power:
        await world.become("running")
        assert (await power.inspect()).address == "https://7h9k2m4n6p-8383.proxy.runpod.net"


async def test_runpod_an_action_that_its_status_does_not_allow_is_no_second_start() -> None:
    world = RunpodWorld()
    async with at(world) as power:
        await world.become("running")
        with pytest.raises(TryAgain, match="409"):
            await power.start()
    assert world.starts == 0


async def test_runpod_a_page_that_is_not_there_does_not_make_its_pod_gone() -> None:
    world = RunpodWorld()
    async with serving(world):
        world.url += "/v9"
        power = world.provider()
        with pytest.raises(Transient, match="404"):  # aiohttp's own page, in text
            await power.inspect()
        await power.close()


async def test_runpod_a_valid_key_without_the_right_is_refused_with_the_page_to_read() -> None:
    class Forbidden(RunpodWorld):
        def denied(self) -> web.Response:
            return problem(403, "Forbidden", "access denied")

    world = Forbidden()
    world.fault = "denied"
    async with at(world) as power:
        with pytest.raises(Denied, match="access denied; check the credentials of --power runpod"):
            await power.inspect()


# --- vast


@pytest.mark.parametrize(
    ("actual", "intended", "current", "state"),
    [
        (None, "running", "stopped", "starting"),
        ("created", "running", "running", "starting"),
        ("loading", "running", "running", "starting"),
        ("exited", "running", "stopped", "starting"),  # still of the time before: it waits for a GPU
        ("running", "running", "running", "running"),
        ("frozen", "frozen", "running", "running"),  # it is billed
        ("offline", "running", "running", "unknown"),
        ("unknown", "running", "running", "unknown"),
        ("running", "stopped", "running", "stopping"),
        ("exited", "stopped", "stopped", "stopped"),
        ("offline", "stopped", "stopped", "stopped"),
        ("exited", "stopped", "unloaded", "terminated"),
    ],
)
async def test_vast_the_state_is_in_three_words(actual: str | None, intended: str, current: str, state: str) -> None:
    class Spoken(VastWorld):
        def row(self) -> dict[str, Any]:
            words = {"actual_status": actual, "intended_status": intended, "cur_state": current}
            return {**super().row(), **words}

    async with at(Spoken()) as power:
        assert (await power.inspect()).state == state


async def test_vast_a_stop_calls_off_a_start_that_waits_for_a_gpu() -> None:
    world = VastWorld()
    world.fault = "start_slow"
    async with at(world) as power:
        await power.start()
        assert (await power.inspect()).state == "starting"
        await power.stop()
        await world.finish()
        assert (await power.inspect()).state == "stopped"


# --- autodl


async def test_autodl_the_address_is_asked_for_once_while_it_runs() -> None:
    class Counting(AutodlWorld):
        snapshots = 0

        async def _snapshot(self, request: web.Request) -> web.Response:
            self.snapshots += 1
            return await super()._snapshot(request)

    world = Counting()
    async with at(world) as power:
        await world.become("running")
        readings = [await power.inspect() for _ in range(3)]
        assert {reading.address for reading in readings} == {"https://u1-abc.westb.seetacloud.example:8443"}
        assert world.snapshots == 1
        await world.become("stopped")
        await world.become("running")
        await world.move()
        assert (await power.inspect()).address == "https://u1-abc.westb.seetacloud.example:8443"
        await world.become("stopped")
        await power.inspect()
        await world.become("running")
        assert (await power.inspect()).address == "https://u1-xyz.westc.seetacloud.example:8443"


async def test_autodl_an_ordinary_instance_is_explained() -> None:
    async with serving(AutodlWorld()) as world:
        power = world.provider(machine="a1b2c3d4e5-f6")
        with pytest.raises(PowerError, match=r"only instances of the kind Pro \(pro-\.\.\.\)"):
            await power.inspect()
        await power.close()


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        ("InternalError", "当前算力规格暂无库存, 请修改配置或稍等再试", NoCapacity),
        ("InternalError", "系统繁忙", Transient),
        ("TORealName", "未完成实名认证,认证后才可使用", Denied),
        ("RecordNotFoundError", "", Gone),
        ("BalanceNotEnough", "账户余额不足", QuotaExceeded),
    ],
)
async def test_autodl_one_code_has_several_meanings(code: str, text: str, kind: type[PowerError]) -> None:
    power = autodl.create(PowerConfig("pro-1", secret=lambda _: "token-0123456789"))
    assert type(power.error(code, text)) is kind


def test_autodl_publishes_two_ports_only() -> None:
    with pytest.raises(SettingsError, match="AutoDL publishes only 6006 and 6008"):
        autodl.create(PowerConfig("pro-1", {"port": "8383"}, lambda _: "token-0123456789"))


# --- compshare


async def test_compshare_an_empty_state_is_not_off() -> None:
    world = CompshareWorld()
    world.machine.odd = ""
    async with at(world) as power:
        reading = await power.inspect()
    assert reading.state == "unknown"
    assert "could not get the state in time" in reading.detail


async def test_compshare_the_public_address_counts() -> None:
    world = CompshareWorld()
    async with at(world, port="9000") as power:
        await world.become("running")
        assert (await power.inspect()).address == "203.0.113.7:9000"


async def test_compshare_a_release_that_is_near_is_warned_of_once(lines: list[str]) -> None:
    world = CompshareWorld()
    world.release_time = time.time() + 86_400
    async with at(world) as power:
        readings = [await power.inspect() for _ in range(3)]
    assert all("it is released on" in reading.detail for reading in readings)
    assert len([line for line in lines if "its data will be lost" in line]) == 1


@pytest.mark.parametrize(("code", "kind"), [("8433", NoCapacity), ("8888", Transient)])
async def test_compshare_the_codes_of_no_capacity_can_be_set(
    code: str, kind: type[PowerError], lines: list[str]
) -> None:
    world = CompshareWorld()
    world.fault = "start_unknown"
    async with at(world, no_capacity="8433" if code == "8433" else "1") as power:
        with pytest.raises(kind):
            await power.start()
    assert any("RetCode 8433" in line for line in lines)


async def test_compshare_signs_as_the_official_sdk_does() -> None:
    # The example in the docstring of ucloud/core/auth/_cfg.py.
    assert compshare.signature({"foo": "bar"}, "my_private_key") == "634edc1bb957c0d65e5ab5494cf3b7784fbc87af"


# --- all


@pytest.mark.parametrize("create", [runpod.create, vast.create, autodl.create, compshare.create])
def test_a_machine_and_known_options_are_needed(create: Any) -> None:
    def secret(_: str) -> str:
        return "secret-0123456789"

    with pytest.raises(SettingsError, match=r"needs --machine ID; `wakestream machines --power"):
        create(PowerConfig("", secret=secret))
    with pytest.raises(SettingsError, match="has no such option; it has port"):
        create(PowerConfig("1", {"prot": "1"}, secret))


async def test_ec2_makes_another_client_after_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("botocore")
    power = ec2.Ec2Power(PowerConfig("i-0123456789abcdef0", {"region": "eu-west-1"}))
    made: list[Exception] = [ValueError("a broken file of the SDK"), PowerError("ec2: the second attempt")]
    monkeypatch.setattr(power, "_make", lambda: raising(made.pop(0)))
    with pytest.raises(ValueError, match="a broken file"):
        await power.inspect()
    with pytest.raises(PowerError, match="the second attempt"):
        await power.inspect()


def raising(error: Exception) -> None:
    raise error
