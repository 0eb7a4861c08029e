"""The worker's side of the hub with a link and a clock that the test holds in its hands."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.log_lines import logged
from tests.support.programs.hub_bench import AUDIO, PAYLOAD, VIDEO, HubBench
from tests.support.programs.our_peers import until
from wakestream.adapters.worker import hub_session as worker_hub
from wakestream.adapters.worker.hub_session import ACTIVE_EVERY
from wakestream.operators.model.events import FileRef
from wakestream.operators.model.ports import LinkDown
from wakestream.streams.protocol import messages as m
from wakestream.streams.worker import state as w


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[HubBench, None]:
    bench = HubBench(tmp_path)
    async with bench.ready():
        yield bench


async def test_the_hub_hears_whether_tasks_begin_now_and_at_each_connection(bench: HubBench) -> None:
    bench.link.connect("grant", m.WorkerState.FEATURE)
    await bench.queue.unready("the node X is missing")
    await bench.queue.unready("the node X is missing")
    bench.link.connect("grant", m.WorkerState.FEATURE)
    await bench.queue.ready()
    ready = m.WorkerState(gpu="gpu-7", state="ready")
    halted = m.WorkerState(gpu="gpu-7", state="not_ready", reason="the node X is missing")
    assert bench.link.sent == [ready, halted, halted, ready]


async def test_the_hub_hears_for_each_job_how_long_its_task_runs_and_never_twice(bench: HubBench) -> None:
    bench.files()
    bench.link.connect("grant", m.JobWork.FEATURE)
    spec = w.pair(VIDEO, AUDIO)
    task = await bench.queue.ask(spec, "r1")
    await bench.queue.ask(spec, "r2")
    await bench.until(lambda: bench.statuses() == ["running"])
    bench.link.disconnect()
    bench.link.sent.clear()
    bench.link.connect("grant", m.JobWork.FEATURE)
    begun = bench.link.said(m.JobWork)
    assert [(each.request_id, each.ended) for each in begun] == [("r1", None), ("r2", None)]
    bench.link.disconnect()
    bench.engine.gate.set()
    await bench.until(lambda: bench.statuses() == ["done"])
    bench.link.sent.clear()
    bench.link.connect("grant", m.JobWork.FEATURE)
    done = bench.queue.state.tasks[task.id]
    each = round(((done.finished_at or 0.0) - (done.started_at or 0.0)) / 2, 3)
    ends = [m.JobWork(request_id=job, seconds=each, ended=True) for job in ("r1", "r2")]
    assert bench.link.said(m.JobWork) == ends
    await bench.queue.ask(spec, "r3")  # the result is here: this job costs no work
    assert bench.link.said(m.JobWork) == ends


async def test_a_hub_that_knows_neither_work_nor_states_hears_of_none(bench: HubBench) -> None:
    bench.files()
    bench.link.connect("grant")
    await bench.queue.unready("the node X is missing")
    await bench.queue.ready()
    bench.engine.gate.set()
    await bench.queue.ask(w.pair(VIDEO, AUDIO), "r1")
    await bench.until(lambda: bench.statuses() == ["done"])
    assert bench.link.said(m.JobWork) == bench.link.said(m.WorkerState) == []


def submit(request_id: str = "r1") -> m.Submit:
    return m.Submit(request_id=request_id, payload=PAYLOAD, key="client-7", sender_fd=7)


async def test_online_is_sent_after_initialization_and_on_each_connection(bench: HubBench) -> None:
    bench.link.connect()
    assert bench.link.sent == []
    bench.hub.initialized()
    online = bench.link.said(m.Online)
    assert [(one.gpu, one.url) for one in online] == [("gpu-7", "http://gpu:8383")]
    bench.link.disconnect()
    bench.link.connect()
    assert len(bench.link.said(m.Online)) == 2
    bench.link.disconnect()
    bench.hub.initialized()  # waits for a link
    assert len(bench.link.said(m.Online)) == 2
    bench.link.connect()
    assert len(bench.link.said(m.Online)) == 3


@pytest.mark.parametrize("fails", [False, True])
async def test_a_job_with_stored_files_starts_and_its_end_is_sent(bench: HubBench, fails: bool) -> None:
    bench.files()
    bench.engine.fail = fails
    bench.link.connect()
    bench.link.receive(submit())
    bench.engine.gate.set()
    await bench.until(lambda: bench.link.said(m.Result))
    (result,) = bench.link.said(m.Result)
    assert (result.request_id, result.key, result.sender_fd) == ("r1", "client-7", 7)
    assert (result.error, result.error_msg) == ((True, "no sound") if fails else (None, None))
    assert result.result == {"task_id": next(iter(bench.queue.state.tasks)), "status": "error" if fails else "done"}


async def test_a_job_without_files_waits_for_its_client_and_its_end_is_sent(bench: HubBench) -> None:
    bench.link.connect()
    bench.link.receive(submit("early"))
    bench.files()
    bench.link.receive(replace(submit("late"), payload={"prompt": "no files in it"}))
    bench.engine.gate.set()
    bench.link.receive(m.Ping())
    await bench.queue.ask(w.pair(VIDEO, AUDIO), "early")
    await bench.until(lambda: bench.link.said(m.Result))
    assert [result.request_id for result in bench.link.said(m.Result)] == ["early"]


async def test_the_end_of_a_job_is_sent_whose_secret_the_hub_does_not_have(bench: HubBench) -> None:
    bench.link.connect()
    files = {name: {"hash": ref.hash, "ext": ref.ext} for name, ref in (("video", VIDEO), ("audio", AUDIO))}
    payload = {"kind": w.LIPSYNC, "inputs": files, "params": {"token": "[redacted] 1"}, "outputs": ["video"]}
    bench.link.receive(replace(submit(), payload=payload))
    bench.files()
    bench.engine.gate.set()
    await bench.queue.ask(replace(w.pair(VIDEO, AUDIO), params={"token": "[redacted] 2"}), "r1")
    await bench.until(lambda: bench.link.said(m.Result))
    assert [result.request_id for result in bench.link.said(m.Result)] == ["r1"]


async def test_a_batch_is_taken_job_by_job_and_a_broken_one_is_left_out(bench: HubBench) -> None:
    bench.files()
    bench.link.connect()
    jobs = ({"nonsense": 1}, {"request_id": "r1", "payload": PAYLOAD, "key": "k", "sender_fd": 3})
    bench.link.receive(m.DispatchBatch(batch_id="b", jobs=jobs))
    bench.engine.gate.set()
    await bench.until(lambda: bench.link.said(m.Result))
    assert [result.request_id for result in bench.link.said(m.Result)] == ["r1"]


async def test_a_missed_end_is_sent_on_the_next_connection(bench: HubBench) -> None:
    bench.files()
    bench.link.connect()
    bench.link.receive(submit())
    await bench.until(lambda: bench.statuses() == ["running"])
    bench.link.disconnect()
    bench.engine.gate.set()
    await bench.until(lambda: bench.statuses() == ["done"])
    assert bench.link.said(m.Result) == []
    bench.link.connect()
    assert len(bench.link.said(m.Result)) == 1


async def test_a_cancel_stops_the_job_and_sends_no_end(bench: HubBench) -> None:
    bench.files()
    bench.link.connect()
    bench.link.receive(submit("r1"))
    bench.link.receive(submit("r2"))
    await bench.until(lambda: [len(task.holders) for task in bench.queue.state.tasks.values()] == [2])
    bench.link.receive(m.Cancel(request_id="r1"))
    bench.link.receive(m.Cancel(request_id="nobody"))
    await bench.until(lambda: [len(task.holders) for task in bench.queue.state.tasks.values()] == [1])
    assert bench.statuses() == ["running"]
    bench.link.receive(m.Cancel(request_id="r2"))
    await bench.until(lambda: not bench.queue.state.busy)
    assert bench.statuses() == ["cancelled"]
    assert bench.link.said(m.Result) == []


@pytest.mark.parametrize("granted_again", [False, True])
async def test_a_job_that_comes_after_its_cancel_is_carried_out_only_if_the_hub_grants_it_again(
    bench: HubBench, granted_again: bool
) -> None:
    bench.files()
    bench.link.connect()
    bench.engine.gate.set()
    bench.link.receive(m.Cancel(request_id="r1"))
    await asyncio.sleep(0)
    if granted_again:
        bench.link.receive(submit("r1"))
    else:
        await bench.queue.ask(w.pair(VIDEO, AUDIO), "r1")
    await bench.until(lambda: bench.statuses() == ["done" if granted_again else "cancelled"])
    await bench.until(lambda: not bench.queue.state.busy)


@pytest.mark.parametrize("batch", [False, True])
async def test_a_job_that_the_hub_grants_again_is_carried_out_also_if_its_client_comes_before_the_grant_is_read(
    bench: HubBench, monkeypatch: pytest.MonkeyPatch, batch: bool
) -> None:
    bench.files()
    bench.link.connect()
    entered, disk, drop = asyncio.Event(), asyncio.Event(), bench.queue.drop

    async def slowly(*job: str) -> w.Task:
        entered.set()
        await disk.wait()
        return await drop(*job)

    monkeypatch.setattr(bench.queue, "drop", slowly)
    spec = w.pair(VIDEO, AUDIO)
    await bench.queue.ask(spec, "other")
    for job in ("r1", "other"):
        bench.link.receive(m.Cancel(request_id=job))
    await entered.wait()
    one = {"request_id": "r1", "payload": PAYLOAD, "key": "k", "sender_fd": 3}
    bench.link.receive(m.DispatchBatch(batch_id="b", jobs=(one,)) if batch else submit("r1"))
    await bench.queue.ask(spec, "r1")
    disk.set()
    bench.engine.gate.set()
    await bench.until(lambda: bench.statuses() in (["done"], ["cancelled"]))
    assert bench.statuses() == ["done"]


async def test_activity_is_sent_at_the_start_and_every_30_s(bench: HubBench) -> None:
    bench.files()
    bench.link.connect()
    task = await bench.queue.ask(w.pair(VIDEO, AUDIO))
    assert [active.task_id for active in bench.link.said(m.TaskActive)] == [task.id]
    assert bench.next_activity() == ACTIVE_EVERY
    assert len(bench.link.said(m.TaskActive)) == 2
    bench.engine.gate.set()
    await bench.until(lambda: bench.statuses() == ["done"])
    assert bench.next_activity() == ACTIVE_EVERY
    assert len(bench.link.said(m.TaskActive)) == 2
    assert bench.next_activity() is None


async def test_a_refused_registration_is_logged_once(bench: HubBench) -> None:
    with logged("ERROR") as lines:
        bench.link.receive(LinkDown("hub: unknown key", "unauthorized"))
        bench.link.receive(LinkDown("hub: unknown key", "unauthorized"))
    assert len(lines) == 1
    assert "--role worker" in lines[0]


async def answered(bench: HubBench, job: m.Submit) -> m.Result:
    before = len(bench.link.said(m.Result))
    bench.link.receive(job)
    await bench.until(lambda: len(bench.link.said(m.Result)) > before)
    result: m.Result = bench.link.said(m.Result)[before]
    assert (result.request_id, result.key, result.sender_fd) == (job.request_id, "client-7", 7)
    return result


async def test_a_deployed_hub_is_answered_at_once_and_not_at_the_end(bench: HubBench) -> None:
    bench.files()
    bench.link.connect_to_a_deployed_hub()
    result = await answered(bench, submit("r1"))
    (task,) = bench.queue.state.tasks.values()
    assert (result.error, result.error_msg, result.task_type) == (False, None, "heygem_submit")
    assert result.result == {
        "task_id": task.id,
        "queue": {"total_tasks": 1, "processing": 1, "queued": 0, "max_concurrent": 1, "running": task.id},
    }
    assert task.status == "running"
    again = await answered(bench, submit("r1"))
    assert again.result == result.result
    bench.engine.gate.set()
    await bench.until(lambda: bench.statuses() == ["done"])
    assert len(bench.link.said(m.Result)) == 2


@pytest.mark.parametrize(
    ("payload", "files", "said"),
    [
        (PAYLOAD, (), f"音频文件不存在: {AUDIO.hash}.wav"),
        (PAYLOAD, (AUDIO,), f"视频文件不存在: {VIDEO.hash}.mp4"),
        ({**PAYLOAD, "audio_hash": "made-up"}, (VIDEO,), "音频文件不存在: made-up.wav"),
        ({"video_hash": VIDEO.hash}, (VIDEO,), "缺少 audio_hash 或 video_hash"),
        ({}, (), "缺少 audio_hash 或 video_hash"),
    ],
)
async def test_a_deployed_hub_gets_the_reason_why_a_job_cannot_start(
    bench: HubBench, payload: dict[str, str], files: tuple[FileRef, ...], said: str
) -> None:
    for ref in files:
        bench.store.path(ref).write_bytes(b"x")
    bench.link.connect_to_a_deployed_hub()
    result = await answered(bench, replace(submit(), payload=payload))
    assert (result.error, result.error_msg) == (True, said)


async def test_a_job_without_endings_means_mp4_and_wav(bench: HubBench) -> None:
    files = FileRef("a" * 32, ".mp4"), FileRef("b" * 32, ".wav")
    for ref in files:
        bench.store.path(ref).write_bytes(b"x")
    bench.link.connect_to_a_deployed_hub()
    job = replace(submit(), payload={"video_hash": files[0].hash, "audio_hash": files[1].hash})
    assert (await answered(bench, job)).error is False


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(
    ("task_type", "payload", "error", "said"),
    [
        ("delete_asset", {"id": "a1", "license_key": "k"}, False, {"id": "a1", "msg": "删除成功"}),
        ("upload_asset", {"file_path": "/etc/passwd"}, True, "不支持 upload_asset: 请用 HTTP 的 upload_file 上传文件"),
        ("tts", {"text": "hello"}, True, "未知任务类型: tts"),
    ],
)
async def test_a_job_that_is_no_render_is_answered_at_once(
    bench: HubBench, old: bool, task_type: str, payload: dict[str, str], error: bool, said: object
) -> None:
    if old:
        bench.link.connect_to_a_deployed_hub()
    else:
        bench.link.connect()
    result = await answered(bench, replace(submit(), task_type=task_type, payload=payload))
    assert (result.error, result.error_msg if error else result.result) == (error, said)
    assert result.task_type == task_type


async def test_activity_is_sent_during_an_upload(bench: HubBench) -> None:
    bench.link.connect()
    with bench.transfers.running():
        with bench.transfers.running():
            assert len(bench.link.said(m.TaskActive)) == 1
            assert bench.next_activity() == ACTIVE_EVERY
        assert bench.next_activity() == ACTIVE_EVERY
        assert len(bench.link.said(m.TaskActive)) == 3
    assert bench.next_activity() == ACTIVE_EVERY
    assert bench.next_activity() is None
    assert len(bench.link.said(m.TaskActive)) == 3


@pytest.mark.parametrize("fails", [False, True])
async def test_a_client_with_a_license_gets_begin_and_end_through_the_hub(bench: HubBench, fails: bool) -> None:
    bench.files()
    bench.engine.fail = fails
    bench.link.connect()
    task_id = w.task_id(w.pair(VIDEO, AUDIO))
    bench.listeners.add(task_id, {"license_key": "old-key", "sender_fd": 9})
    bench.listeners.add(task_id, {"license_key": ""})
    await bench.queue.ask(w.pair(VIDEO, AUDIO))
    bench.engine.gate.set()
    await bench.until(lambda: not bench.queue.state.busy)
    frames = [one.frame for one in bench.link.said(m.Unknown)]
    about = {"type": "gpu.task.progress", "task_id": task_id, "key": "old-key", "sender_fd": 9, "ts": 1000}
    assert all(about.items() <= frame.items() for frame in frames)
    ends = ("error", 0, "no sound") if fails else ("done", 100, "the result is ready")
    assert [(one["status"], one["progress"], one["message"]) for one in frames] == [
        ("processing", 0, "the engine is at work"), ends,
    ]  # fmt: skip
    assert {"total_frames", "current_frame"} <= set(frames[0])
    await bench.queue.ask(w.pair(VIDEO, AUDIO))
    assert len(bench.link.said(m.Unknown)) == 2


def over(bench: HubBench, job: str, license_: str = "lic") -> bool:
    return bench.verifier.ended.has(job, license_, 2**40)


async def test_the_end_of_a_job_overtakes_queued_messages(bench: HubBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.link.connect()
    for number in range(worker_hub._MAX_INBOX + 10):
        bench.link.receive(m.Submit(request_id=f"j{number}", license="lic"))
    bench.link.receive(m.JobDone(request_id="j1", license="lic"))
    bench.link.receive(m.Cancel(request_id="j2", license="lic"))
    await until(bench.hub._inbox.empty)
    assert [over(bench, f"j{number}") for number in (1, 2, 3)] == [True, True, False]
    assert not over(bench, "j1", "another")
    jobs = ({"request_id": "j1", "license": "lic"}, {"request_id": 7}, {})
    bench.link.receive(m.DispatchBatch(ts=1, batch_id="b", jobs=jobs))
    assert not over(bench, "j1")


async def test_an_ended_job_waits_for_no_result_and_takes_no_place(bench: HubBench) -> None:
    bench.link.connect()
    bench.link.receive(replace(submit("mine"), license="one"))
    for number in range(5):
        bench.link.receive(replace(submit(f"j{number}"), license="many"))
        bench.link.receive(m.JobDone(request_id=f"j{number}", license="many"))
    bench.link.receive(m.JobDone(request_id="mine", license="many"))  # a job of that id, and not this one
    await until(lambda: list(bench.hub._watched) == ["mine"] and bench.hub._inbox.empty())


async def test_a_job_of_a_license_without_the_files_keeps_nothing_of_another_s_alive(bench: HubBench) -> None:
    bench.files()
    await bench.queue.show("one", VIDEO, AUDIO)
    task = await bench.queue.ask(w.pair(VIDEO, AUDIO), "mine", "one")
    bench.engine.gate.set()
    await bench.until(lambda: bench.statuses() == ["done"])
    old = 1_000_000_000
    paths = [bench.store.path(VIDEO), bench.store.path(AUDIO), bench.store.result(task.id)]
    for path in paths:
        os.utime(path, (old, old))
    bench.link.connect()
    bench.link.receive(replace(submit("theirs"), license="many"))
    await bench.until(lambda: bench.link.said(m.Result))
    assert [path.stat().st_mtime for path in paths] == [old] * 3
    assert task.id not in bench.queue.state.used
    bench.link.receive(replace(submit("again"), license="one"))
    await bench.until(lambda: len(bench.link.said(m.Result)) == 2)
    assert all(path.stat().st_mtime > old for path in paths)


async def test_the_end_of_a_task_hashes_no_other_job_again(bench: HubBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.link.connect()
    others = {**PAYLOAD, "video_hash": "c" * 32}
    for number in range(50):
        bench.link.receive(m.Submit(request_id=f"j{number}", payload=others))
    bench.files()
    bench.link.receive(submit("mine"))
    await bench.until(lambda: bench.statuses() == ["running"])
    monkeypatch.setattr(w, "task_id", lambda _: pytest.fail("it hashes a job"))
    bench.engine.gate.set()
    await bench.until(lambda: bench.link.said(m.Result))
    assert [each.request_id for each in bench.link.said(m.Result)] == ["mine"]


def states(bench: HubBench) -> list[tuple[str, str]]:
    return [(said.request_id, said.state) for said in bench.link.said(m.JobState)]


async def test_the_hub_hears_what_has_become_of_each_of_its_jobs_now_and_at_each_connection(bench: HubBench) -> None:
    bench.files()
    bench.link.connect("grant", m.JobState.FEATURE)
    for job in ("r1", "r2"):
        bench.link.receive(replace(submit(job), payload={"video_ext": ".mp4", "audio_ext": ".wav"}))
    await bench.until(lambda: len(states(bench)) == 2)
    assert states(bench) == [("r1", "unknown"), ("r2", "unknown")]  # their clients have not come yet
    bench.link.sent.clear()
    await bench.queue.ask(w.pair(VIDEO, AUDIO), "r1")
    await bench.queue.ask(w.pair(VIDEO, AUDIO), "of no hub")
    await bench.until(lambda: bench.statuses() == ["running"])
    assert states(bench) == [("r1", "open")]
    bench.link.disconnect()
    bench.engine.gate.set()
    await bench.until(lambda: bench.statuses() == ["done"])
    bench.link.sent.clear()
    bench.link.connect("grant", m.JobState.FEATURE)
    held = [{"request_id": job, "payload": {}, "key": "k", "sender_fd": 3} for job in ("r1", "r2")]
    bench.link.receive(m.DispatchBatch(batch_id="b", jobs=tuple(held)))
    await bench.until(lambda: len(states(bench)) == 2)
    assert states(bench) == [("r1", "done"), ("r2", "unknown")]


async def test_a_job_whose_task_its_client_dropped_is_cancelled_for_the_hub(bench: HubBench) -> None:
    bench.files()
    bench.link.connect("grant", m.JobState.FEATURE)
    bench.link.receive(submit("r1"))
    await bench.until(lambda: bench.statuses() == ["running"])
    (task,) = bench.queue.state.tasks
    await bench.queue.drop(task, "r1")
    await bench.until(lambda: ("r1", "cancelled") in states(bench))


async def test_files_on_the_way_keep_a_job_open_whose_client_has_no_task_yet(bench: HubBench) -> None:
    bench.link.connect("grant", m.JobState.FEATURE)
    with bench.transfers.running():
        bench.link.receive(replace(submit("r1"), payload={}))
        await bench.until(lambda: states(bench))
    assert states(bench) == [("r1", "open")]
    bench.next_activity()
    assert states(bench)[-1] == ("r1", "unknown")


async def test_a_hub_that_does_not_know_states_of_jobs_hears_none(bench: HubBench) -> None:
    bench.files()
    bench.link.connect("grant")
    bench.link.receive(submit("r1"))
    bench.engine.gate.set()
    await bench.until(lambda: bench.link.said(m.Result))
    assert states(bench) == []
