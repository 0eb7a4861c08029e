"""Other programs' texts and files' names reach no terminal, pipe or log file with control characters in them."""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import web
from websockets.asyncio.client import connect

from tests.support.field.house import KEY, field
from tests.support.field.hub import FieldHub, field_hub
from tests.support.field.hub_room import Peer
from tests.support.field.worker import FieldWorker
from tests.support.field.worker_http import Call, done
from tests.support.programs.client_scene import QUICK, User
from tests.support.programs.daemon_scene import RunningDaemon, daemon
from tests.support.programs.hostile_text import COLOUR, GOOD, NASTY, unclean
from tests.support.programs.hub_keeper import Keeper
from tests.support.programs.terminal_scene import plain, terminal
from wakestream.streams.protocol import messages as m

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such file names, and other terminals")

TEXT = f"{GOOD} {NASTY}"
CLIP = "clip\x1b[5;7m\u202e\nFORGED\x07\x9b5m.mp4"


async def shown(user: User, *command: str, **environment: str) -> str:
    """What the command says in a pipe, in English; it is clean there, and on a terminal, in Chinese."""

    async def on_terminal() -> str:
        async with terminal(user, *command, LANG="C.UTF-8", WAKESTREAM_LANG="zh", **environment) as screen:
            return await screen.ended()

    ran, seen = await asyncio.gather(user.run(*command, WAKESTREAM_LANG="en", **environment), on_terminal())
    assert unclean(ran.out) == []
    assert unclean(ran.err) == []
    assert unclean(seen, terminal=True) == []
    assert ran.out + ran.err != ""
    assert plain(seen) != ""
    return ran.out + ran.err


class HostileHub(FieldHub):
    """A hub that knows this version's questions, and answers each with what terminals act on."""

    async def _read(self, peer: Peer, raw: str | bytes) -> None:
        frame = orjson.loads(raw)
        about = {"request_id": frame.get("request_id")}
        match frame["type"]:
            case "register":
                await peer.say(
                    {"type": "registered", "key": KEY, "features": ["done", "hub_status", "power_now", TEXT]}
                )
            case "hub.status.query":
                await peer.say({"type": "hub.status.response", **about, "ts": 9, "data": DATA})
            case "gpu.status.query":
                await peer.say({"type": "gpu.status.response", **about, "status": TEXT})
            case "ping":
                await peer.say({"type": "pong"})


SPAN = {"on_s": 5, "of_s": 9, "cost": 1.0, "saved": 2.0}
ONE = {
    "since": 1,
    "uptime_s": 3,
    "own": 1,
    "others": 0,
    "own_jobs": [TEXT],
    "why": TEXT,
    "today": SPAN,
    "month": SPAN,
    "all": SPAN,
}
DATA = {
    "gpus": [{**ONE, "gpu": f"{phase}{TEXT}", "phase": phase} for phase in ("online", "off", "booted", "lost", TEXT)],
    "queue": 2,
    "own_queued": 1,
    "monitors": 1,
}


@asynccontextmanager
async def hostile_hub(user: User) -> AsyncIterator[FieldHub]:
    async with field_hub(kind=HostileHub) as hub:
        user.environment |= {"API_SERVER_URL": hub.url, "WAKESTREAM_KEY": KEY}
        yield hub


async def test_status_from_a_hub_is_printed_without_control_characters(user: User) -> None:
    async with hostile_hub(user):
        for command in (("status",), ("cost",), ("why", "gpu"), ("why", f"gpu:x{NASTY}".replace("\0", ""))):
            assert GOOD in await shown(user, *command), command
        told = orjson.loads(await shown(user, "status", "--json"))
    assert [gpu["gpu"] for gpu in told["gpus"]] == [gpu["gpu"] for gpu in DATA["gpus"]]  # type: ignore[attr-defined]


async def test_doctor_results_are_printed_without_control_characters(user: User) -> None:
    async with hostile_hub(user):
        await shown(user, "doctor")
        for line in (await user.run("doctor", "--json")).out.splitlines():
            assert unclean(line) == []


async def failing(_: web.Request) -> web.Response:
    """A task that failed, for reasons with control characters."""
    return task(status="error", error=TEXT)


def task(**report: object) -> web.Response:
    """What a worker says of one."""
    told = {"task_id": TEXT, "progress": 1, "message": TEXT, "error": None}
    return done({**told, "total_frames": 0, "current_frame": 0, "queue_position": 0, **report})


def forgetful(worker: FieldWorker) -> Call:
    """It has no result of before, so that it asks its engine each time."""

    async def submit(_: web.Request) -> None:
        worker.results.clear()

    return submit


async def test_messages_about_a_job_are_printed_without_control_characters(user: User) -> None:
    (user.folder / CLIP).write_bytes(b"video" * 1000)
    async with field(user) as (hub, worker):
        worker.http.before |= {"progress": failing, "submit": forgetful(worker)}
        said = await shown(user, "submit", CLIP, "speech.wav", "-o", "out.mp4", *QUICK)
        assert GOOD in said
        events = (await shown(user, "submit", CLIP, "speech.wav", "-o", "out.mp4", "--json", *QUICK)).splitlines()
        assert any(TEXT in orjson.loads(line).get("why", "") for line in events if line.startswith("{"))
        hub.complains = f"hub {TEXT}"
        said = await shown(user, "submit", CLIP, "speech.wav", "-o", "out.mp4", *QUICK)
        assert f"hub {GOOD}" in said
        assert "FORGED" in await shown(user, "submit", f"no {CLIP}", "speech.wav")


