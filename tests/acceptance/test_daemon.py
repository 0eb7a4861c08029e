"""`wakestream daemon` with a real hub and worker: what it took is done once, whatever is killed meanwhile."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.support.field.house import field
from tests.support.field.worker import cache_key, md5, rendered
from tests.support.ports import free_port
from tests.support.programs.client_scene import User
from tests.support.programs.daemon_scene import daemon, state_of
from tests.support.programs.our_peers import SECRET, Joining, Place, gpu_online, held, until
from wakestream.adapters.disk.journal import open_journal
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.worker import file_store as store
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import running_worker
from wakestream.operators.model.engine import Frame
from wakestream.streams.outbox import facts as f

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")

RESULT = b"video" * 1000 + b"audio" * 500


class Counting(Joining):
    """Counts how often it ran."""

    runs = 0

    async def joined(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
        self.runs += 1
        async for frame in super().joined(video, audio, output):
            yield frame


async def test_killed_before_any_hub_was_there_the_job_is_done_when_all_have_come(user: User, place: Place) -> None:
    async with place.hub():
        pass
    async with daemon(user) as api:
        assert (await api.submit(user))[0] == 201
        await api.until("waking", phase="hub_unreachable")
        await api.kill()
    port = int(place.hub_url.rsplit(":", 1)[1].split("/")[0])
    async with daemon(user) as api, place.hub(port), place.worker(engine := Counting()):
        assert (await api.outcome())["event"] == "done"
        assert user.out.read_bytes() == RESULT
        assert engine.runs == 1


async def test_killed_while_the_gpu_wakes_the_job_keeps_its_place_and_is_done_once(user: User, place: Place) -> None:
    async with place.hub() as hub:
        async with daemon(user) as api:
            await api.submit(user)
            await api.until("queued")
            await api.kill()
        assert held(hub) == ["job-1"]
        async with daemon(user) as api, place.worker(engine := Counting()):
            assert (await api.outcome())["event"] == "done"
            assert user.out.read_bytes() == RESULT
            assert engine.runs == 1
            await until(lambda: held(hub) == [])


@pytest.mark.parametrize("at_work", [False, True])
async def test_a_job_outlives_a_hub_that_lost_its_journal_and_knows_another_gpu_first(
    user: User, place: Place, at_work: bool
) -> None:
    engine, port = Counting(held=True), free_port()
    other = WorkerConfig(place.folder / "other", Joining(), SECRET, port=0, gpu="other", key=place.keys["worker"])
    async with AsyncExitStack() as life:
        await life.enter_async_context(place.hub())
        async with AsyncExitStack() as gpu:
            if at_work:  # its worker stays, and does not connect to the next hub
                await gpu.enter_async_context(place.worker(engine))
            user.environment["API_SERVER_URL"] += f",ws://127.0.0.1:{port}/dsp"
            async with daemon(user) as api:
                inputs, outputs = {"video": str(user.video), "audio": str(user.audio)}, {"video": str(user.out)}
                job = {"id": "job-1", "kind": "lipsync", "inputs": inputs, "outputs": outputs, "gpus": ["gpu"]}
                assert (await api.ask("POST", "/api/jobs", job))[0] == 201
                await api.until("running" if at_work else "queued")
                await life.aclose()
                async with place.hub(port) as hub, running_worker(other, lambda register: Link(hub.url, register)):
                    await gpu_online(hub)
                    if at_work:
                        await until(lambda: hub.state.clients)
                    else:
                        await api.until("retrying", why="there is no GPU gpu; there are other")
                        await gpu.enter_async_context(place.worker(engine))
                    engine.go_on.set()
                    assert (await api.outcome())["event"] == "done"
                    assert engine.runs == 1


async def test_a_daemon_killed_in_an_upload_resumes(user: User, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, add = asyncio.Event(), store.Incoming.add

    async def slowly(incoming: store.Incoming, *block: Any) -> None:
        await go_on.wait()
        await add(incoming, *block)

    monkeypatch.setattr(store.Incoming, "add", slowly)
    with user.video.open("ab") as file:
        file.truncate(16 * 1024 * 1024)
    async with place.hub(), place.worker(engine := Counting()):
        async with daemon(user) as api:
            await api.submit(user)
            await api.until("uploading")
            await api.kill()
        go_on.set()
        async with daemon(user) as api:
            assert (await api.outcome())["event"] == "done"
            assert user.out.read_bytes() == user.video.read_bytes() + user.audio.read_bytes()
            assert engine.runs == 1


async def test_a_daemon_killed_in_the_download_leaves_no_partial_result_and_downloads_again(user: User) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        await asyncio.Event().wait()
        return response

    async with field(user) as (_, worker):
        audio, video = user.audio.read_bytes(), user.video.read_bytes()
        worker.results[cache_key(md5(audio), md5(video))] = rendered(audio, video)  # so both runs ask for one task
        worker.http.before["download"] = slow
        async with daemon(user) as api:
            await api.submit(user)
            await api.until("downloading", bytes=0)
            await api.kill()
        assert not user.out.exists()
        del worker.http.before["download"]
        async with daemon(user) as api:
            assert (await api.outcome())["event"] == "done"
            assert user.out.read_bytes() == rendered(b"audio" * 500, b"video" * 1000)
            assert user.left() == {"out.mp4"}


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_daemon_that_ends_in_the_render_keeps_its_job_at_the_hub_and_resumes(
    user: User, place: Place, how: str
) -> None:
    async with place.hub() as hub, place.worker(engine := Counting(held=True)):
        async with daemon(user) as api:
            await api.submit(user)
            await api.until("running", status="synthesizing")
            if how == "killed":
                await api.kill()
            else:
                api.running.process.terminate()
                ran = await api.running.ended()
                assert (ran.code, "Traceback" in ran.err) == (0, False), ran
                assert not (state_of(user) / "daemon.json").exists()
        await until(lambda: hub.connections == 1)
        assert held(hub) == ["job-1"]
        assert not engine.stopped.is_set()
        engine.go_on.set()
        async with daemon(user) as api:
            assert (await api.outcome())["event"] == "done"
            assert user.out.read_bytes() == RESULT
            assert engine.runs == 1
            await until(lambda: held(hub) == [])


async def test_a_cancel_that_the_kill_overtook_is_carried_out_after_the_restart(user: User, place: Place) -> None:
    async with place.hub() as hub, place.worker(engine := Counting(held=True)):
        async with daemon(user) as api:
            await api.submit(user)
            await api.until("running", status="synthesizing")
            await api.ask("POST", "/api/jobs/no-such/cancel")  # answered when all that came before is kept
            await api.kill()
        async with open_journal(state_of(user) / "outbox.sqlite3", f.OutboxFact, program="daemon") as journal:
            assert any(isinstance(fact, f.JobStage) and fact.task for fact in journal.read())
            await journal.append([f.JobCancelling("job-1", time.time())])
        async with daemon(user) as api:
            assert (await api.outcome())["event"] == "cancelled"
            assert (await api.job())["state"] == "cancelled"
            await engine.stopped.wait()
            await until(lambda: held(hub) == [])
            status, plain = await api.submit(user)
            assert (status, plain["state"]) == (200, "cancelled")
    assert not user.out.exists()


async def test_a_cancel_stops_the_job_in_all_programs_and_is_final(user: User, place: Place) -> None:
    async with place.hub() as hub, place.worker(engine := Counting(held=True)), daemon(user) as api:
        await api.submit(user)
        await api.until("running", status="synthesizing")
        assert (await api.ask("POST", "/api/jobs/job-1/cancel"))[0] == 202
        assert (await api.outcome())["event"] == "cancelled"
        await engine.stopped.wait()
        await until(lambda: held(hub) == [])
        assert (await api.ask("POST", "/api/jobs/job-1/cancel"))[0] == 200
        engine.go_on.set()
        status, again = await api.ask("POST", "/api/jobs/job-1/retry", {"id": "job-2"})
        assert (status, again["retry_of"]) == (201, "job-1")
        assert (await api.outcome("job-2"))["event"] == "done"
        assert (await api.job())["state"] == "cancelled"
        status, plain = await api.ask("POST", "/api/jobs/job-2/cancel")
        assert (status, plain["code"]) == (409, "ended")


URGENT = (("first", 0), ("next", 0), ("low", -1), ("high", 7))


async def test_the_more_urgent_job_has_its_turn_first_also_in_a_replay(user: User, place: Place) -> None:
    order: list[str] = []

    class Noting(Joining):
        async def joined(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
            order.append(video.read_bytes().decode())
            async for frame in super().joined(video, audio, output):
                yield frame

    engine = Noting(held=True)
    async with place.hub() as hub, place.worker(engine):
        await gpu_online(hub)
        async with daemon(user, "--max-gpu", "1", "--record", "night") as api:
            for name, priority in URGENT:
                video = user.folder / f"{name}.mp4"
                video.write_text(name)
                output = str(user.folder / f"{name}.out.mp4")
                await api.submit(user, name, video=str(video), output=output, priority=priority)
                await api.until({"first": "running", "next": "note"}.get(name, "queued"), name)
            await api.submit(user, "same", video=str(video), output=str(user.folder / "same.mp4"))
            await api.until("note", "same")
            engine.go_on.set()
            for name in (*(name for name, _ in URGENT), "same"):
                assert (await api.outcome(name))["event"] == "done"
            api.running.process.terminate()
            await api.running.ended()
    assert order == ["first", "next", "high", "low"]  # the next one has the GPU already, for its upload
    await replays(user)


async def replays(user: User) -> None:
    """The recording of the user's daemon replays."""
    ran = await user.run("replay", "night", "--json")
    assert (ran.code, [log["result"] for log in ran.events if "log" in log]) == (0, ["same"]), ran.out


