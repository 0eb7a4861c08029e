"""The newer examples do what they say: in their scenes, from a recorded log, and as programs against hub and worker."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from client_scene import WITHIN, User, clean_environment
from examples_scene import (
    LOGS,
    SCENES,
    VIRTUAL,
    A,
    Acted,
    B,
    act_batch,
    act_cost_meter,
    act_engine,
    act_two_gpus,
    act_webhook,
    half_way,
    receiver,
    with_engine,
)
from fake_engine import FakeEngine
from our_peers import Joining, Place, gpu_online

from examples import batch, cost_meter, engine_worker, two_gpus, webhook
from wakestream.adapters.logs_on_disk import LogFile, read
from wakestream.adapters.memory import MemoryWorker, MemoryWorkers
from wakestream.adapters.rehearsal import Rehearsal, sample_job
from wakestream.adapters.virtual_loop import run_virtual
from wakestream.operators import (
    Accepted,
    BootFailure,
    Done,
    Failed,
    FileRef,
    Note,
    Policy,
    Stirring,
    Submitted,
    TaskLost,
    TaskReport,
    TimedOut,
    Woken,
    WorkerRefused,
    WorkerUnreachable,
)
from wakestream.streams import Log, stage_times
from wakestream.streams.replay import replay

EXAMPLES = Path(__file__).parents[2] / "examples"


def notes(acted: Acted, job: str = "job-1") -> list[str]:
    return [event.text for _, event in acted.rehearsal.events[job] if isinstance(event, Note)]


def recorded(name: str) -> Log:
    return read(LogFile((LOGS / f"{name}.jsonl",)))


# --- every example ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENES)
def test_the_log_of_an_example_replays_through_its_pipeline_without_a_difference(name: str) -> None:
    replayed = run_virtual(replay(recorded(name), build=SCENES[name][1]()))
    assert replayed.divergences == ()
    assert [row for row in replayed.again.rows if row.label == "done"]


@pytest.mark.parametrize("name", SCENES)
def test_the_log_of_an_example_is_none_of_the_standard_pipeline(name: str) -> None:
    replayed = run_virtual(replay(recorded(name)))
    assert (replayed.divergences != ()) == (name != "engine_worker")  # it differs by its worker and its patience


@pytest.mark.parametrize("name", VIRTUAL)
def test_a_scene_of_fakes_is_the_same_each_time(name: str) -> None:
    first, second = (run_virtual(SCENES[name][0]()).log.rows for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", SCENES)
def test_an_example_is_short(name: str) -> None:
    source = (EXAMPLES / f"{name}.py").read_text()
    assert len(source.splitlines()) <= 220
    assert '"""' in source.splitlines()[0]


# --- two GPUs --------------------------------------------------------------------------------------------------------


@pytest.mark.virtual
async def test_of_two_gpus_the_faster_one_wins_and_the_other_is_told_to_stop() -> None:
    acted = await act_two_gpus()
    slow, fast = acted.props["slow"], acted.props["fast"]
    assert isinstance(acted.outcomes["job-1"], Done)
    assert notes(acted) == [f"{A} was told to stop"]
    assert (len(slow.said("cancel")), len(fast.said("cancel"))) == (1, 0)
    assert (len(slow.said("download")), len(fast.said("download"))) == (0, 1)
    submitted = [event.worker.url for _, event in acted.rehearsal.events["job-1"] if isinstance(event, Submitted)]
    assert sorted(submitted) == [A, B]
    assert len(slow.said("report")) <= len(fast.said("report"))


@pytest.mark.virtual
async def test_a_gpu_that_is_off_drops_out_of_the_race() -> None:
    gone, works = MemoryWorker(), MemoryWorker(reports=half_way(*range(0, 100, 5)))
    gone.gone = WorkerUnreachable("nobody there")
    rehearsal = Rehearsal(workers=MemoryWorkers({A: gone, B: works}, A), policy=Policy(lost=5.0))
    outcomes = await rehearsal.run(two_gpus.fastest_of(A, B))
    assert isinstance(outcomes["job-1"], Done)
    assert notes(Acted(rehearsal, outcomes)) == [f"{A} dropped out: nobody there"]
    assert (works.said("cancel"), gone.said("cancel")) == ([], [])


