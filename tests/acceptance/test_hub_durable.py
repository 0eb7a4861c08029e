"""What the hub said aloud is still so after it was killed: the real program, a real file, kill and start again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs.client_scene import Running, User
from tests.support.programs.hub_scene import ONLINE, Peer, Place
from wakestream.adapters.disk.journal import open_journal
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.program import JOURNAL, running_hub
from wakestream.adapters.telemetry.recorder import recording
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.operators.model.errors import NoSpace
from wakestream.streams.hub import events as f
from wakestream.streams.recording.recording import read_log
from wakestream.streams.replay.replay import replay

SUBMIT = {"type": "gpu.job.submit", "task_type": "heygem_submit", "payload": {"video_hash": "a", "video_ext": ".mp4"}}


def a_hub(user: User, state: Path) -> contextlib.AbstractAsyncContextManager[Running]:
    """`wakestream hub`, which is killed at the end of the block."""
    return user.runs("hub", "--listen", "127.0.0.1:0", "--state", str(state))


@pytest.fixture
async def stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as stack:
        yield stack


async def test_queued_jobs_and_leases_survive_a_kill(
    user: User, tmp_path: Path, stack: contextlib.AsyncExitStack
) -> None:
    place = Place(tmp_path / "state", stack)
    async with a_hub(user, tmp_path / "state") as hub:
        place.url = await hub.address()
        client = await place.client()
        answers = [await client.ask(**SUBMIT, request_id=f"job-{n}") for n in range(20)]
        assert [answer["data"]["position"] for answer in answers] == list(range(1, 21))
    async with a_hub(user, tmp_path / "state") as hub:
        place.url = await hub.address()
        worker = await place.worker()
        await worker.send(**ONLINE)
        batch = await worker.get()
        assert [job["request_id"] for job in batch["data"]["jobs"]] == [f"job-{n}" for n in range(20)]
    async with a_hub(user, tmp_path / "state") as hub:
        place.url = await hub.address()
        monitor = await place.monitor("gpu")
        busy = await _until(monitor, type="gpu.task.query", request_id="q", drain=True)
        assert busy["active_count"] == 20


async def _until(monitor: Peer, **question: Any) -> dict[str, Any]:
    await monitor.send(**question)
    while (answer := await monitor.get())["type"] != "gpu.task.query.response":
        pass
    return answer


async def test_a_second_hub_on_the_same_folder_exits(user: User, tmp_path: Path) -> None:
    async with a_hub(user, tmp_path) as hub:
        await hub.address()
        second = await user.run("hub", "--listen", "127.0.0.1:0", "--state", str(tmp_path))
    assert (second.code, "another wakestream hub uses it" in second.err) == (2, True)


async def test_the_log_of_a_restarted_hub_replays(tmp_path: Path, stack: contextlib.AsyncExitStack) -> None:
    place = Place(tmp_path / "state", stack)
    for run in ("first", "second"):
        with recording(tmp_path / run, "hub", 0, {"policy": {}}) as tap:
            async with open_journal(tmp_path / "hub.sqlite3", f.Fact, program="hub") as journal:
                inner = Place(tmp_path / "state", place.stack)
                inner.keys = place.keys
                await inner.hub(journal=journal, tap=tap)
                client = await inner.client()
                await client.ask(**SUBMIT, request_id=f"job-{run}")
                worker = await inner.worker()
                await worker.send(**ONLINE)
                await worker.get()
                await client.socket.close()
                await worker.socket.close()
                await inner.stack.aclose()
    (path,) = (tmp_path / "second").glob("hub-*.jsonl")
    log = read_log(path.read_bytes().splitlines(keepends=True))
    state = {part["field"]: part["items"] for part in log.rows[0].data["state"]}
    assert [(name, job["gpu"]) for name, job in state["jobs"]] == [("job-first", "gpu")]
    assert [name for name, _ in state["gpus"]] == ["gpu"]
    again = await replay(log)
    assert not again.divergences
    assert [row.label for row in log.rows if row.dir == "out"].count("gpu.job.dispatch.batch") == 1


async def test_a_full_disk_delays_replies_and_loses_nothing(
    tmp_path: Path, stack: contextlib.AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(FakeJournal[f.Fact]):
        """A disk that is full until the test makes room."""

        full = True
        refused = asyncio.Event()

        async def append(self, facts: Sequence[f.Fact]) -> None:
            if self.full and any(isinstance(fact, f.JobQueued) for fact in facts):
                self.refused.set()
                raise NoSpace("no space left for hub.sqlite3; make room, the program continues by itself then")
            await super().append(facts)

    monkeypatch.setattr("wakestream.adapters.runtime.decider_runner.RETRY_AFTER", 0.0)
    place, journal = Place(tmp_path / "state", stack), Full()
    await place.hub(journal=journal)
    client = await place.client()
    answer = asyncio.ensure_future(client.ask(**SUBMIT, request_id="a"))
    async with asyncio.timeout(100):
        await journal.refused.wait()
    assert not answer.done()
    journal.full = False
    assert (await answer)["type"] == "gpu.power.offline"
    assert [fact.id for fact in journal.read() if isinstance(fact, f.JobQueued)] == ["a"]


async def test_a_nearly_full_disk_refuses_only_new_jobs(tmp_path: Path, stack: contextlib.AsyncExitStack) -> None:
    low = False
    place = Place(tmp_path / "state", stack)
    running = await place.hub(disk_low=lambda: low)
    client = await place.client()
    await client.ask(**SUBMIT, request_id="before")
    low = True
    running.look_at_disk()
    refused = await client.ask(**SUBMIT, request_id="new")
    assert (refused["code"], refused["request_id"]) == ("no_space", "new")
    assert (await client.ask(**SUBMIT, request_id="before"))["type"] == "gpu.power.offline"
    low = False
    running.look_at_disk()
    assert (await client.ask(**SUBMIT, request_id="new"))["type"] == "gpu.power.offline"


async def test_a_hub_that_stops_releases_its_journal_before_it_waits_for_its_peers(tmp_path: Path) -> None:
    open_then: list[int] = []
    async with running_hub(HubConfig(LicenseBook(tmp_path))) as hub:
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.server.port)
        writer.write(
            b"GET /dsp HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await reader.readuntil(b"connected")  # this peer answers no close frame
        release = hub.server.on_stopped
        assert release is not None

        async def stopped() -> None:
            await release()
            async with open_journal(tmp_path / JOURNAL, f.Fact, program="hub"):
                open_then.append(hub.server.connections)
            writer.close()

        hub.server.on_stopped = stopped
    assert open_then == [1]
