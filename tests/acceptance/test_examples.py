"""The examples do what they say: in their scenes, from a recorded log, and as programs against hub and worker."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from examples import batch, engine_worker, two_gpus, webhook
from tests.support.engines.heygem_server import FakeEngine
from tests.support.programs.client_scene import WITHIN, User, clean_environment
from tests.support.programs.examples_scene import (
    LOGS,
    SCENES,
    VIRTUAL,
    A,
    Acted,
    B,
    act_batch,
    act_check_the_flow,
    act_cost_meter,
    act_custom_pipeline,
    act_engine,
    act_two_gpus,
    act_webhook,
    half_way,
    receiver,
    with_engine,
)
from tests.support.programs.our_peers import Joining, Place, gpu_online, held, until
from wakestream.adapters.net.webhooks import WebhookDown
from wakestream.adapters.telemetry.recordings import LogFile, read
from wakestream.adapters.testing.fakes import FakeWorker, FakeWorkers
from wakestream.adapters.testing.harness import PipelineHarness, sample_job
from wakestream.adapters.testing.virtual_loop import run_virtual
from wakestream.operators import (
    Done,
    Failed,
    Granted,
    Note,
    Policy,
    Submitted,
    TaskReport,
    TimedOut,
    WorkerRefused,
    WorkerUnreachable,
)
from wakestream.streams import Log, stage_times
from wakestream.streams.replay.replay import replay

EXAMPLES = Path(__file__).parents[2] / "examples"
PAIR = ("clip.mp4", "speech.wav")


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
def test_the_standard_pipeline_refuses_the_log_of_an_example(name: str) -> None:
    replayed = run_virtual(replay(recorded(name)))
    assert (replayed.divergences != ()) == (name != "engine_worker")  # it differs by its worker and its patience


@pytest.mark.parametrize("name", VIRTUAL)
def test_a_scene_of_fakes_is_the_same_each_time(name: str) -> None:
    first, second = (run_virtual(SCENES[name][0]()).log.rows for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", SCENES)
def test_an_example_is_short(name: str) -> None:
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    assert 10 <= len([line for line in lines if line.strip()]) <= 40
    assert lines[0].startswith('"""')
    assert any(f"python examples/{name}.py" in line for line in lines[:5])


def test_every_example_has_a_scene() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SCENES)


# --- check the flow, custom pipeline ---------------------------------------------------------------------------------


@pytest.mark.virtual
async def test_the_check_of_the_flow_ends_with_the_gpu_and_uploads_nothing() -> None:
    acted = await act_check_the_flow()
    assert isinstance(acted.outcomes["job-1"], Done)
    assert [event.branch for _, event in acted.rehearsal.events["job-1"] if isinstance(event, Granted)] == ["offline"]
    assert {row.label for row in acted.log.rows if row.dir == "effect"} == {"resolve", "health", "fingerprint"}


@pytest.mark.virtual
async def test_the_custom_pipeline_polls_faster_and_its_note_is_on_the_record() -> None:
    acted = await act_custom_pipeline()
    note = {"video": "clip.mp4", "audio": "speech.wav", "bytes": 1000}
    assert json.loads(acted.props["note"]) == note
    assert [row.data["args"] for row in acted.log.rows if row.label == "own.note"] == [note]
    first, second, *_ = (row.t for row in acted.log.rows if row.label == "report")
    assert second - first == pytest.approx(0.2, abs=0.01)


# --- two GPUs --------------------------------------------------------------------------------------------------------


@pytest.mark.virtual
async def test_the_faster_of_two_gpus_wins_and_the_other_is_stopped() -> None:
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
    gone, works = FakeWorker(), FakeWorker(reports=half_way(*range(0, 100, 5)))
    gone.gone = WorkerUnreachable("nobody there")
    rehearsal = PipelineHarness(workers=FakeWorkers({A: gone, B: works}, A), policy=Policy(lost=5.0))
    outcomes = await rehearsal.run(two_gpus.fastest_of(A, B))
    assert isinstance(outcomes["job-1"], Done)
    assert notes(Acted(rehearsal, outcomes)) == [f"{A} dropped out: nobody there"]
    assert (works.said("cancel"), gone.said("cancel")) == ([], [])


@pytest.mark.virtual
async def test_when_all_gpus_fail_the_job_is_submitted_again_until_it_fails() -> None:
    lost = FakeWorker()
    lost.gone = WorkerUnreachable("nobody there")
    policy = Policy(lost=1.0, again=replace(Policy().again, max_retries=1))
    rehearsal = PipelineHarness(workers=FakeWorkers({A: lost, B: lost}, A), policy=policy)
    outcomes = await rehearsal.run(two_gpus.fastest_of(A, B))
    assert outcomes["job-1"] == Failed("nobody there", "worker_unreachable")