@asynccontextmanager
async def failing_daemon(user: User, *flags: str) -> AsyncIterator[tuple[RunningDaemon, asyncio.Event]]:
    """A daemon with job-1, which renders until the event is set and then fails."""
    (user.folder / CLIP).write_bytes(b"video" * 1000)
    fails, percent = asyncio.Event(), itertools.cycle(range(1, 90))

    async def progress(request: web.Request) -> web.Response:
        return await failing(request) if fails.is_set() else task(status="processing", progress=next(percent))

    async with field(user) as (_, worker), daemon(user, *flags) as api:
        worker.http.before["progress"] = progress
        ran = await user.run("submit", CLIP, "speech.wav", "-o", f"out {CLIP}", "--detach", "--job-id", "job-1")
        assert ran.out == "job-1\n"
        yield api, fails


async def test_following_a_daemons_job_prints_no_control_characters(user: User) -> None:
    async with (
        failing_daemon(user) as (_, fails),
        user.runs("watch") as watching,
        terminal(user, "watch", WAKESTREAM_LANG="zh") as screen,
    ):
        assert watching.process.stdout is not None
        watching.lines.append(await watching.process.stdout.readline())
        await screen.shows("%")
        fails.set()
        while GOOD.encode() not in watching.lines[-1]:
            watching.lines.append(await watching.process.stdout.readline())
        await screen.shows("\u914d\u989d")
        watching.interrupt()
        screen.process.send_signal(2)
        watched = await watching.ended()
        assert unclean(watched.out + watched.err) == []
        assert unclean(await screen.ended(), terminal=True) == []


async def test_the_daemons_job_list_is_printed_without_control_characters(user: User) -> None:
    async with failing_daemon(user) as (api, fails):
        fails.set()
        assert (await api.outcome())["event"] == "failed"
        for command in (("watch", "job-1"), ("why", "job-1")):
            assert GOOD in await shown(user, *command)
        await shown(user, "jobs", "--all")
        (told,) = (await shown(user, "jobs", "--all", "--json")).splitlines()
        assert orjson.loads(told)["output"].endswith(f"out {CLIP}")
        await shown(user, "retry", "job-1", f"no {CLIP}")
        await shown(user, "cancel", f"no {CLIP}")


async def test_the_daemons_logs_and_recordings_have_no_control_characters(user: User) -> None:
    async with failing_daemon(user, "--log-file", "daemon.log", "--record", "night") as (api, fails):
        fails.set()
        assert (await api.outcome())["event"] == "failed"
        api.running.interrupt()
        ended = await api.running.ended()
        assert unclean(ended.out + ended.err) == []
        assert unclean((user.folder / "daemon.log").read_text(encoding="utf-8")) == []
        await shown(user, "logs", "daemon.log")
        assert "FORGED" in await shown(user, "replay", "night", "--marbles", "--json")
        await shown(user, "replay", "night", "--marbles", "--speed", "1000000")


async def test_messages_of_a_monitor_are_cleaned_in_the_terminal_and_the_hubs_log(user: User, keeper: Keeper) -> None:
    said = m.PowerState(gpu="studio", state="failed", msg=TEXT)
    async with (
        keeper.hub() as hub,
        keeper.peer(keeper.monitor(), said, m.Unknown(type=TEXT, frame={"type": TEXT})),
        keeper.peer(m.Register(key=keeper.keys["client"]), m.Submit(request_id="job\nFORGED\x1b[5;7m")),
    ):
        for command in (("status",), ("why", "gpu"), ("cost",)):
            await shown(user, *command)
        hub.interrupt()
        ended = await hub.ended()
    assert unclean(ended.out + ended.err) == []


@pytest.mark.parametrize("role", ["worker", "gpu_monitor"])
async def test_the_hub_takes_no_gpu_by_a_name_that_cannot_be_printed(keeper: Keeper, role: str) -> None:
    token = keeper.keys[role.removeprefix("gpu_")]
    async with keeper.hub() as hub:
        for name in (f"gpu{COLOUR}", "g\npu", "\u202eupg", "\x9b", "gpu ", GOOD):
            names = {"gpu": name} if role == "worker" else {"gpus": ["fine", name]}
            async with connect(f"ws://{keeper.listen}/dsp") as socket:
                await socket.send(orjson.dumps({"type": "register", "role": role, "token": token, **names}).decode())
                answers = [orjson.loads(await socket.recv()) for _ in range(2)]
            if name == GOOD:
                assert answers[1]["type"] == "registered"
            else:
                assert answers[1]["code"] == "bad_request", answers
                assert "printable" in answers[1]["msg"]
                assert unclean(answers[1]["msg"]) == []
        hub.interrupt()
        assert unclean((await hub.ended()).err) == []


@pytest.mark.parametrize(
    "command",
    [
        ("worker", "--state", "worker"),
        ("monitor", "--power", "process", "--program", "x"),
        ("license", "issue", "--role", "worker", "--state", "keys"),
    ],
    ids=lambda command: command[0],
)
async def test_programs_refuse_gpu_names_that_cannot_be_printed(user: User, command: tuple[str, ...]) -> None:
    assert "printable" in await shown(user, *command, "--gpu", f"gpu{COLOUR}")
