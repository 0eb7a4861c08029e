"""The stage `before_outcome` alone."""

import asyncio
from pathlib import Path
from typing import NoReturn

import pytest
import reactivex as rx
from reactivex import Observable

from tests.support.streams.stage_scene import Stage
from wakestream.operators.lifecycle.before_outcome import before_outcome
from wakestream.operators.model import events as e
from wakestream.operators.model.errors import WorkerUnreachable
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.sources import never, of, start_with

DONE, NOTE = e.Done(Path("out.mp4"), 1), e.Note("told")


@pytest.mark.parametrize("outcome", [DONE, e.Failed("no"), e.TimedOut("online", 60.0), e.Cancelled()])
async def test_the_last_event_comes_between_the_job_and_its_outcome(outcome: e.Outcome) -> None:
    stage, asked = Stage(), list[e.Outcome]()

    def last(outcome: e.Outcome) -> Observable[e.JobEvent]:
        asked.append(outcome)
        return rx.timer(5.0).map(lambda _: NOTE)

    job: Observable[e.JobEvent] = of(e.Queued(), outcome)
    assert await stage.run(job.pipe(before_outcome(last))) == [e.Queued(), NOTE, outcome]
    assert asked == [outcome]
    assert [round(at) for at, _ in stage.items] == [0, 5, 5]


async def test_an_empty_last_stage_is_allowed(stage: Stage) -> None:
    job: Observable[e.JobEvent] = of(DONE)
    assert await stage.run(job.pipe(before_outcome(lambda _: of()))) == [DONE]
    assert stage.end == "|"


@pytest.mark.parametrize(
    ("error", "said"), [(WorkerUnreachable("nobody there"), "nobody there"), (KeyError("x"), "KeyError: 'x'")]
)
async def test_an_error_is_a_note_and_changes_no_outcome(error: Exception, said: str) -> None:
    def raising(_: e.Outcome) -> NoReturn:
        raise error

    for last in (raising, lambda _: rx.throw(error)):
        stage = Stage()
        job: Observable[e.JobEvent] = of(DONE)
        note, end = await stage.run(job.pipe(before_outcome(last)))
        assert isinstance(note, e.Note)
        assert (note.text.partition(" (test_before_outcome.py:")[0], end) == (said, DONE)
        assert stage.end == "|"


async def test_disposing_the_job_disposes_its_last_stage(loop_scheduler: LoopScheduler) -> None:
    ended: list[str] = []

    async def endless() -> e.JobEvent:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        raise AssertionError

    job: Observable[e.JobEvent] = of(DONE)
    running = job.pipe(before_outcome(lambda _: from_async(endless))).subscribe(scheduler=loop_scheduler)
    await asyncio.sleep(0)  # so that it begins
    running.dispose()
    await loop_scheduler.close()
    assert ended == ["cancelled"]


async def test_the_last_stage_does_not_run_before_the_outcome() -> None:
    heard: list[e.JobEvent] = []
    job: Observable[e.JobEvent] = never().pipe(start_with(e.Queued()))
    running = job.pipe(before_outcome(lambda _: of(NOTE))).subscribe(heard.append, scheduler=LoopScheduler())
    running.dispose()
    assert heard == [e.Queued()]