@pytest.mark.virtual
async def test_when_all_gpus_drop_out_the_job_is_submitted_again_and_at_last_fails() -> None:
    lost = MemoryWorker()
    lost.gone = WorkerUnreachable("nobody there")
    policy = Policy(lost=1.0, again=replace(Policy().again, max_retries=1))
    rehearsal = Rehearsal(workers=MemoryWorkers({A: lost, B: lost}, A), policy=policy)
    outcomes = await rehearsal.run(two_gpus.fastest_of(A, B))
    assert outcomes["job-1"] == Failed("none of the GPUs could do it", "gpu_lost")


@pytest.mark.virtual
async def test_a_loser_that_cannot_be_told_to_stop_spoils_nothing() -> None:
    slow, fast = MemoryWorker(reports=half_way(1, 2, 3, 4, 5)), MemoryWorker()
    slow.failures["cancel"] = [WorkerRefused("no")]
    rehearsal = Rehearsal(workers=MemoryWorkers({A: slow, B: fast}, A))
    outcomes = await rehearsal.run(two_gpus.fastest_of(A, B))
    assert isinstance(outcomes["job-1"], Done)
    assert notes(Acted(rehearsal, outcomes)) == [f"{A} could not be told to stop: no"]


# --- batch -----------------------------------------------------------------------------------------------------------


@pytest.mark.virtual
async def test_a_batch_goes_when_it_is_full_or_when_its_time_is_up() -> None:
    acted = await act_batch()
    assert all(isinstance(outcome, Done) for outcome in acted.outcomes.values())
    assert notes(acted, "job-1") == ["held back: 1 of 3 jobs", "the batch of 3 goes: 3 jobs are here"]
    assert notes(acted, "job-3") == ["the batch of 3 goes: 3 jobs are here"]
    assert notes(acted, "job-4") == ["held back: 1 of 3 jobs", "the batch of 1 goes: 600 s have passed"]
    asked = [(round(row.t), row.job) for row in acted.log.rows if row.label == "gpu.job.submit"]
    assert sorted(asked) == [(0, "job-1"), (0, "job-2"), (0, "job-3"), (600, "job-4")]


@pytest.mark.virtual
async def test_nobody_wakes_the_gpu_before_the_batch_goes() -> None:
    rehearsal = Rehearsal()
    await rehearsal.run(batch.Batch(2, 60.0).pipeline, sample_job())
    assert min(row.t for row in rehearsal.log.rows if row.label == "gpu.job.submit") >= 60.0


@pytest.mark.virtual
async def test_a_job_that_is_sent_back_to_submit_is_not_held_twice() -> None:
    worker = MemoryWorker()
    worker.failures["submit"] = [WorkerUnreachable("gone")] * 4
    rehearsal = Rehearsal(workers=MemoryWorkers({"http://gpu:8383": worker}))
    outcomes = await rehearsal.run(batch.Batch(2, 60.0).pipeline, sample_job())
    assert isinstance(outcomes["job-1"], Done)
    assert notes(Acted(rehearsal, outcomes))[-1] == "it went with a batch before"


# --- cost meter ------------------------------------------------------------------------------------------------------


@pytest.mark.virtual
async def test_the_meter_runs_from_the_start_of_the_gpu_and_ends_with_the_job() -> None:
    acted = await act_cost_meter()
    *_, last, done = [event for _, event in acted.rehearsal.events["job-1"]]
    assert isinstance(done, Done)
    assert isinstance(last, Note)
    assert last.data == {"seconds": 140, "cost": 0.14}  # started at 5 s; online at 105 s, then 20 polls
    readings = [event.data["seconds"] for _, event in acted.rehearsal.events["job-1"] if isinstance(event, Note)]
    assert readings == [25, 55, 85, 115, 140]
    assert stage_times(acted.rehearsal.events["job-1"])["wake"] == pytest.approx(105, abs=0.1)


