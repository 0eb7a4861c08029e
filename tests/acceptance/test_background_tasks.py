"""A background task that fails is seen: it starts again, or its program ends with the reason. Each program in turn."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.log_lines import logged
from tests.support.programs import any_kind_scene
from tests.support.programs.client_scene import User
from tests.support.programs.hub_scene import Place as HubPlace
from tests.support.programs.our_peers import Place, until
from wakestream.adapters.config import settings
from wakestream.adapters.daemon.folder_watch import FolderWatch
from wakestream.adapters.daemon.program import DaemonConfig, RunningDaemon, running_daemon
from wakestream.adapters.runtime import tasks
from wakestream.adapters.worker import program
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.engine import Kind, Readiness
from wakestream.operators.model.errors import JournalError


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What starts again, starts again at once."""
    monkeypatch.setattr(tasks, "AGAIN", Backoff(initial=0.01, jitter=0.0))
    monkeypatch.setattr(program, "CHECK_AGAIN", 0.01)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The messages at ERROR."""
    with logged("ERROR") as lines:
        yield lines


# The worker


class Plugin(any_kind_scene.Joining):
    """An engine of another author."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = Readiness(ready=True)

    async def ready(self) -> Readiness:
        return self.answer


@pytest.mark.parametrize(
    ("described", "why"),
    [
        ([{"title": "Turn a video"}], "Object missing required field `name`"),
        ([Kind("turn", inputs=cast("Any", ("video",)))], "Expected `object`, got `str` - at `$.inputs[0]`"),
        ({"turn": []}, "Expected `object`, got `str`"),
    ],
)
async def test_a_plugin_that_describes_something_else_is_named_until_it_is_corrected(
    place: Place, described: Sequence[Any], why: str
) -> None:
    engine = Plugin()
    engine.kinds = described
    async with place.worker(engine) as worker:
        readiness = worker.server.calls.readiness
        await until(lambda: why in readiness.msg)
        assert not readiness.initialized
        engine.kinds = [Kind("turn")]
        await until(lambda: readiness.initialized)
        assert readiness.kinds == (Kind("turn"),)


async def test_the_check_of_the_engine_starts_again(place: Place, said: list[str]) -> None:
    engine = Plugin()
    engine.answer = Readiness(ready=False, reason=cast("Any", 404))
    async with place.worker(engine) as worker:
        await until(lambda: any(line.startswith("the check of the engine failed: ") for line in said))
        engine.answer = Readiness(ready=True)
        await until(lambda: worker.server.calls.readiness.initialized)


# The hub


async def test_a_disk_that_cannot_be_checked_does_not_end_the_hub(tmp_path: Path, said: list[str]) -> None:
    fault: OSError | None = OSError(5, "Input/output error")

    def disk_low() -> bool:
        if fault is not None:
            raise fault
        return True

    async with contextlib.AsyncExitStack() as stack:
        place = HubPlace(tmp_path / "state", stack)
        hub = await place.hub(disk_low=disk_low)
        hub.look_at_disk()
        hub.look_at_disk()
        assert said == ["the hub's disk cannot be checked: [Errno 5] Input/output error"]
        client = await place.client()
        assert (await client.ask(type="gpu.job.submit", task_type="heygem_submit", payload={}, request_id="a"))[
            "type"
        ] == "gpu.power.offline"
        fault = None
        hub.look_at_disk()
        assert hub.state.disk_low


async def hub_with(clock: Any, folder: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(100))
        await HubPlace(folder, stack).hub(clock=clock)
        await asyncio.Event().wait()


async def test_a_hub_without_a_clock_ends_with_the_reason(tmp_path: Path, said: list[str]) -> None:
    left = 20

    def clock() -> float:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError("no clock")
        return time.time()

    with pytest.raises(JournalError, match=r"the hub cannot continue \(OSError: no clock\); see its log"):
        await hub_with(clock, tmp_path)
    assert any("the hub cannot continue" in line for line in said)


# The daemon and its console


@contextlib.asynccontextmanager
async def daemon(user: User, **more: Any) -> AsyncIterator[RunningDaemon]:
    found = settings.load(
        {}, environment={"API_SERVER_URL": "ws://127.0.0.1:9/dsp", "WAKESTREAM_KEY": "ws_none"}, folder=user.folder
    )
    async with running_daemon(DaemonConfig(user.folder.parent / "daemon", **more), found) as made:
        yield made


async def test_the_watch_of_a_folder_starts_again(user: User, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def look(_: FolderWatch) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ValueError("a strange name")

    monkeypatch.setattr(FolderWatch, "look", look)
    async with daemon(user, watch=user.folder):
        await until(lambda: looks == 2)
    assert said[0].startswith("--watch failed: ValueError('a strange name'). It starts again in ")


async def test_the_console_goes_on_after_a_row_that_is_no_text(user: User, said: list[str]) -> None:
    file = user.folder.parent / "daemon" / "timeline.jsonl"
    async with daemon(user) as made:
        timeline = made.console._timeline
        timeline.row("out", "queued", {"why": "\udcff"}, "a-job")
        await until(lambda: any(line.startswith("the timeline's file failed: ") for line in said))
        timeline.rows.clear()
        timeline.row("out", "queued", {"why": "none"}, "a-job")
        await until(lambda: file.exists() and b"none" in file.read_bytes())


async def closed_journal(user: User) -> None:
    async with asyncio.timeout(100), daemon(user) as made:
        made.outbox.runner.fail(JournalError("the journal is broken"))
        await asyncio.Event().wait()


async def test_a_daemon_without_its_journal_ends_with_the_reason(user: User) -> None:
    with pytest.raises(JournalError, match="the journal is broken"):
        await closed_journal(user)
