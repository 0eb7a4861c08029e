"""`--log-json`: every line that a program logs is one JSON object, whatever happens to it."""

import json
import sys
from typing import Any

import pytest

from tests.support.programs.client_scene import User
from tests.support.programs.here import Here
from tests.support.programs.our_peers import SECRET, Place, until

FAILS = json.dumps([sys.executable, "-c", "import sys; sys.exit('bad\\nvideo')", "{video}", "{audio}", "{output}"])
FIELDS = {"time", "level", "message", "job", "stage", "program", "error"}


def lines(err: str) -> list[dict[str, Any]]:
    """All that was logged."""
    found = [json.loads(line) for line in err.splitlines()]
    for line in found:
        assert set(line) - {"traceback"} == FIELDS
        assert line["time"].endswith("Z")
    return found


async def test_all_programs_log_json_while_a_job_fails(user: User, place: Place) -> None:
    said: dict[str, str] = {}
    listen = ("--listen", "127.0.0.1:0", "--log-json", "--log-level", "DEBUG")
    async with place.hub() as hub:
        at_hub = ("--hub", hub.url)
        worker = ("worker", *listen, *at_hub, "--state", "worker", "--engine", "command", "--command", FAILS)
        monitor = ("monitor", *at_hub, "--power", "process", "--program", "true")
        user.environment |= place.client_settings() | {"WAKESTREAM_LOG_FORMAT": "json"}
        keys = place.keys
        async with (
            user.runs(*worker, HEYGEM_API_SECRET=SECRET, WAKESTREAM_KEY=keys["worker"]) as one,
            user.runs(*monitor, "--gpu", "other", WAKESTREAM_KEY=keys["monitor"]) as two,
        ):
            await one.address()
            await until(lambda: any(gpu.online for gpu in hub.state.gpus.values()) and bool(hub.state.monitors))
            ran = await user.submit("--log-level", "DEBUG")
            assert (ran.code, ran.last["event"]) == (1, "failed")
            said["submit"] = ran.err
            for name, running in (("worker", one), ("monitor", two)):
                running.process.terminate()
                said[name] = (await running.ended()).err
    for name, err in said.items():
        assert {line["program"] for line in lines(err)} == {name}, name
    ended = [line for line in lines(said["worker"]) if line["message"].startswith("task ended")]
    assert [(line["stage"], len(line["job"])) for line in ended] == [("render", 32)]
    assert not any(secret in text for text in said.values() for secret in (SECRET, *keys.values()))


@pytest.mark.parametrize("by", ["flag", "variable", ".env", "toml"])
def test_the_reason_for_a_failed_start_is_json(user: User, here: Here, by: str) -> None:
    if by == ".env":
        (user.folder / ".env").write_text("WAKESTREAM_LOG_FORMAT=json\n")
    elif by == "toml":
        (user.folder / "wakestream.toml").write_text('log_format = "json"\n')
    variables = {"WAKESTREAM_LOG_FORMAT": "json"} if by == "variable" else {}
    ran = here(user, "daemon", *(["--log-json"] if by == "flag" else []), **variables)
    (line,) = lines(ran.err)
    assert (ran.code, line["level"], line["program"]) == (2, "ERROR", "daemon")
    assert line["message"].startswith("no hub is set")