@pytest.mark.virtual
async def test_a_gpu_that_was_on_costs_from_the_grant_and_one_that_stops_costs_no_more() -> None:
    now = [0.0]
    meter = cost_meter.Meter(3600.0, lambda: now[0])
    meter.hear(Accepted())
    now[0] = 10.0
    meter.hear(Woken())
    assert meter.seconds == 10.0
    meter.hear(Stirring("stopping"))
    now[0] = 99.0
    assert meter.reading().data == {"seconds": 10, "cost": 10.0}
    meter.hear(Stirring("starting"))
    now[0] = 100.0
    meter.hear(BootFailure("no power"))
    assert meter.seconds == 11.0


# --- webhook ---------------------------------------------------------------------------------------------------------


async def test_the_webhook_is_told_once_the_receiver_is_up() -> None:
    acted = await act_webhook()
    assert isinstance(acted.outcomes["job-1"], Done)
    assert acted.props["news"] == [{"job": "job-1", "event": "done", "path": "job-1.mp4", "size": 1000}]
    assert notes(acted) == ["the webhook was told"]
    effects = [row.data for row in acted.log.rows if row.label == "own.webhook"]
    assert [effect.get("error", {}).get("why") for effect in effects] == ["HTTP 503", "HTTP 503", None]
    assert "127.0.0.1" not in str(effects)


@pytest.mark.virtual
async def test_a_webhook_that_stays_down_fails_no_job() -> None:
    async def down(_: Mapping[str, Any]) -> None:
        raise webhook.WebhookDown("no answer")

    rehearsal = Rehearsal()
    outcomes = await rehearsal.run(webhook.with_webhook(down))
    assert isinstance(outcomes["job-1"], Done)
    assert notes(Acted(rehearsal, outcomes)) == ["the webhook was not told: no answer"]


@pytest.mark.virtual
async def test_the_webhook_hears_of_failures_as_well_and_an_unforeseen_error_is_on_the_record() -> None:
    told: list[Mapping[str, Any]] = []

    async def tell(news: Mapping[str, Any]) -> None:
        told.append(news)
        raise ZeroDivisionError("by zero")

    rehearsal = Rehearsal(workers=MemoryWorkers({"http://gpu:8383": MemoryWorker(reports=[TaskReport("error")])}))
    outcomes = await rehearsal.run(webhook.with_webhook(tell))
    assert isinstance(outcomes["job-1"], Failed)
    assert told[0]["event"] == "failed"
    again = await replay(rehearsal.log, build=webhook.with_webhook(tell))
    assert len(told) == 1, "a replay tells nobody"
    assert [found.label for found in again.divergences] == ["note"], "the sentence of an error that is not ours"


# --- the engine's own protocol ---------------------------------------------------------------------------------------


async def test_a_job_is_rendered_by_an_engine_that_is_busy_at_first() -> None:
    acted = await act_engine()
    assert isinstance(acted.outcomes["job-1"], Done)
    assert acted.props["result"] == acted.props["clip"]
    first, second = acted.props["engine"].asked
    assert first == second
    assert {name: first[name] for name in ("chaofen", "watermark_switch", "pn")} == {
        "chaofen": 0, "watermark_switch": 0, "pn": 1,
    }  # fmt: skip
    assert not list(acted.props["engine"].folder.glob(".*"))


async def test_the_engines_own_words_tell_why_a_task_failed(tmp_path: Path) -> None:
    acted = await with_engine(tmp_path, fails=True)
    assert acted.outcomes["job-1"] == Failed("no face found", "task_failed")


async def test_the_end_of_a_task_is_kept_as_the_engine_tells_it_but_once(tmp_path: Path) -> None:
    async with FakeEngine(tmp_path, b"", steps=0).runs() as fake:
        engine = engine_worker.Engine(fake.url, tmp_path)
        fake.tasks["code"] = 0
        assert (await engine.report("code")).status == "done"
        assert (await engine.report("code")).status == "done", "although the engine says 10004 by now"
        assert (await engine_worker.Engine(fake.url, tmp_path).report("code")).status == "done", "also after a restart"


async def test_a_task_that_the_engine_forgot_is_lost_unless_its_result_plays(tmp_path: Path) -> None:
    acted = await with_engine(tmp_path)
    engine = acted.props["engine"]
    async with FakeEngine(engine.folder, b"").runs() as fake:
        worker = engine_worker.Engine(fake.url, engine.folder)
        worker.result("torn").write_bytes(acted.props["clip"][:100])
        with pytest.raises(TaskLost, match="does not know the task"):
            await worker.report("torn")
        worker.result("whole").write_bytes(acted.props["clip"])
        assert (await worker.report("whole")).status == "done"


