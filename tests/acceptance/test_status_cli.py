"""`wakestream status` and `wakestream cost` at a real hub, before and after it was killed."""

import asyncio
import datetime

import orjson

from tests.support.programs.client_scene import User
from tests.support.programs.here import Here
from tests.support.programs.hub_keeper import Keeper
from wakestream.adapters.disk.journal import open_journal
from wakestream.streams.hub import events as f
from wakestream.streams.protocol import messages as m


async def test_status_prints_the_state_and_cost_of_each_gpu(user: User, keeper: Keeper) -> None:
    starting = m.PowerState(gpu="studio", state="starting", msg="woken by a job")
    client = m.Register(key=keeper.keys["client"], features=("done",))
    async with (
        keeper.hub(),
        keeper.peer(keeper.monitor(), m.PowerState(gpu="studio", state="off")) as monitor,
        keeper.peer(client, m.Submit(request_id="job-1"), m.Submit(request_id="job-2")),
    ):
        waiting = await user.run("status")
        monitor.send(starting)
        async with keeper.peer(keeper.worker(), m.Online()):
            told = await user.run("status")
            as_json = orjson.loads((await user.run("status", "--json")).out)
            costs = await user.run("cost")
    assert (waiting.code, told.code, waiting.err, told.err) == (0, 0, "", "")
    assert "GPU studio: off, for" in waiting.out
    assert "2 jobs waiting, 2 of them yours" in waiting.out
    assert "startup time not known yet" in waiting.out
    assert "GPU studio: on and ready, for" in told.out
    assert "used by 2 jobs of yours (job-1, job-2)" in told.out
    assert "startup takes about" in told.out
    assert "today: on for" in told.out
    assert as_json["gpus"][0]["own_jobs"] == ["job-1", "job-2"]
    assert as_json["boots"] == 1
    head, today, month, whole, *notes = costs.out.splitlines()
    assert head.split() == ["GPU", "SPAN", "ON", "OFF", "COST", "SAVED"]
    assert [line.split()[0] for line in (today, month, whole)] == ["studio"] * 3
    assert "at 3600 per hour" in notes[0]


async def test_a_restarted_hub_reports_the_same_and_keeps_its_ledger(user: User, keeper: Keeper) -> None:
    client = m.Register(key=keeper.keys["client"], features=("done",))
    async with (
        keeper.hub() as first,
        keeper.peer(keeper.monitor(), m.PowerState(gpu="studio", state="starting", msg="woken")),
        keeper.peer(client, m.Submit(request_id="job-1")),
        keeper.peer(keeper.worker(), m.Online()),
    ):
        before = orjson.loads((await user.run("status", "--json")).out)
        first.process.kill()
        await first.process.wait()
    async with keeper.hub():
        after = orjson.loads((await user.run("status", "--json")).out)
        async with keeper.peer(client, m.Submit(request_id="job-2")) as link:
            heard: asyncio.Queue[m.Message] = asyncio.Queue()
            link.events.subscribe(lambda event: heard.put_nowait(event) if isinstance(event, m.Offline) else None)
            link.send(m.Submit(request_id="job-3"))
            async with asyncio.timeout(100):
                offline = await heard.get()
    assert after["boot_s"] == before["boot_s"]
    assert after["gpus"][0]["own_jobs"] == ["job-1"]
    assert after["gpus"][0]["phase"] == "lost"
    assert after["gpus"][0]["all"]["on_s"] >= before["gpus"][0]["all"]["on_s"]
    assert isinstance(offline, m.Offline)
    assert offline.eta_s is not None
    async with open_journal(keeper.folder / "hub.sqlite3", f.Fact, program="test") as journal:
        kept = await journal.ledger()
    told = [type(fact).__name__ for fact in kept]
    assert told[:3] == ["GpuPhase", "GpuOnline", "BootTook"]


def test_without_a_hub_status_exits_with_4(user: User, here: Here) -> None:
    ran = here(user, "status", API_SERVER_URL="http://127.0.0.1:9", WAKESTREAM_KEY="ws_client_x")
    assert ran.code == 4
    assert "nothing listens there" in ran.err


async def test_cost_shows_what_each_job_and_license_used_and_since_a_day_and_only_with_a_key(
    user: User, keeper: Keeper
) -> None:
    client = m.Register(key=keeper.keys["client"], features=("done",))
    async with (
        keeper.hub("--currency", "EUR"),
        keeper.peer(keeper.worker(), m.Online()),
        keeper.peer(client, m.Submit(request_id="job-1")) as link,
    ):
        open_ = await user.run("cost", "--jobs")
        link.send(m.JobDone(request_id="job-1"))
        asked = (("--jobs",), ("--licenses",), ("--since", "2d"), ())
        jobs, licenses, since, whole = [await user.run("cost", *flags) for flags in asked]
        refused = await user.run("cost", WAKESTREAM_KEY="ws_client_wrong")
    assert "not yet" in open_.out
    assert jobs.out.splitlines()[1].split()[:3] == ["job-1", "lipsync", "studio"]
    assert "not yet" not in jobs.out
    assert "no job (boots, idle time)" in licenses.out
    assert [line.split()[:4] for line in since.out.splitlines()[1:2]] == [["studio", "since", "that", "day"]]
    assert (refused.code, "does not know the license key" in refused.err) == (2, True), refused
    assert f"{datetime.date.today().year}-" in whole.out.splitlines()[-1]