@pytest.mark.virtual
async def test_a_losing_gpu_that_cannot_be_stopped_does_not_fail_the_job() -> None:
    slow, fast = FakeWorker(reports=half_way(1, 2, 3, 4, 5)), FakeWorker()
    slow.failures["cancel"] = [WorkerRefused("no")]
    rehearsal = PipelineHarness(workers=FakeWorkers({A: slow, B: fast}, A))
    outcomes = await rehearsal.run(two_gpus.fastest_of(A, B))
    assert isinstance(outcomes["job-1"], Done)
    assert notes(Acted(rehearsal, outcomes)) == [f"{A} did not confirm the cancel: no"]


# --- batch -----------------------------------------------------------------------------------------------------------


@pytest.mark.virtual
async def test_a_batch_goes_when_it_is_full_or_when_its_time_is_up() -> None:
    acted = await act_batch()
    assert all(isinstance(outcome, Done) for outcome in acted.outcomes.values())
    assert notes(acted, "job-1") == ["held: 1 of 3 jobs", "full: 3 of 3 jobs"]
    assert notes(acted, "job-3") == ["full: 3 of 3 jobs"]
    assert notes(acted, "job-4") == ["held: 1 of 3 jobs", "due: 1 of 3 jobs"]
    asked = [(round(row.t), row.job) for row in acted.log.rows if row.label == "gpu.job.submit"]
    assert sorted(asked) == [(0, "job-1"), (0, "job-2"), (0, "job-3"), (600, "job-4")]


@pytest.mark.virtual
async def test_no_job_starts_the_gpu_before_the_batch_is_complete() -> None:
    rehearsal = PipelineHarness()
    await rehearsal.run(batch.batched(2, 60.0), sample_job())
    assert min(row.t for row in rehearsal.log.rows if row.label == "gpu.job.submit") >= 60.0


@pytest.mark.virtual
async def test_a_job_that_is_sent_back_to_submit_is_not_held_twice() -> None:
    worker = FakeWorker()
    worker.failures["submit"] = [WorkerUnreachable("gone")] * 4
    rehearsal = PipelineHarness(workers=FakeWorkers({"http://gpu:8383": worker}))
    outcomes = await rehearsal.run(batch.batched(2, 60.0), sample_job())
    assert isinstance(outcomes["job-1"], Done)
    assert notes(Acted(rehearsal, outcomes)) == ["held: 1 of 2 jobs", "due: 1 of 2 jobs", "passed: 2 of 2 jobs"]


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


# --- webhook ---------------------------------------------------------------------------------------------------------


async def test_the_webhook_is_sent_once_the_receiver_is_up() -> None:
    acted = await act_webhook()
    assert isinstance(acted.outcomes["job-1"], Done)
    assert acted.props["news"] == [{"job": "job-1", "event": "done", "path": "job-1.mp4", "size": 1000}]
    assert notes(acted) == ["the webhook was told"]
    effects = [row.data for row in acted.log.rows if row.label == "own.webhook"]
    why = "the webhook was not accepted: its receiver answered HTTP 503"
    assert [effect.get("error", {}).get("why") for effect in effects] == [why, why, None]
    assert "127.0.0.1" not in str(effects)


@pytest.mark.virtual
async def test_a_webhook_that_stays_down_fails_no_job() -> None:
    async def down(_: Mapping[str, Any]) -> None:
        raise WebhookDown("the webhook was not sent: no answer")

    rehearsal = PipelineHarness()
    outcomes = await rehearsal.run(webhook.with_webhook(down))
    assert isinstance(outcomes["job-1"], Done)
    assert notes(Acted(rehearsal, outcomes)) == ["the webhook was not sent: no answer"]


@pytest.mark.virtual
async def test_the_webhook_reports_failures_and_unexpected_errors_are_recorded() -> None:
    told: list[Mapping[str, Any]] = []

    async def tell(news: Mapping[str, Any]) -> None:
        told.append(news)
        raise ZeroDivisionError("by zero")

    rehearsal = PipelineHarness(workers=FakeWorkers({"http://gpu:8383": FakeWorker(reports=[TaskReport("error")])}))
    outcomes = await rehearsal.run(webhook.with_webhook(tell))
    assert isinstance(outcomes["job-1"], Failed)
    assert told[0]["event"] == "failed"
    again = await replay(rehearsal.log, build=webhook.with_webhook(tell))
    assert len(told) == 1, "a replay tells nobody"
    assert again.divergences == ()
    assert notes(Acted(rehearsal, outcomes)) == [
        f"ZeroDivisionError: by zero (test_examples.py:{tell.__code__.co_firstlineno + 2})"
    ]


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


async def test_a_failed_task_has_the_engines_message(tmp_path: Path) -> None:
    acted = await with_engine(tmp_path, fails=True)
    assert acted.outcomes["job-1"] == Failed("no face found", "task_failed")