async def test_the_same_pair_again_finds_the_result_that_stands(tmp_path: Path) -> None:
    acted = await with_engine(tmp_path)
    engine = acted.props["engine"]
    video, audio = (FileRef(name[0] * 32, name) for name in (".mp4", ".wav"))
    async with FakeEngine(engine.folder, b"").runs() as fake:
        worker = engine_worker.Engine(fake.url, engine.folder)
        for ref in (video, audio):
            (engine.folder / f"{ref.hash}{ref.ext}").write_bytes(b"x")
        receipt = await worker.submit(sample_job(), video, audio)
        assert not receipt.cached
        assert (await worker.submit(sample_job(), video, audio)).task_id == receipt.task_id
        assert len(fake.asked) == 1, "a task that runs is not submitted again"
        worker.result(receipt.task_id).write_bytes(acted.props["clip"])
        fake.restart()
        assert (await worker.submit(sample_job(), video, audio)).cached


async def test_an_engine_that_does_not_answer_or_is_none_is_told_apart(tmp_path: Path) -> None:
    async with receiver() as (url, _):
        with pytest.raises(WorkerRefused, match="no engine"):
            await engine_worker.Engine(url.removesuffix("/done"), tmp_path).health()
    with pytest.raises(WorkerUnreachable, match="does not answer"):
        await engine_worker.Engine(url.removesuffix("/done"), tmp_path).health()


@pytest.mark.virtual
async def test_an_engine_that_hangs_at_5_percent_is_given_up() -> None:
    stuck = MemoryWorker(reports=[TaskReport("processing", 5.0)])
    policy = Policy(again=replace(Policy().again, max_retries=0))
    rehearsal = Rehearsal(workers=MemoryWorkers({"http://gpu:8383": stuck}), policy=policy)
    outcomes = await rehearsal.run(engine_worker.beside_the_engine)
    assert outcomes["job-1"] == TimedOut("engine", 900.0, "engine: nothing within 900 s")


# --- as programs -----------------------------------------------------------------------------------------------------


async def run(user: User, name: str, *arguments: str) -> tuple[int | None, str]:
    """One of them, as its users start it: its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(EXAMPLES / name), *arguments,
        cwd=user.folder, env={**clean_environment(), **user.environment}, stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode()


async def test_they_run_as_programs_against_hub_and_worker(user: User, place: Place) -> None:
    async with asyncio.timeout(55), place.hub() as hub, place.worker(Joining()) as worker, receiver() as (url, news):
        await gpu_online(hub)
        user.environment |= place.client_settings() | {"WEBHOOK_URL": url, "BATCH_SIZE": "2", "PER_HOUR": "1"}
        user.environment["WAKESTREAM_POLL_EVERY"] = "0.05"
        (user.folder / "other.mp4").write_bytes(b"other")
        told = await run(user, "webhook.py", "clip.mp4", "speech.wav", "one.mp4")
        metered = await run(user, "cost_meter.py", "clip.mp4", "speech.wav", "two.mp4")
        together = await run(user, "batch.py", "speech.wav", "clip.mp4", "other.mp4")
        raced = await run(user, "two_gpus.py", "clip.mp4", "speech.wav", "three.mp4", worker.address)
    assert [code for code, _ in (told, metered, together, raced)] == [0, 0, 0, 0], (told, metered, together, raced)
    assert [each["event"] for each in news] == ["done"]
    assert "two.mp4: the GPU has been on for" in metered[1]
    assert "the batch of 2 goes: 2 jobs are here" in together[1]
    results = {"one.mp4", "two.mp4", "three.mp4", "clip.synced.mp4", "other.synced.mp4"}
    assert results <= {path.name for path in user.folder.iterdir()}


async def test_without_settings_they_say_what_is_needed(user: User) -> None:
    user.environment |= {"PER_HOUR": "1"}
    code, said = await run(user, "cost_meter.py", "clip.mp4", "speech.wav", "out.mp4")
    assert code == 2
    assert said.startswith("wakestream: ")
    assert "hub" in said
