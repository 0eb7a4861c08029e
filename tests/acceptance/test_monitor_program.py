"""`wakestream monitor` as it is started by its users, against a hub of a few lines."""

import os
import sys
from pathlib import Path

import orjson
import pytest

from tests.support.programs.tiny_hub import TinyHub, monitor, tiny_hub
from wakestream.adapters.cli.main import main

WAITS = "import sys; sys.stdin.read()"


hub = pytest.fixture(tiny_hub)


def program(folder: Path) -> tuple[str, ...]:
    script = folder / "machine.py"
    script.write_text("import os, sys; print('machine', os.getpid(), flush=True); sys.stdin.read()\n")
    return ("--power", "process", "--program", orjson.dumps([sys.executable, str(script)]).decode())


async def test_the_monitor_registers_boots_and_stops_with_its_parent(hub: TinyHub, tmp_path: Path) -> None:
    async with monitor(hub, tmp_path, *program(tmp_path)) as process:
        register = await hub.hears(type="register")
        assert register["role"] == "gpu_monitor"
        assert register["gpus"] == ["gpu-1"]
        assert register["token"].startswith("ws_monitor_")
        await hub.hears(type="gpu.power.state", state="off")
        await hub.say({"type": "gpu.power.boot", "request_id": "boot-1", "source": "test"})
        assert (await hub.hears(type="gpu.power.booted"))["request_id"] == "boot-1"
        await hub.say({"type": "gpu.status.query", "request_id": "q-1"})
        assert (await hub.hears(type="gpu.status.response", request_id="q-1"))["status"] == "running"
        assert process.stdin is not None
        assert process.stderr is not None
        lines = [await anext(process.stderr)]
        while b"machine " not in lines[-1]:
            lines.append(await anext(process.stderr))
        process.stdin.close()
        _, rest = await process.communicate()
    assert process.returncode == 0
    assert b"starting -> booted" in b"".join(lines) + rest
    assert b"ws_monitor_" not in b"".join(lines) + rest
    if os.name == "posix":
        with pytest.raises(ProcessLookupError):
            os.kill(int(lines[-1].split()[-1]), 0)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--power", "process"], "--power process needs --program CMD"),
        (["--power", "command", "--start", "x"], "needs --start CMD, --stop CMD and --inspect CMD"),
        (["--power", "process", "--program", "x", "--idle-after", "soon"], "--idle-after is not a time"),
        (["--power", "process", "--program", "x", "--gpu", "x" * 101], "--gpu must have 1 to 100 printable characters"),
        (["--power", "process", "--program", "x", "--hub", ""], "no hub is set"),
    ],
)
def test_wrong_usage_exits_with_2(
    flags: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("API_SERVER_URL", raising=False)
    hub = [] if "--hub" in flags else ["--hub", "http://127.0.0.1:9"]
    assert main(["monitor", *hub, *flags]) == 2
    assert said in capsys.readouterr().err
