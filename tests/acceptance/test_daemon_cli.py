"""`submit`, `jobs`, `watch` and `cancel` beside a running daemon, and without one."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from tests.support.field.house import field
from tests.support.programs.client_scene import QUICK, User
from tests.support.programs.daemon_scene import daemon, state_of
from tests.support.programs.here import Here
from tests.support.programs.our_peers import Joining, Place, gpu_online, held, until
from tests.support.programs.terminal_scene import plain, terminal
from wakestream.adapters.daemon.discovery import Address, announced
from wakestream.adapters.net.hub_link import Link
from wakestream.streams.protocol import messages as m

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process there")

RESULT = b"video" * 1000 + b"audio" * 500


async def test_submit_uses_the_daemon_and_its_settings_and_displays_the_job_as_usual(user: User, place: Place) -> None:
    async with place.hub() as hub, place.worker(Joining()), daemon(user) as api:
        for name in place.client_settings():
            del user.environment[name]
        ran = await user.submit("--job-id", "job-1")
        assert (ran.code, ran.last["event"]) == (0, "done"), ran
        assert Path(ran.last["path"]).samefile(user.out)
        assert {"t", "job", "event", "branch"} <= ran.all("granted")[0].keys()
        assert user.out.read_bytes() == RESULT
        assert (await api.job("job-1"))["state"] == "done"
        plain = await user.does("submit", "clip.mp4", "speech.wav", "-o", "two.mp4", "--plain")
        assert "the same work was done before, as job job-1" in plain.out
        await until(lambda: held(hub) == [])


async def test_a_gpu_is_kept_on_with_a_key_or_through_the_daemon_and_is_not_stopped_without_its_monitor(
    user: User, place: Place
) -> None:
    async with place.hub() as hub, place.worker(Joining()):
        await until(lambda: any(gpu.online for gpu in hub.state.gpus.values()))
        [gpu] = hub.state.gpus.values()
        settings = place.client_settings()
        user.environment |= settings
        ran = await user.does("gpu", "keep", gpu.name)
        assert f"{gpu.name} is kept on until" in ran.out
        first = gpu.kept_until
        async with daemon(user):
            for name in settings:
                del user.environment[name]
            await user.does("gpu", "keep", gpu.name, "--for", "5h")
            assert gpu.kept_until > first + 3 * 3600
            (await user.run("gpu", "stop", gpu.name)).refuses("no monitor")


async def test_foreground_and_another_hub_run_the_job_without_the_daemon(user: User, place: Place) -> None:
    place.user = None  # whose hub is another one
    async with field(user, online=True) as (hub, _), place.hub():
        elsewhere = {"API_SERVER_URL": place.hub_url, "WAKESTREAM_KEY": place.keys["client"]}
        async with daemon(user, **elsewhere) as api:
            ran = await user.submit()
            assert ran.code == 0
            assert "serves the hub" in ran.err
            assert (await user.submit("--foreground")).code == 0
            assert (await api.ask("GET", "/api/jobs"))[1]["jobs"] == []
            (await user.submit("--detach")).says("serves the hub", code=2)
        assert hub.faults == []


async def test_detached_it_prints_the_id_and_jobs_watch_and_cancel_know_it(user: User, place: Place) -> None:
    async with place.hub() as hub, place.worker(engine := Joining(held=True)), daemon(user) as api:
        files = ("submit", "clip.mp4", "speech.wav", "-o", "out.mp4", "--detach", "--priority", "3")
        ran = await user.run(*files)
        job = ran.out.strip()
        assert (ran.code, job[:3]) == (0, "ws-"), ran
        await api.until("running", job, status="synthesizing")
        listed = await user.run("jobs", "--json")
        assert [(each["id"], each["priority"], each["stage"]) for each in listed.events] == [(job, 3, "render")]
        table = (await user.run("jobs")).out.splitlines()
        assert table[0].split() == ["JOB", "FILES", "STATE", "DONE", "ETA", "SINCE", "PRIORITY", "OUTPUT"]
        assert table[1].split()[:6] == [job, "clip.mp4", "+", "speech.wav", "render", "50"]
        assert "first" not in listed.last
        (await user.run("jobs", "--live")).says("wakestream watch", code=2)
        async with user.runs("watch", job, "--json") as watching:
            await watching.event("running")
            ran = await user.run("cancel", job, "unknown")
            assert (ran.code, f"{job}: cancelling" in ran.out) == (1, True)
            assert "there is no job 'unknown' here" in ran.err
            assert (await watching.ended()).code == 130
        await engine.stopped.wait()
        await until(lambda: held(hub) == [])
        assert (await user.run("jobs")).out.startswith("no unfinished jobs")
        ended = await user.run("jobs", "--all", "--json")
        assert [each["state"] for each in ended.events] == ["cancelled"]
        again = await user.run("cancel", job, "--json")
        assert orjson.loads(again.out) == {"job": job, "state": "cancelled"}


async def test_on_a_terminal_watch_is_a_table_that_follows_the_jobs(user: User, place: Place) -> None:
    async with (
        place.hub(),
        place.worker(engine := Joining(held=True)),
        daemon(user) as api,
        terminal(user, "watch", NO_COLOR="1") as screen,
    ):
        await screen.shows("no unfinished jobs")
        await api.submit(user)
        await screen.shows("render  █████░░░░░  50 %")
        engine.go_on.set()
        await screen.shows("clip.mp4 + speech.wav  done: ")
        screen.process.send_signal(2)
        assert max(map(len, plain(await screen.ended()).replace("\r", "\n").splitlines())) <= 80
        assert screen.process.returncode == 130


async def test_the_jobs_have_their_costs_if_the_hub_has_a_price(user: User, place: Place) -> None:
    priced = place.hub(price=Decimal(36_000), currency="EUR")
    async with priced, place.worker(Joining(held=True)), daemon(user) as api:
        await api.submit(user)
        await api.until("running", status="synthesizing")
        listed = (await user.run("jobs")).out
        assert "COST" in listed
        assert " EUR" in listed
        status, told = await api.ask("GET", "/api/costs")
        assert (status, told["currency"], list(told["jobs"])) == (200, "EUR", ["job-1"])


async def test_a_folder_of_pairs_is_submitted_followed_and_opened(user: User, place: Place) -> None:
    takes = user.folder / "takes"
    takes.mkdir()
    for name in ("clip1_video.mp4", "clip1_audio.wav", "clip2_video.mp4", "clip2_audio.wav", "more.wav"):
        (takes / name).write_bytes(name.encode() * 100)
    async with place.hub(), place.worker(Joining()), daemon(user) as api:
        refused = (await user.run("submit", "--pairs", "takes")).says("give --yes", code=2)
        assert "without a partner: more.wav" in refused.out
        assert (await api.ask("GET", "/api/jobs"))[1]["jobs"] == []
        async with terminal(user, "submit", "--pairs", "takes", "--wait", NO_COLOR="1") as screen:
            await screen.shows("submit 2 jobs? [Y/n]")
            screen.type("y\r")
            assert "clip2_video.mp4 + clip2_audio.wav  done: " in " ".join(plain(await screen.ended()).split("\r\n"))
            assert screen.process.returncode == 0
        jobs = (await api.ask("GET", "/api/jobs"))[1]["jobs"]
        assert [job["batch"][:6] for job in jobs] == ["Batch "] * 2
        assert jobs[0]["batch"] == jobs[1]["batch"]
        results = [takes / f"clip{number}_video.synced.mp4" for number in (1, 2)]
        assert [path.read_bytes()[:10] for path in results] == [b"clip1_vide", b"clip2_vide"]
        again = await user.run("submit", "--pairs", "takes", "--yes", "--wait", "--json")
        assert sorted(Path(each["path"]).name for each in again.events) == [
            "clip1_video.synced-2.mp4", "clip2_video.synced-2.mp4",
        ]  # fmt: skip
        shown = await user.run("open", "--print")
        assert (shown.code, Path(shown.out.strip()).name in str(again.out)) == (0, True)
        Path(shown.out.strip()).unlink()
        assert "was removed or moved" in (await user.run("open", "--print")).err
        unknown = await user.run("open", again.events[0]["job"], "--result", "text")
        assert (unknown.code, "has no result 'text'; it has video" in unknown.err) == (1, True)


async def test_several_jobs_run_here_without_a_daemon_and_one_that_is_refused_stops_none(
    user: User, place: Place
) -> None:
    for name in ("a.mp4", "a.wav", "b.mp4", "b.wav"):
        (user.folder / name).write_bytes(name.encode() * 100)
    (user.folder / "a.wav").write_bytes(b"")
    async with place.hub(), place.worker(Joining()):
        ran = await user.run("submit", "?.mp4", "?.wav", "--yes", "--plain", *QUICK)
        assert (ran.code, ran.out.count("done: "), "a.wav" in ran.err) == (2, 1, True), ran
        assert (user.folder / "b.synced.mp4").exists()
        ran = await user.run("submit", "?.mp4", "speech.wav", "--yes", "--plain", *QUICK)
        assert (ran.code, ran.out.count("done: ")) == (0, 2), ran


async def test_retry_failed_submits_each_failed_job_once(user: User) -> None:
    async with field(user, online=True) as (_, worker), daemon(user) as api:
        worker.http.before["progress"] = failing
        await api.submit(user)
        assert (await api.outcome())["event"] == "failed"
        del worker.http.before["progress"]
        again = await user.run("retry", "--failed", "--json")
        assert [each["retry_of"] for each in again.events] == ["job-1"]
        assert (await api.outcome(again.last["job"]))["event"] == "done"
        none = await user.run("retry", "--failed")
        assert (none.code, none.out) == (0, "no job has failed, or all were tried again\n")


async def failing(_: web.Request) -> web.Response:
    """A task that failed."""
    return web.json_response({"code": 0, "data": {"status": "error", "error": "no face"}})


@asynccontextmanager
async def sold_out(place: Place) -> AsyncIterator[None]:
    """A monitor whose provider has no machine to give."""
    register = m.Register(role="gpu_monitor", token=place.keys["monitor"], gpus=("gpu",))
    link = Link(place.hub_url, lambda: register)

    def answer(event: object) -> None:
        if isinstance(event, m.Submit):
            link.send(m.BootResult(request_id=event.request_id, success=False, status="failed", msg="sold out"))

    link.events.subscribe(answer)
    try:
        await until(lambda: link.up)
        yield
    finally:
        await link.close()


async def test_a_job_whose_gpu_does_not_start_pauses_until_a_retry(user: User, place: Place) -> None:
    async with place.hub() as hub, daemon(user) as api:
        async with sold_out(place):
            assert (await api.submit(user))[0] == 201
            told = await api.until("note")
        assert (told["data"]["starts"], 30 <= told["data"]["rests"] <= 60) == (1, True)
        assert "paused" in (await user.run("jobs")).out
        why = (await user.run("why", "job-1")).out
        assert "job-1 is paused, next try in " in why
        assert "sold out" in why
        async with place.worker(Joining()):
            await gpu_online(hub)
            ran = await user.run("retry", "--all")
            assert (ran.code, ran.out) == (0, "job-1: trying now\n"), ran
            assert (await api.outcome())["event"] == "done"


async def test_retry_submits_ended_jobs_again_and_refuses_others(user: User, place: Place) -> None:
    async with place.hub(), daemon(user) as api:
        await api.submit(user)
        refused = await user.run("retry", "job-1", "job-0", "--json")
        assert (refused.code, [each["code"] for each in refused.events]) == (1, ["not_failed", "unknown_job"])
        assert (await user.run("retry", "--all")).out == "no job is paused\n"
        await api.ask("POST", "/api/jobs/job-1/cancel")
        await api.outcome()
        again = await user.run("retry", "job-1", "--json")
        assert (again.code, again.last["retry_of"]) == (0, "job-1"), again
        assert (await user.run("retry")).code == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name of a file is text")
async def test_a_file_name_that_is_not_unicode_is_refused_with_a_message(user: User, place: Place) -> None:
    async with place.hub(), daemon(user):
        odd = os.fsdecode(b"clip-\xff.mp4")
        (user.folder / "clip.mp4").rename(user.folder / odd)
        refused = await user.run("submit", odd, "speech.wav", "-o", "out.mp4")
        assert (refused.code, refused.out) == (2, ""), refused
        assert "clip-\\udcff.mp4: the name is not UTF-8, so the daemon cannot use it; rename it" in refused.err
        for command in ("watch", "why", "cancel"):
            (await user.run(command, odd)).says("there is no job 'clip-?.mp4' here", code=1)


async def test_a_job_is_named_by_the_beginning_of_its_id_or_as_the_last_one(user: User, place: Place) -> None:
    async with place.hub(), daemon(user) as api:
        two, three, other = (f"ws-{digits:<016}" for digits in ("20", "21", "3"))
        for job in ("job-10", two, three):
            await api.submit(user, job, output=str(user.folder / f"{job}.mp4"))
        status, refused = await api.ask("GET", "/api/jobs/ws-2")
        assert (status, refused["code"]) == (409, "ambiguous_job")
        assert f"{two}, {three}; give more characters" in refused["error"]
        status, refused = await api.ask("POST", "/api/jobs/job-1/cancel")  # another id of the same program
        assert (status, refused["code"]) == (404, "unknown_job")
        _, moved = await api.ask("POST", "/api/jobs/last/move", {"before": "ws-20"})
        assert moved["id"] == three
        inputs = {"video": "@last:video", "audio": str(user.audio)}
        chained = {"id": other, "kind": "lipsync", "inputs": inputs, "after": ["job-10"]}
        outputs = {"video": str(user.folder / "four.mp4")}
        await api.ask("POST", "/api/jobs", {**chained, "outputs": outputs, "wake_to_ask": True})
        assert sorted((await api.job(other))["after"]) == ["job-10", three]
        cancelled = await user.run("cancel", "ws-3", "--json")
        assert cancelled.last["job"] == other, cancelled
        again = await user.run("retry", other[:6], "--json")
        assert again.last["retry_of"] == other, again
        everyone = await user.run("cancel", "--all", "--json")
        assert {each["job"] for each in everyone.events} == {"job-10", two, three, again.last["job"]}


@pytest.mark.parametrize("how", ["Ctrl-C", "the end of the terminal"])
async def test_a_submit_that_is_stopped_leaves_the_job_to_the_daemon_and_says_so(
    user: User, place: Place, how: str
) -> None:
    async with place.hub(), place.worker(engine := Joining(held=True)), daemon(user) as api:
        async with user.submits("--job-id", "job-1") as job:
            await job.event("running", status="synthesizing")
            job.interrupt() if how == "Ctrl-C" else job.process.terminate()
            ran = await job.ended()
        assert ran.code == 130, ran
        if how == "Ctrl-C":
            assert "the job goes on; press Ctrl-C again within" in ran.last["text"]
        else:
            assert "goes on in the daemon" in ran.err
        engine.go_on.set()
        assert (await api.outcome())["event"] == "done"


async def test_a_second_ctrl_c_while_following_cancels_the_job(user: User, place: Place) -> None:
    async with place.hub() as hub, place.worker(engine := Joining(held=True)), daemon(user) as api:
        async with user.submits("--job-id", "job-1") as job:
            await job.event("running", status="synthesizing")
            job.interrupt()
            await job.event("note")
            job.interrupt()
            ran = await job.ended()
        assert (ran.code, ran.last["event"]) == (130, "cancelled"), ran
        assert "cancelling the job" in ran.all("note")[1]["text"]
        await engine.stopped.wait()
        await until(lambda: held(hub) == [])
        assert (await api.job())["state"] == "cancelled"


async def test_a_follower_reconnects_to_a_restarted_daemon(user: User, place: Place) -> None:
    async with place.hub(), place.worker(engine := Joining(held=True)), daemon(user) as first:
        async with user.submits("--job-id", "job-1") as job:
            await job.event("running", status="synthesizing")
            await first.kill()
            engine.go_on.set()
            async with daemon(user):
                ran = await job.ended()
        assert (ran.code, ran.last["event"]) == (0, "done"), ran
    assert user.out.read_bytes() == RESULT


def test_without_a_daemon_detach_jobs_watch_and_cancel_say_how_to_start_one(user: User, here: Here) -> None:
    for command in (user.command("--detach"), ["jobs"], ["watch"], ["watch", "x"], ["cancel", "x"]):
        ran = here(user, *command)
        assert (ran.code, ran.out) == (4, ""), ran
        assert "start one with `wakestream daemon`" in ran.err


async def test_a_stale_daemon_file_is_detected_and_the_job_runs_without_a_daemon(user: User) -> None:
    user.environment["WAKESTREAM_DAEMON"] = str(user.folder.parent / "daemon")
    state_of(user).mkdir()
    with announced(state_of(user), Address("http://127.0.0.1:9", "token", 1)):
        async with field(user, online=True):
            ran = await user.submit()
            assert (ran.code, ran.last["event"]) == (0, "done"), ran
            assert (await user.run("jobs")).code == 4
