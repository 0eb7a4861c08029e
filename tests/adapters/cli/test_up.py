"""What `up` says when one of its programs has ended, and the commands beside its hub."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from wakestream.adapters.cli import exit_codes
from wakestream.adapters.cli.commands import up
from wakestream.adapters.cli.demo.processes import DemoBroken
from wakestream.adapters.cli.main import main
from wakestream.adapters.cli.service import Stop
from wakestream.adapters.disk.file_lock import file_lock
from wakestream.adapters.disk.path_key import data_folder
from wakestream.adapters.hub.invites import Invites
from wakestream.adapters.hub.licenses import ROLES, LicenseBook


async def test_each_last_line_of_a_program_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    stop = Stop()

    @asynccontextmanager
    async def broken() -> AsyncIterator[asyncio.Future[None]]:
        stop.set()
        raise DemoBroken("the hub has ended (signal 9); its last lines:\n  one\n  two")
        yield

    assert await up._keep_up(broken, stop) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[:3] == ["wakestream: the hub has ended (signal 9); its last lines:", "  one", "  two"]


def test_a_second_up_ends_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("XDG_DATA_HOME", "WAKESTREAM_CONFIG", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    with file_lock(data_folder("up") / "up.lock", 1.0):
        assert main(["up"]) == exit_codes.USAGE
    assert "wakestream up already runs here" in capsys.readouterr().err
    assert [path.name for path in data_folder("up").iterdir()] == ["up.lock"]


def test_commands_for_licenses_use_the_hub_of_up_and_that_of_init_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("XDG_DATA_HOME", "WAKESTREAM_CONFIG", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))

    def listed(*command: str) -> list[str]:
        assert main([*command, "--json"]) == 0
        return [json.loads(line)["role"] for line in capsys.readouterr().out.splitlines()]

    of_up = data_folder("up") / "hub"
    book = LicenseBook(of_up)
    for role in ROLES:
        book.issue(role, "", time.time())
    assert listed("license", "list") == listed("audit") == [*ROLES]
    assert main(["audit"]) == 0
    assert capsys.readouterr().out.count("keep connections for the hub that leads") == 1
    assert listed("invite", "client") == ["client"]
    assert [invite.role for invite in Invites(of_up).valid(time.time())] == ["client"]
    own = tmp_path / "own"
    assert main(["init", "hub", "--public", "http://127.0.0.1:8765", "--state", str(own)]) == 0
    LicenseBook(own).issue("monitor", "", time.time())
    capsys.readouterr()
    assert listed("license", "list") == ["monitor"]
