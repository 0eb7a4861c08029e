"""A monitor or worker that its hub does not take: said clearly, again and again, or the end with --exit-on-refusal."""

import asyncio
import sys
from asyncio.subprocess import PIPE

import pytest

from tests.support.programs.client_scene import User, clean_environment
from tests.support.programs.our_peers import SECRET, Place
from wakestream.adapters.cli.render.log_reader import line

WRONG = "ws_client_" + "0" * 40
PROGRAMS = {
    "monitor": ("monitor", "--power", "process", "--program", "no-such-program-here"),
    "worker": ("worker", "--listen", "127.0.0.1:0", "--state", "worker"),
}


@pytest.mark.parametrize("name", PROGRAMS)
async def test_with_exit_on_refusal_a_wrong_key_ends_it_with_2(user: User, place: Place, name: str) -> None:
    async with place.hub() as hub:
        ran = await user.run(
            *PROGRAMS[name], "--hub", hub.url, "--exit-on-refusal", WAKESTREAM_KEY=WRONG, HEYGEM_API_SECRET=SECRET
        )
    assert ran.code == 2
    last = ran.err.splitlines()[-1]
    assert last.startswith(f"wakestream: hub {hub.url}: ")
    assert "does not know the license key" in last
    assert WRONG not in ran.err


async def test_otherwise_it_retries_and_logs_each_attempt(user: User, place: Place) -> None:
    log = user.folder / "monitor.log"
    async with place.hub() as hub:
        monitor = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "wakestream.adapters.cli", *PROGRAMS["monitor"], "--hub", hub.url, "--log-file", log,
            stderr=PIPE, cwd=user.folder, env=clean_environment() | {"WAKESTREAM_KEY": WRONG},
        )  # fmt: skip
        assert monitor.stderr is not None
        said: list[str] = []
        while len(refusals(said)) < 2:
            said.append((await monitor.stderr.readline()).decode().rstrip())
        monitor.terminate()
        await monitor.communicate()
    kept = log.read_text(encoding="utf-8")
    assert all(each.endswith("; trying again with increasing delays") for each in refusals(said))
    assert refusals(kept.splitlines())[:2] == refusals(said)
    assert WRONG not in kept
    shown = await user.run("logs", log.name, "--level", "ERROR", "--json")
    assert [event["stage"] for event in shown.events].count("power") == 1, "what to do about it is said once"
    assert kept.count("`wakestream license issue --role monitor` at the hub") == 1


def refusals(lines: list[str]) -> list[str]:
    return [each.message for each in map(line, lines) if each.level == "ERROR" and "license key" in each.message]


async def test_a_missing_program_is_reported_at_start(user: User, place: Place) -> None:
    async with place.hub() as hub:
        flags = (*PROGRAMS["monitor"], "--hub", hub.url, "--exit-on-refusal", "--lang", "zh")
        ran = await user.run(*flags, WAKESTREAM_KEY=WRONG)
    (said,) = [each for each in map(line, ran.err.splitlines()) if each.level == "WARNING"]
    assert said.message == (
        "--program: 'no-such-program-here' is not a program that can be started here; give the full path of the program"
    )
    assert ran.err.splitlines()[-1].startswith("wakestream: 密钥不被接受")
