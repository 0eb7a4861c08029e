"""The hub's own log: what it decided on, what it sent, and no secret."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from websockets.asyncio.client import connect

from tests.support.programs.our_peers import until
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import open_hub
from wakestream.adapters.telemetry.recorder import recording
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.streams.hub.events import Fact
from wakestream.streams.hub.hub import Limits
from wakestream.streams.hub.state import Budgets, WarmHours
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.config_json import plain_config
from wakestream.streams.recording.recording import read_log
from wakestream.streams.replay.replay import replay


async def test_a_hub_records_received_and_sent_messages_without_keys(tmp_path: Path) -> None:
    book = LicenseBook(tmp_path)
    _, key = book.issue("client", "", 0.0)
    with recording(tmp_path / "log", "hub", 0, {}) as tap:
        async with (
            open_hub(HubConfig(book, tap=tap), FakeJournal[Fact]()) as hub,
            asyncio.timeout(100),
            connect(hub.url) as client,
        ):
            await client.send(wire.encode(m.Register(key=key)))
            await client.send(wire.encode(m.Submit(request_id="job-1")))
            await client.send("nonsense")
            said = [wire.decode(await client.recv()) for _ in range(4)]
    assert isinstance(said[2], m.Offline)
    (path,) = (tmp_path / "log").glob("hub-*.jsonl")
    text = path.read_bytes()
    assert key.encode() not in text
    rows = read_log(text.splitlines(keepends=True)).rows
    labels = [(row.dir, row.label) for row in rows]
    came = [label for direction, label in labels if direction != "out"]
    went = [label for direction, label in labels if direction == "out"]
    assert came[:5] == ["started", "opened", "register", "gpu.job.submit", "unreadable"]
    assert sorted(went[:4]) == ["connected", "error", "gpu.power.offline", "registered"]
    assert next(row for row in rows if row.label == "gpu.job.submit").job == "job-1"


class SlowJournal(FakeJournal[Fact]):
    """Keeps nothing before it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def append(self, facts: Sequence[Fact]) -> None:
        self.asked.set()
        await self.may.wait()
        await super().append(facts)


async def test_the_log_of_a_client_that_went_before_its_answer_was_journaled_replays(tmp_path: Path) -> None:
    journal = SlowJournal()
    journal.may.set()
    book = LicenseBook(tmp_path)
    key = book.issue("client", "", 0.0)[1]
    with recording(tmp_path / "log", "hub", 0, {}) as tap:
        async with open_hub(HubConfig(book, tap=tap), journal) as hub, asyncio.timeout(100):
            for number in range(3):
                async with connect(hub.url) as client:
                    await client.send(wire.encode(m.Register(key=key, features=("done", "released"))))
                    await client.send(wire.encode(m.Submit(request_id=f"job-{number}")))
                    while not isinstance(wire.decode(await client.recv()), m.Offline):
                        pass
                    journal.may.clear()
                    journal.asked.clear()
                    await client.send(wire.encode(m.JobDone(request_id=f"job-{number}")))
                    await journal.asked.wait()
                await until(lambda: hub.connections == 0)
                journal.may.set()
    (path,) = (tmp_path / "log").glob("hub-*.jsonl")
    log = read_log(path.read_bytes().splitlines(keepends=True))
    told = [row for row in log.rows if row.label == "gpu.job.released"]
    assert [(row.data["to"], row.data["gone"]) for row in told] == [([], [1]), ([], [2]), ([], [3])]
    assert (await replay(log)).divergences == ()


async def test_the_log_of_a_hub_with_budgets_hours_and_a_webhook_replays(tmp_path: Path) -> None:
    book = LicenseBook(tmp_path)
    keys = {role: book.issue(role, "", 0.0)[1] for role in ("client", "worker", "monitor")}
    limits = Limits(
        price=3600.0,
        budgets=Budgets({"": (0.5, None), "lab": (None, 5.0)}),
        keep_warm=WarmHours({"": ("daily 00:00-24:00",)}),
        zone="Europe/Berlin",
        webhook=True,
    )
    now = 1_795_570_950.0
    with recording(tmp_path / "log", "hub", 0, {"policy": plain_config(limits)}) as tap:
        async with (
            open_hub(HubConfig(book, tap=tap, limits=limits, clock=lambda: now), FakeJournal[Fact]()) as hub,
            connect(hub.url) as monitor,
            connect(hub.url) as worker,
            connect(hub.url) as client,
        ):
            gpus, features = ("studio",), ("power_state", "release")
            watches = m.Register(
                role="gpu_monitor", token=keys["monitor"], gpus=gpus, features=features, machine="i-1", price=1.0
            )
            await monitor.send(wire.encode(watches))
            await worker.send(
                wire.encode(m.Register(role="worker", token=keys["worker"], gpu="studio", url="http://w:1"))
            )
            await worker.send(wire.encode(m.Online()))
            await until(lambda: any(gpu.online for gpu in hub.state.gpus.values()))
            now += 2
            await until(lambda: hub.state.gpus["studio"].let_go > 0)
            await client.send(wire.encode(m.Register(key=keys["client"])))
            await client.send(wire.encode(m.Submit(request_id="job-1")))
            await client.send(wire.encode(m.HubStatusQuery(request_id="q", costs=True)))
            await until(lambda: "job-1" in hub.state.jobs)
    (path,) = (tmp_path / "log").glob("hub-*.jsonl")
    log = read_log(path.read_bytes().splitlines(keepends=True))
    assert any(row.label == "gpu.power.release" for row in log.rows)
    assert any(row.data.get("frame", {}).get("data", {}).get("phase") == "budget" for row in log.rows)
    assert (await replay(log)).divergences == ()