async def test_the_same_work_is_answered_from_the_existing_result(user: User, place: Place) -> None:
    async with place.hub() as hub, place.worker(engine := Counting()), daemon(user) as api:
        await api.submit(user)
        await api.outcome()
        two = user.folder / "two.mp4"
        await api.submit(user, "job-2", output=str(two))
        assert (await api.until("note", "job-2"))["data"] == {"same_as": "job-1"}
        assert (await api.outcome("job-2"))["event"] == "done"
        assert (two.read_bytes(), two.samefile(user.out)) == (RESULT, False)
        copied = user.folder / "copied.mp4"  # the same content under another name
        copied.write_bytes(user.video.read_bytes())
        three = user.folder / "three.mp4"
        await api.submit(user, "job-3", video=str(copied), output=str(three))
        await api.outcome("job-3")
        assert three.read_bytes() == RESULT
        assert hub.state.jobs.keys() <= {"job-1"}
        user.out.write_bytes(b"edited")
        two.unlink()
        three.unlink()
        await api.submit(user, "job-4", output=str(user.folder / "four.mp4"))
        await api.until("granted", "job-4")
        await api.outcome("job-4")
        assert (user.folder / "four.mp4").read_bytes() == RESULT
    assert engine.runs == 1


async def test_the_same_work_at_once_is_done_once_and_the_second_takes_the_result(user: User, place: Place) -> None:
    async with asyncio.timeout(100), place.hub(), place.worker(engine := Counting(held=True)), daemon(user) as api:
        await api.submit(user)
        await api.until("running")
        await api.submit(user, "job-2", output=str(user.folder / "two.mp4"))
        assert "running as job job-1" in (await api.until("note", "job-2"))["text"]
        engine.go_on.set()
        assert (await api.outcome("job-2"))["event"] == "done"
        assert (user.folder / "two.mp4").read_bytes() == RESULT
        assert [e["event"] async for _, e in api.events("/api/jobs/job-2/events")] == [
            "accepted", "note", "note", "done",
        ]  # fmt: skip
    assert engine.runs == 1


async def test_the_recording_of_a_restarted_daemon_replays(user: User, place: Place) -> None:
    async with place.hub(), place.worker(engine := Joining(held=True)):
        async with daemon(user) as api:
            for name in ("over", "open"):
                await api.submit(user, name, output=str(user.folder / f"{name}.mp4"), task_type=f"heygem_{name}")
            await api.until("running", "open")
            await api.kill()
        async with open_journal(state_of(user) / "outbox.sqlite3", f.OutboxFact, program="daemon") as journal:
            await journal.append([f.JobEnded("over", "failed", time.time())])  # which the hub has not heard
        async with daemon(user, "--record", "night") as api:
            engine.go_on.set()
            assert (await api.outcome("open"))["event"] == "done"
            api.running.process.terminate()
            await api.running.ended()
    await replays(user)
