"""The stage `stop_others` alone."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from reactivex import Observable

from tests.support.streams.stage_scene import JOB, SUBMITTED, Stage
from wakestream.adapters.testing.fakes import FakeWorker, FakeWorkers
from wakestream.operators.contrib.stop_others import stop_others
from wakestream.operators.lifecycle.cancellable import CANCEL_WITHIN
from wakestream.operators.model import events as e
from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.rx.sources import of

URLS = ("http://a:1", "http://b:2", "http://c:3")
TASKS = [replace(SUBMITTED, worker=e.Online(url), task_id=f"task-{url[7]}") for url in URLS]


class Race(Stage):
    """A stage with a worker for each of the URLs."""

    def __init__(self) -> None:
        super().__init__()
        self.gpus = [FakeWorker() for _ in URLS]
        self.workers = FakeWorkers(dict(zip(URLS, self.gpus, strict=True)))

    async def ends(self, *events: e.JobEvent) -> list[e.JobEvent]:
        """What comes of a race that said these."""
        race: Observable[e.JobEvent] = of(*events)
        return await self.run(race.pipe(stop_others(JOB, self.workers)))


@pytest.mark.parametrize("submitted", [TASKS, TASKS[::-1]])
async def test_all_but_the_winner_are_stopped(submitted: Sequence[e.Submitted]) -> None:
    race, won = Race(), e.Rendered(TASKS[1])
    events = await race.ends(*submitted, won)
    assert events[:4] == [*submitted, won]
    losers = [task.worker.url for task in submitted if task is not won.task]
    assert events[4:] == [*(e.Note(f"{url} was told to stop") for url in losers), won]
    assert [gpu.said("cancel") for gpu in race.gpus] == [["task-a"], [], ["task-c"]]


async def test_of_two_submits_the_later_task_is_stopped() -> None:
    race, won = Race(), e.Rendered(TASKS[1])
    await race.ends(replace(TASKS[0], task_id="before"), TASKS[0], TASKS[1], won)
    assert race.gpus[0].said("cancel") == ["task-a"]


async def test_a_failed_stop_of_a_loser_does_not_fail_the_job() -> None:
    race, won = Race(), e.Rendered(TASKS[1])
    race.gpus[0].failures["cancel"] = [WorkerRefused("no")]
    events = await race.ends(TASKS[0], TASKS[1], won)
    assert events[-2:] == [e.Note(f"{URLS[0]} did not confirm the cancel: no"), won]


async def test_a_loser_that_does_not_answer_is_not_waited_for() -> None:
    race, won = Race(), e.Rendered(TASKS[1])
    race.gpus[0].delays["cancel"] = 3600.0
    assert (await race.ends(TASKS[0], TASKS[1], won))[-1] == won
    assert asyncio.get_running_loop().time() == pytest.approx(CANCEL_WITHIN)


async def test_a_race_of_one_is_over_at_once() -> None:
    race, won = Race(), e.Rendered(TASKS[1])
    assert await race.ends(TASKS[1], won) == [TASKS[1], won, won]
