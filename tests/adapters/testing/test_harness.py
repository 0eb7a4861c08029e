"""A rehearsal is a whole client in a world of fakes, and what it records is fit for replay."""

import asyncio
from typing import Any

import pytest
from reactivex import Observable

from wakestream.adapters.testing.fakes import FakeWorker, FakeWorkers
from wakestream.adapters.testing.harness import GPU, PipelineHarness, asleep, sample_job
from wakestream.operators import (
    Done,
    Failed,
    Granted,
    Job,
    JobEvent,
    Note,
    Policy,
    Queued,
    TimedOut,
    from_async,
    of,
    outcome,
    then,
)
from wakestream.streams import Build, World, job_pipeline
from wakestream.streams.protocol import messages as m
from wakestream.streams.replay.replay import replay

pytestmark = pytest.mark.virtual


async def test_a_job_finds_the_gpu_on() -> None:
    rehearsal = PipelineHarness()
    outcomes = await rehearsal.run()
    assert outcomes == {"job-1": Done(sample_job().output, 1000)}
    assert any(isinstance(event, Granted) and event.branch == "online" for _, event in rehearsal.events["job-1"])


async def test_jobs_that_wait_are_granted_the_gpu_when_it_wakes() -> None:
    rehearsal = PipelineHarness(asleep)
    rehearsal.at(1700, rehearsal.wake)
    jobs = [sample_job(f"job-{number}") for number in range(20)]
    outcomes = await rehearsal.run(job_pipeline, *jobs)
    assert len(outcomes) == 20
    assert all(isinstance(outcome, Done) for outcome in outcomes.values())
    assert asyncio.get_running_loop().time() >= 1700
    assert all(any(isinstance(event, Queued) for _, event in events) for events in rehearsal.events.values())


async def test_a_hub_that_never_answers_is_a_timeout() -> None:
    outcomes = await PipelineHarness(lambda _: None, policy=Policy(reply=5.0)).run()
    assert outcomes["job-1"] == TimedOut("reply", 5.0, "reply: nothing within 5 s")


async def test_the_hub_may_refuse() -> None:
    def refuse(submit: m.Submit) -> m.Message:
        return m.Error(request_id=submit.request_id, msg="no more today", code="quota")

    assert (await PipelineHarness(refuse).run())["job-1"] == Failed("no more today", "quota")


@pytest.mark.parametrize("features", [(), ("grant", "cancel", "done", "late_hashes")])
async def test_a_harness_recording_replays_without_a_difference(features: tuple[str, ...]) -> None:
    worker = FakeWorker()
    worker.delays = {"health": 1.0, "upload": 7.0, "download": 3.0}
    rehearsal = PipelineHarness(
        asleep, workers=FakeWorkers({GPU: worker}), features=features, policy=Policy(online=300.0)
    )
    rehearsal.at(250, rehearsal.wake)
    await rehearsal.run()
    replayed = await replay(rehearsal.log)
    assert replayed.divergences == ()
    assert {row.label for row in replayed.again.rows} == {row.label for row in rehearsal.log.rows}


def counting(calls: list[str]) -> Build:
    async def count() -> int:
        calls.append("called")
        return len(calls)

    def build(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        asked: Observable[int] = from_async(lambda: world.effects.call("count", {"of": "calls"}, count))
        noted: Observable[JobEvent] = asked.map(lambda seen: Note(f"call {seen}"))
        return noted.pipe(then(lambda _: of(Failed("enough", "enough"))))

    return build


async def test_an_effect_of_ones_own_is_answered_by_the_log_in_replay() -> None:
    calls: list[str] = []
    rehearsal = PipelineHarness()
    await rehearsal.run(counting(calls))
    (row,) = (row for row in rehearsal.log.rows if row.dir == "effect")
    assert (row.label, row.data) == ("own.count", {"args": {"of": "calls"}, "ok": 1})
    replayed = await replay(rehearsal.log, build=counting(calls))
    assert (replayed.divergences, calls) == ((), ["called"])
    assert [row.data["text"] for row in replayed.again.rows if row.label == "note"] == ["call 1"]


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ((1, 2), Note("[1, 2]")),
        (None, Note("None")),
        (
            {1},
            Failed(
                "TypeError: what the effect 'ask' returns must be JSON: Type is not JSON serializable: set", "internal"
            ),
        ),
    ],
)
async def test_a_run_sees_of_an_effect_what_its_replay_will_see(given: object, seen: JobEvent) -> None:
    async def ask() -> object:
        return given

    def build(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        answer: Observable[Any] = from_async(lambda: world.effects.call("ask", {}, ask))
        noted: Observable[JobEvent] = answer.map(lambda value: Note(str(value)))
        return noted.pipe(then(lambda _: of(Failed("enough", "enough"))), outcome())

    rehearsal = PipelineHarness()
    await rehearsal.run(build)
    first = rehearsal.events["job-1"][0][1]
    if isinstance(first, Failed):
        first = Failed(first.why.partition(" (wakestream/streams/jobs/effects.py:")[0], first.code)
    assert first == seen
    assert (await replay(rehearsal.log, build=build)).divergences == ()


async def test_what_a_pipeline_raises_reaches_whoever_rehearses_it() -> None:
    def show(_: JobEvent) -> None:
        raise ValueError("a fault of the pipeline's own")

    def build(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        return job_pipeline(job, world, policy, cancel).do_action(show)

    with pytest.raises(ValueError, match="a fault of the pipeline's own"):
        await PipelineHarness().run(build)
