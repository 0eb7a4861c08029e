"""Our client and daemon among deployed parts, with peers that behave as the field's do."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.support.field.frames import dsp
from tests.support.field.house import KEY, SECRET, settings
from tests.support.field.hub import FieldHub, Store, field_hub
from tests.support.field.monitor import FieldCloud, MonitorTimes, field_monitor
from tests.support.field.text_worker import field_text_worker
from tests.support.field.worker import FieldWorker, field_worker, rendered
from tests.support.mixes import OldMachine, our_monitor
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import RunningDaemon, daemon
from tests.support.programs.our_peers import until

QUICK = replace(MonitorTimes().scaled(0.001), idle=60.0)


@asynccontextmanager
async def deployed(user: User, *, secret: str = SECRET, **worker: Any) -> AsyncIterator[tuple[FieldHub, FieldWorker]]:
    """A deployed hub and a deployed worker that is not yet at the hub; the user's settings are the field's."""
    async with field_hub() as hub, field_worker(secret, **worker) as gpu:
        settings(user, hub.url, gpu.url, secret)
        yield hub, gpu


async def hand_in(api: RunningDaemon, user: User, *jobs: str, status: int = 201) -> None:
    """Jobs with a voice of their own each. Once they are handed in again, all that was said of them is kept."""
    for job in jobs:
        voice = user.folder / f"{job}.wav"
        voice.write_bytes(job.encode() * 100)
        files = {"video": str(user.video), "audio": str(voice), "output": str(user.folder / f"{job}.mp4")}
        answer = await api.ask("POST", "/api/jobs", {"id": job, **files})
        assert answer[0] == status, answer


def result(user: User, job: str) -> bytes:
    return rendered((user.folder / f"{job}.wav").read_bytes(), user.video.read_bytes())


async def all_done(api: RunningDaemon, user: User, *jobs: str) -> None:
    for job in jobs:
        assert (await api.outcome(job))["event"] == "done"
        assert (user.folder / f"{job}.mp4").read_bytes() == result(user, job)


async def test_three_jobs_of_a_daemon_at_a_hub_that_takes_one_job_of_a_key_at_a_time_are_all_done(user: User) -> None:
    async with deployed(user) as (hub, gpu), gpu.at_hub(hub.url), daemon(user) as api:
        hub.before_result = lambda: hub.until(lambda: len(hub.refused) >= 2)
        await hand_in(api, user, "job-1", "job-2", "job-3")
        await all_done(api, user, "job-1", "job-2", "job-3")
        assert hub.faults == []


async def test_three_jobs_that_wait_for_the_gpu_are_done_though_the_hub_forgets_two_of_them(user: User) -> None:
    async with deployed(user) as (hub, gpu), daemon(user) as api:
        gpu.http.before["health"] = unreachable
        await hand_in(api, user, "job-1", "job-2", "job-3")
        await hub.until(lambda: len(hub.submits) >= 3)
        assert [job["request_id"] for job in hub.queue[KEY]] == [hub.submits[-1]["request_id"]]
        del gpu.http.before["health"]
        async with gpu.at_hub(hub.url):
            await all_done(api, user, "job-1", "job-2", "job-3")


async def unreachable(_: object) -> Any:
    from aiohttp import web

    return web.Response(status=502)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")
async def test_a_daemon_killed_with_its_jobs_at_the_worker_finishes_all_of_them(user: User) -> None:
    jobs = ("job-1", "job-2", "job-3", "job-4")
    async with deployed(user, held=True) as (hub, gpu), gpu.at_hub(hub.url):
        async with daemon(user) as api:
            await hand_in(api, user, *jobs)
            for job in jobs:
                await api.until("running", job)
            await hand_in(api, user, *jobs, status=200)
            await api.kill()
        async with daemon(user) as api:
            for job in jobs:
                await api.until("running", job)
            for _ in jobs:
                gpu.finish()
            await all_done(api, user, *jobs)
        assert len(gpu.renders) == len(jobs)


async def test_a_job_after_one_that_was_cancelled_is_done(user: User) -> None:
    async with deployed(user) as (hub, gpu), field_text_worker(hub.url), daemon(user) as api:
        gpu.http.before["health"] = unreachable
        await hand_in(api, user, "job-1")
        await api.until("granted", "job-1")  # for the text worker: no peer ever answers
        assert (await api.ask("POST", "/api/jobs/job-1/cancel"))[0] == 202
        await hand_in(api, user, "job-2")
        assert (await api.until("waking", "job-2", phase="busy"))["eta"]["p50"] == 2.0
        del gpu.http.before["health"]
        await all_done(api, user, "job-2")
        assert hub.refused[0]["old_request_id"] == "job-1"


async def test_an_ack_that_means_the_text_worker_alone_is_waited_out_until_the_worker_is_ready(user: User) -> None:
    async with deployed(user) as (hub, gpu), field_text_worker(hub.url):
        gpu.http.before["health"] = unreachable
        command = user.command("--lost-timeout", "0.2")
        async with user.runs(*command) as running:
            await running.event("granted")
            await hub.until(lambda: hub.refused)
            assert hub.refused[0]["old_request_id"] == hub.submits[0]["request_id"]
            del gpu.http.before["health"]
            async with gpu.at_hub(hub.url):
                ran = await running.ended()
        assert (ran.code, ran.last["event"]) == (0, "done"), ran


async def test_without_a_hub_a_ready_worker_runs_the_job_and_the_client_reports_it(user: User) -> None:
    async with field_worker(SECRET) as gpu:
        settings(user, "http://127.0.0.1:9", gpu.url)
        ran = await user.submit()
        assert (ran.code, ran.last["event"]) == (0, "done"), ran
        assert [event["phase"] for event in ran.all("waking")][-1] == "straight"
        ran = await user.run("submit", "clip.mp4", "speech.wav", "-o", "again.mp4", WAKESTREAM_LANG="zh")
        assert "任务直接继续" in ran.out, ran


async def test_a_daemon_whose_hub_is_down_uses_a_worker_that_is_ready(user: User) -> None:
    async with field_worker(SECRET) as gpu:
        settings(user, "http://127.0.0.1:9", gpu.url)
        async with daemon(user) as api:
            await hand_in(api, user, "job-1", "job-2")
            await all_done(api, user, "job-1", "job-2")


async def test_online_before_offline_does_not_keep_a_job_waiting(user: User) -> None:
    async with deployed(user) as (hub, _):
        hub.swallows.add("gpu.job.submit")
        async with user.runs(*user.command()) as running:
            await hub.until(lambda: hub.submits)
            job = hub.submits[0]["request_id"]
            await hub.tell({"type": "gpu_online", "msg": "online"})
            await hub.tell({"type": "gpu.power.offline", "request_id": job, "data": {"status": "offline"}})
            ran = await running.ended()
        assert (ran.code, ran.last["event"]) == (0, "done"), ran


@pytest.mark.parametrize("online", [True, False])
async def test_a_task_started_by_the_hubs_copy_of_a_job_is_followed(user: User, online: bool) -> None:
    async with deployed(user, held=True) as (hub, gpu), AsyncExitStack() as at_hub:
        gpu.keep(user.video.read_bytes(), ".mp4")
        gpu.keep(user.audio.read_bytes(), ".wav")
        gpu.http.before |= {} if online else {"health": unreachable}
        if online:
            await at_hub.enter_async_context(gpu.at_hub(hub.url))
        async with user.runs(*user.command("--job-id", "job-1")) as running:
            if not online:
                await running.event("queued")
                del gpu.http.before["health"]
                await at_hub.enter_async_context(gpu.at_hub(hub.url))
            assert (await running.event("submitted"))["task_id"] == "job-1"
            gpu.finish()
            ran = await running.ended()
        assert (ran.code, ran.last["event"]) == (0, "done"), ran
        assert (len(gpu.renders), gpu.http.calls["submit"]) == (1, 0)
        assert user.out.read_bytes() == rendered(user.audio.read_bytes(), user.video.read_bytes())


async def test_a_job_id_that_is_used_for_other_files_gets_the_result_of_its_own(user: User) -> None:
    async with deployed(user) as (hub, gpu), gpu.at_hub(hub.url):
        gpu.keep(user.video.read_bytes(), ".mp4")
        for words in (b"one" * 100, b"two" * 100):
            user.audio.write_bytes(words)
            gpu.keep(words, ".wav")
            ran = await user.submit("--job-id", "job-1")
            assert (ran.code, ran.last["event"]) == (0, "done"), ran
            assert user.out.read_bytes() == rendered(words, user.video.read_bytes())


async def test_where_the_field_has_no_secret_anywhere_the_client_needs_none(user: User) -> None:
    async with deployed(user, secret="") as (hub, gpu), gpu.at_hub(hub.url):
        seen: set[str] = set()

        async def look(request: Any) -> None:
            seen.update(request.headers)

        gpu.http.before |= {"submit": look, "upload_file": look}
        ran = await user.submit()
        assert (ran.code, ran.last["event"]) == (0, "done"), ran
        assert gpu.renders
        assert "Authorization" not in seen
        async with daemon(user) as api:
            await hand_in(api, user, "job-1")
            await all_done(api, user, "job-1")


async def test_a_worker_that_wants_a_secret_is_named_where_the_client_s_is_empty(user: User) -> None:
    async with deployed(user) as (hub, gpu), gpu.at_hub(hub.url):
        settings(user, hub.url, gpu.url, secret="")
        ran = await user.submit()
        assert (ran.code, ran.last["code"]) == (2, "unauthorized"), ran
        assert "HEYGEM_API_SECRET" in ran.last["why"]


async def test_jobs_of_our_daemon_wake_a_deployed_machine_by_the_deployed_hub_and_monitor(user: User) -> None:
    async with field_hub() as hub, OldMachine(hub.url, secret=SECRET) as machine:
        settings(user, hub.url, machine.url)
        async with field_monitor(hub.url, machine.cloud, times=QUICK), daemon(user) as api:
            await hand_in(api, user, "job-1", "job-2", "job-3")
            await all_done(api, user, "job-1", "job-2", "job-3")
        assert machine.cloud.starts == 1
        assert machine.worker is not None
        assert len(machine.worker.renders) == 3
        assert hub.faults == []


async def test_jobs_of_our_daemon_wake_a_deployed_machine_by_the_deployed_hub_and_our_monitor(user: User) -> None:
    async with field_hub() as hub, OldMachine(hub.url, secret=SECRET) as machine:
        settings(user, hub.url, machine.url)
        async with our_monitor(dsp(hub.url), machine.cloud, machine.url, idle_after=1.0, query_timeout=0.5):
            async with daemon(user) as api:
                await hand_in(api, user, "job-1", "job-2")
                await all_done(api, user, "job-1", "job-2")
            await machine.cloud.stopped.wait()
        assert hub.faults == []


async def test_an_online_of_the_published_monitor_that_comes_before_the_worker_is_waited_out(user: User) -> None:
    async with deployed(user) as (hub, gpu):
        gpu.http.before["health"] = unreachable
        cloud = FieldCloud("running")
        async with field_monitor(hub.url, cloud, times=QUICK, published=True) as monitor:
            await until(lambda: monitor.status == "running")  # its first look at the cloud
            async with user.runs(*user.command("--lost-timeout", "0.2")) as running:
                await monitor.said.wait("gpu.power.online")
                await running.event("granted")
                await running.event("retrying")
                del gpu.http.before["health"]
                ran = await running.ended()
        assert (ran.code, ran.last["event"]) == (0, "done"), ran


@pytest.mark.parametrize("texts", [True, False])
async def test_our_jobs_survive_a_restart_of_a_deployed_hub(user: User, texts: bool) -> None:
    store = Store()
    async with AsyncExitStack() as life, field_worker(SECRET) as gpu:
        hub = await life.enter_async_context(field_hub(store=store))
        settings(user, hub.url, gpu.url)
        gpu.http.before["health"] = unreachable
        if texts:
            await life.enter_async_context(field_text_worker(hub.url))
        async with user.runs(*user.command("--lost-timeout", "0.5")) as running:
            await running.event("granted" if texts else "queued")
            await life.aclose()
            async with field_hub(store=store, port=int(hub.url.rpartition(":")[2])) as again:
                await again.until(lambda: again.submits)
                del gpu.http.before["health"]
                async with gpu.at_hub(again.url):
                    ran = await running.ended()
        assert (ran.code, ran.last["event"]) == (0, "done"), ran
        assert again.faults == []
