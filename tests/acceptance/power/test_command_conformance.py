"""The shipped cases for power providers, on `command` with three shell scripts, whose machine is a folder of files."""

import os
import time
from pathlib import Path

import pytest

from wakestream.adapters.power.command import CommandPower
from wakestream.adapters.power.config import Provider
from wakestream.adapters.testing.power_suite import PowerConformance
from wakestream.adapters.testing.power_world import CALL_TIMEOUT, PowerWorld
from wakestream.operators.model.ports import PowerState

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shell scripts")

BECOME = "date +%s > since; printf {state} > new; mv new state; printf . >> {count}"
SCRIPTS = {
    "start": 'printf . >> calls; case "$(cat fault)" in no_capacity) exit 75;; start_ignored) printf . >> starts;; '
    f"*) {BECOME.format(state='starting', count='starts')};; esac",
    "stop": BECOME.format(state="stopping", count="stops"),
    "inspect": 'printf \'{"state": "%s", "since": %s}\' "$(cat state)" "$(cat since)"',
}


class Scripts(PowerWorld):
    faults = frozenset({"no_capacity", "start_ignored", "start_slow"})

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("calls", "starts", "stops", "fault"):
            (folder / name).touch()
        self._become("stopped")

    def provider(self, *, machine: str | None = None, timeout: float = CALL_TIMEOUT) -> Provider:
        start, stop, inspect = (("sh", "-c", f"cd {self.folder}; {SCRIPTS[name]}") for name in SCRIPTS)
        return CommandPower(start, stop, inspect, timeout=timeout)

    def __getattribute__(self, name: str) -> object:
        if name in ("calls", "starts", "stops"):
            return (self.folder / name).stat().st_size
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "fault":
            (self.folder / "fault").write_text(str(value))

    def _become(self, state: PowerState) -> None:
        (self.folder / "since").write_text(str(int(time.time())))
        (self.folder / "state").write_text(state)

    async def become(self, state: PowerState) -> None:
        self._become(state)

    async def finish(self) -> None:
        ends: dict[str, PowerState] = {"starting": "running", "stopping": "stopped"}
        state = (self.folder / "state").read_text()
        if state in ends:
            self._become(ends[state])

    async def unknown_word(self) -> None:
        (self.folder / "state").write_text("dreaming")


class TestCommand(PowerConformance):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Scripts:
        return Scripts(tmp_path)
