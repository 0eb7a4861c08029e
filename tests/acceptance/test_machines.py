"""`wakestream machines`, `monitor --machine NAME` and `doctor`, as a user has them, against the stand-ins."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.power.runpod_api import RunpodWorld
from tests.support.power.worlds import WORLDS
from wakestream.adapters.cli import main
from wakestream.adapters.cli.doctor.local import power_answers
from wakestream.adapters.cli.doctor.result import CheckResult
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.power.config import PowerConfig
from wakestream.adapters.power.runpod import RunpodPower
from wakestream.adapters.testing.http_stand_in import HttpStandIn, serving
from wakestream.operators.model.errors import PowerError


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpStandIn]:
    made = WORLDS[request.param]()
    for name, value in made.keys.items():
        monkeypatch.setenv(name, value)
    async with serving(made) as served:
        yield served


def name_of(world: HttpStandIn) -> str:
    return next(name for name, kind in WORLDS.items() if type(world) is kind)


async def run(world: HttpStandIn, *arguments: str) -> int:
    argv = ["machines", "--power", name_of(world), "--power-option", f"base_url={world.url}", *arguments]
    return await asyncio.to_thread(main.main, argv)


async def test_the_machines_of_an_account_are_a_table(world: HttpStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(world) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "name", "state", "GPU", "price/h", "address"]
    (row,) = (row for row in rows if row.startswith(world.machine_id))
    assert "studio gpu" in row
    assert "stopped" in row
    assert "1 x " in row


async def test_and_as_json_objects(world: HttpStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    await world.become("running")
    assert await run(world, "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (machine,) = (each for each in found if each["id"] == world.machine_id)
    assert (machine["name"], machine["state"]) == ("studio gpu", "running")
    assert machine["currency"] == {"compshare": "CNY", "autodl": "CNY"}.get(name_of(world), "USD")


async def test_refused_credentials_are_one_sentence_without_them(
    world: HttpStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    world.fault = "denied"
    assert await run(world) != 0
    said = capsys.readouterr()
    assert said.out == ""
    assert not any(secret in said.err for secret in world.secrets)
    assert "***" in said.err


async def test_missing_credentials_say_where_to_put_them(
    world: HttpStandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    name = next(iter(world.keys))
    monkeypatch.delenv(name)
    assert await run(world) == 2
    assert f"{name} is not set; write {name}=... into .env, or set {name}_FILE" in capsys.readouterr().err
    for place in ("file", "env"):
        if place == "file":
            (tmp_path / "key").write_text(world.keys[name] + "\n")
            (tmp_path / "key").chmod(0o600)
            monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "key"))
        else:
            monkeypatch.delenv(f"{name}_FILE")
            (tmp_path / ".env").write_text(f"{name}={world.keys[name]}\n")
        assert await run(world) == 0


@pytest.mark.parametrize("flag", [["--power", "nonsense"], ["--power", "command"], []])
def test_what_has_no_list_says_so(flag: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main.main(["machines", *flag]) == 2
    assert capsys.readouterr().err


def test_a_secret_never_goes_over_an_open_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_0123456789")
    assert main.main(["machines", "--power", "runpod", "--power-option", "base_url=http://api.example"]) == 2


async def looked_at(world: HttpStandIn, machine: str) -> list[CheckResult]:
    settings = Settings(power=name_of(world), power_machine=machine, power_option={"base_url": world.url})
    return [found async for found in power_answers(settings)]


async def test_the_doctor_looks_at_the_machine_and_says_what_it_costs_when_stopped(world: HttpStandIn) -> None:
    state, cost = await looked_at(world, world.machine_id)
    assert (state.level, cost.level) == ("ok", "ok")
    assert "stopped" in state.says
    assert "stopped" in cost.says
    world.fault = "denied"
    refused = (await looked_at(world, world.machine_id))[0]
    assert (refused.level, "credentials" in refused.todo) == ("fault", True)
    world.fault = None
    await world.become("terminated")
    assert (await looked_at(world, world.machine_id))[0].level in ("fault", "warning")


async def test_the_doctor_finds_a_machine_by_its_name(world: HttpStandIn) -> None:
    assert (await looked_at(world, "studio gpu"))[0].level == "ok"
    unknown = (await looked_at(world, "attic"))[0]
    assert unknown.level == "fault"
    assert "no machine is named 'attic'" in unknown.says


async def test_a_name_that_two_machines_have_is_refused_with_their_ids() -> None:
    class Twins(RunpodWorld):
        async def _list(self, _: object) -> object:  # type: ignore[override]
            from aiohttp import web

            return web.json_response({"pods": [self.pod(), {**self.pod(), "id": "0000000000"}]})

    async with serving(Twins()) as world:
        power = RunpodPower(PowerConfig("studio gpu", secret=world.keys.__getitem__, timeout=2.0, base_url=world.url))
        with pytest.raises(PowerError, match="2 machines are named 'studio gpu': give --machine one of 7h9k2m4n6p"):
            await power.inspect()
        await power.close()