@pytest.mark.virtual
async def test_an_engine_that_hangs_at_5_percent_is_given_up() -> None:
    stuck = FakeWorker(reports=[TaskReport("processing", 5.0)])
    policy = Policy(again=replace(Policy().again, max_retries=0))
    rehearsal = PipelineHarness(workers=FakeWorkers({"http://gpu:8383": stuck}), policy=policy)
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
    async with place.hub() as hub, place.worker(Joining()) as worker, receiver() as (url, news):
        await gpu_online(hub)
        user.environment |= place.client_settings() | {"WEBHOOK_URL": url, "BATCH_SIZE": "2", "PER_HOUR": "1"}
        user.environment["WAKESTREAM_POLL_EVERY"] = "0.05"
        (user.folder / "other.mp4").write_bytes(b"other")
        told = await run(user, "webhook.py", *PAIR, "one.mp4")
        metered = await run(user, "cost_meter.py", *PAIR, "two.mp4")
        noted = await run(user, "custom_pipeline.py", *PAIR, "out.mp4")
        together = await run(user, "batch.py", "speech.wav", "clip.mp4", "other.mp4")
        user.environment["GPU_URLS"] = worker.address
        raced = await run(user, "two_gpus.py", *PAIR, "three.mp4")
    ran = (told, metered, noted, together, raced)
    assert [code for code, _ in ran] == [0] * 5, ran
    assert (user.folder / "out.mp4").read_bytes() == b"video" * 1000 + b"audio" * 500
    assert json.loads((user.folder / "out.json").read_text()) == {
        "video": "clip.mp4", "audio": "speech.wav", "bytes": 7500,
    }  # fmt: skip
    assert [each["event"] for each in news] == ["done"]
    assert "two.mp4: the GPU has been on for" in metered[1]
    assert "full: 2 of 2 jobs" in together[1]
    results = {"one.mp4", "two.mp4", "three.mp4", "clip.synced.mp4", "other.synced.mp4"}
    assert results <= {path.name for path in user.folder.iterdir()}


async def test_the_one_for_the_engine_runs_as_a_program(user: User, place: Place) -> None:
    (user.folder / "shared").mkdir()
    async with (
        place.hub() as hub,
        place.worker(Joining()),
        FakeEngine(user.folder / "shared", b"rendered").runs() as engine,
    ):
        await gpu_online(hub)
        user.environment |= place.client_settings() | {"ENGINE_URL": engine.url, "ENGINE_FOLDER": "shared"}
        user.environment["WAKESTREAM_POLL_EVERY"] = "0.05"
        code, said = await run(user, "engine_worker.py", *PAIR, "out.mp4")
    assert code == 0, said
    assert (user.folder / "out.mp4").read_bytes() == b"rendered"


@pytest.mark.parametrize("asleep", [False, True])
async def test_check_the_flow_prints_the_branch(user: User, place: Place, asleep: bool) -> None:
    async with place.hub() as hub:
        if asleep:
            running = asyncio.create_task(run(user, "check_the_flow.py", *PAIR))
            await until(lambda: held(hub) != [])
            async with place.worker(Joining()):
                code, said = await running
        else:
            async with place.worker(Joining()):
                await gpu_online(hub)
                code, said = await run(user, "check_the_flow.py", *PAIR)
        await until(lambda: held(hub) == [])
    assert code == 0, said
    assert f"branch: {'offline' if asleep else 'online'}" in said
    assert said.endswith("the flow works\n")
    assert user.left() == set()


async def test_check_the_flow_prints_what_is_broken(user: User, place: Place) -> None:
    async with place.hub():
        user.environment |= place.client_settings() | {"WAKESTREAM_KEY": "not-a-key-of-this-hub"}
        code, said = await run(user, "check_the_flow.py", *PAIR)
    assert code == 2
    assert "licen" in said
    assert said.endswith("the flow is broken: see above\n")


@pytest.mark.parametrize("name", ["check_the_flow", "custom_pipeline", "cost_meter"])
async def test_without_arguments_or_settings_the_examples_name_what_is_missing(user: User, name: str) -> None:
    for arguments, words in (((), "required: VIDEO, AUDIO"), ((*PAIR, "out.mp4"), "wakestream: no hub is set")):
        code, said = await run(user, f"{name}.py", *arguments)
        assert (code, words in said) == (2, True), said


@pytest.mark.parametrize(
    ("name", "setting"), [("webhook", "WEBHOOK_URL"), ("two_gpus", "GPU_URLS"), ("engine_worker", "ENGINE_URL")]
)
async def test_a_setting_of_its_own_that_is_missing_is_named(user: User, name: str, setting: str) -> None:
    assert await run(user, f"{name}.py", *PAIR, "out.mp4") == (
        2, f"wakestream: {setting} is not set; set it in the environment or in .env\n",
    )  # fmt: skip
