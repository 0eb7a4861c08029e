"""Two GPUs in one machine with the real programs: one start, and one stop when neither is used."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from tests.support.power.script_machine import calls, provider
from tests.support.programs.client_scene import Running, User
from tests.support.programs.hub_keeper import Keeper
from wakestream.adapters.cli.demo.processes import command_line
from wakestream.adapters.hub.licenses import LicenseBook

_WAITS = """import sys, time
from pathlib import Path
while not Path(sys.argv[1]).exists():
    time.sleep(0.01)
Path(sys.argv[-1]).write_bytes(b"done")"""


class Box:
    """The machine of two monitors, or of one, with the workers of the GPUs `a` and `b`."""

    def __init__(self, keeper: Keeper, stack: AsyncExitStack) -> None:
        self.keeper, self.folder, self._stack = keeper, keeper.user.folder, stack

    async def watched(self, number: int, *gpus: str, key: str | None = None) -> Running:
        names = [word for gpu in gpus for word in ("--gpu", gpu)]
        power = (*provider(self.folder), "--machine", "box", "--idle-after", "2")
        record = ("--record", str(self.folder / f"record-{number}"))
        monitor = await self._runs("monitor", *names, *power, *record, key=key)
        await self.becomes(lambda: self.heard(number, '"registered"') > 0)  # else the hub may not know its GPUs
        return monitor

    async def boots(self) -> None:
        """Returns when it is started; its workers start then."""
        await self.becomes(lambda: bool(calls(self.folder)))
        engine = command_line([
            sys.executable, "-c", _WAITS, str(self.folder / "finish"), "{video}", "{audio}", "{output}",
        ])  # fmt: skip
        for gpu in ("a", "b"):
            state = ("--state", str(self.folder / f"worker-{gpu}"))
            work = ("--engine", "command", "--command", engine)
            await self._runs("worker", "--listen", "127.0.0.1:0", "--gpu", gpu, *state, *work)

    async def _runs(self, role: str, *flags: str, key: str | None = None) -> Running:
        key = key or self.keeper.keys[role]
        return await self._stack.enter_async_context(self.keeper.user.runs(role, *flags, WAKESTREAM_KEY=key))

    async def becomes(self, so: Callable[[], bool]) -> None:
        async with asyncio.timeout(100):
            while not so():
                await asyncio.to_thread(time.sleep, 0.05)

    def held(self, number: int) -> int:
        """How often the hub has told this monitor that jobs hold the machine."""
        return self.heard(number, "task.query.response", but='"active_count":0')

    def heard(self, number: int, words: str, but: str = "\n") -> int:
        logs = (self.folder / f"record-{number}").glob("*.jsonl")
        rows = [row for log in logs for row in log.read_text().split("\n")[:-1]]
        return sum(words in row and but not in row for row in rows)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("monitors", [[("a",), ("b",)], [("a", "b")]], ids=["two monitors", "one monitor"])
async def test_a_machine_is_on_while_one_of_its_gpus_is_used_and_stops_once(
    user: User, keeper: Keeper, monitors: list[tuple[str, ...]]
) -> None:
    async with keeper.hub(), AsyncExitStack() as stack:
        box = Box(keeper, stack)
        for number, gpus in enumerate(monitors):
            await box.watched(number, *gpus)
        job = await stack.enter_async_context(user.submits("--gpu", "a"))
        await box.boots()
        await box.becomes(lambda: box.held(len(monitors) - 1) >= 2 or "stop" in calls(box.folder))
        assert calls(box.folder) == ["start"]
        (box.folder / "finish").touch()
        assert (await job.ended()).code == 0
        await box.becomes(lambda: "stop" in calls(box.folder))
        assert calls(box.folder) == ["start", "stop"]


@pytest.mark.timeout(200)
async def test_the_second_monitor_of_a_machine_under_another_license_is_named_in_its_log_by_doctor_and_by_status(
    user: User, keeper: Keeper
) -> None:
    _, other = LicenseBook(keeper.folder).issue("monitor", "", time.time())
    async with keeper.hub(), AsyncExitStack() as stack:
        box = Box(keeper, stack)
        await box.watched(0, "a")
        second = await box.watched(1, "b", key=other)
        said = "the machine box is also that of the GPU a, whose monitor has another license"
        remedy = "Give both monitors one key, or start one monitor with both names"
        await box.becomes(lambda: box.heard(1, "machine_shared") > 0)
        asked = [await user.run(command) for command in ("status", "doctor")]
        second.interrupt()
        asked.append(await second.ended())
    for text in (" ".join((ran.out + ran.err).split()) for ran in asked):
        assert said in text
        assert remedy in text
