"""What lanes side by side do at one moment comes in a replay as it came, or the failure says that it was a tie."""

import asyncio
from functools import partial
from random import Random
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable

from wakestream.adapters.testing.harness import PipelineHarness
from wakestream.adapters.testing.pytest_replay import Replay, ReplayMark, failure
from wakestream.operators import Done, Failed, JobEvent, Note, TaskFailed, all_done, then
from wakestream.streams import Stages, pipeline
from wakestream.streams.jobs.world import Build
from wakestream.streams.recording.recording import Header, Log, Row
from wakestream.streams.replay.divergence import divergences
from wakestream.streams.replay.replay import replay

LANES, STEPS = 3, 4


class Fan:
    """Lanes of effects and pauses, most of which end at one moment; some effects take a few turns of the loop more."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.takes, self.turns = self.drawn(0, 0, 0.5, 0.001), self.drawn(0, 1, 2, 3)
        self.pauses = self.drawn(0, 0.5, 0.001)

    def drawn(self, *choices: float) -> dict[tuple[int, int], float]:
        return {(lane, step): self.random.choice(choices) for lane in range(LANES) for step in range(STEPS)}

    def step(self, stages: Stages, place: tuple[int, int], _: Any) -> Observable[JobEvent]:
        async def do() -> None:
            for _ in range(int(self.turns[place])):
                await asyncio.sleep(0)
            if self.takes[place]:
                await asyncio.sleep(self.takes[place])

        lane, number = place
        effect = stages.effect(f"lane {lane}", {"step": number}, do)
        noted: Observable[JobEvent] = effect.map(lambda _: Note(f"lane {lane}, step {number}"))
        return rx.timer(self.pauses[place]).flat_map(lambda _: noted) if self.pauses[place] else noted

    def lane(self, stages: Stages, number: int) -> Observable[JobEvent]:
        first, *others = (partial(self.step, stages, (number, step)) for step in range(STEPS))
        return first(None).pipe(then(*others))

    def stages(self, stages: Stages) -> Observable[JobEvent]:
        def lanes(done: Done) -> Observable[JobEvent]:
            return all_done(*(self.lane(stages, number) for number in range(LANES)), join=lambda *_: done)

        return stages.standard().pipe(then(lanes))


def fan(seed: int) -> Build:
    return pipeline(Fan(seed).stages)


async def recorded(build: Build) -> Log:
    rehearsal = PipelineHarness()
    assert isinstance((await rehearsal.run(build))["job-1"], Done)
    return rehearsal.log


@pytest.mark.parametrize("seed", range(60))
async def test_lanes_that_end_at_one_moment_replay_in_the_order_of_the_log(seed: int) -> None:
    log = await recorded(fan(seed))
    assert (await replay(log, build=fan(seed))).divergences == ()


def log_of(*events: tuple[float, str]) -> Log:
    accepted = Row(1, 0.1, "in", "job.accept", {}, "job-1")
    notes = [
        Row(n, t, "out", "note", {"event": "note", "text": text}, "job-1") for n, (t, text) in enumerate(events, 2)
    ]
    return Log(Header("daemon", 0.0, 0), (accepted, *notes))


@pytest.mark.parametrize(("at", "apart"), [(1.000001, 1e-6), (1.0009, 9e-4), (1.5, None)])
def test_a_difference_in_the_order_of_what_came_at_one_moment_is_called_a_tie(at: float, apart: float | None) -> None:
    (found,) = divergences(log_of((1.0, "a"), (at, "b")), log_of((1.0, "b"), (at, "a")))
    assert found.apart == (None if apart is None else pytest.approx(apart))


def test_another_event_at_that_moment_is_none() -> None:
    (found,) = divergences(log_of((1.0, "a"), (1.000001, "b")), log_of((1.0, "c"), (1.000001, "b")))
    assert found.apart is None


def resting(seconds: float) -> Log:
    data = {"rests": round(seconds, 3), "starts": 1}
    text = f"the GPU did not start (no quota); the next try is in {seconds:.0f} s"
    row = Row(2, 1.0, "out", "note", {"event": "note", "text": text, "data": data}, "job-1")
    return Log(Header("daemon", 0.0, 0), (Row(1, 0.1, "in", "job.accept", {}, "job-1"), row))


def test_jobs_that_pause_together_may_count_the_rest_of_the_pause_from_different_moments() -> None:
    assert divergences(resting(59.4999), resting(59.5001)) == []
    assert len(divergences(resting(60.0), resting(120.0))) == 1


def test_a_row_that_the_replay_does_not_have_is_none() -> None:
    (found,) = divergences(log_of((1.0, "a"), (1.000001, "b")), log_of((1.0, "b")))
    assert found.apart is None


async def test_equal_calls_that_end_in_another_order_than_they_began_get_their_own_results() -> None:
    def lane(stages: Stages, number: int) -> Observable[JobEvent]:
        async def do() -> int:
            await asyncio.sleep(3 - number)
            return number

        return stages.effect("render", {}, do).map(lambda result: Note(f"lane {number}: {result}"))

    @pipeline
    def lanes(stages: Stages) -> Observable[JobEvent]:
        def fan(done: Done) -> Observable[JobEvent]:
            return all_done(*(lane(stages, number) for number in range(LANES)), join=lambda *_: done)

        return stages.standard().pipe(then(fan))

    log = await recorded(lanes)
    assert (await replay(log, build=lanes)).divergences == ()


def test_the_failure_of_a_test_says_so(request: pytest.FixtureRequest) -> None:
    then_, now = log_of((1.0, "a"), (1.000001, "b")), log_of((1.0, "b"), (1.000001, "a"))
    mark = ReplayMark(request.node, __file__, build=fan(0))
    said = failure(Replay(mark, then_, now, tuple(divergences(then_, now)), {}))
    assert "The log has both, 1 microseconds apart. Concurrent steps may end at the same moment" in said


async def test_a_lane_that_fails_for_good_stops_the_others_and_the_log_of_it_replays() -> None:
    async def fails() -> None:
        await asyncio.sleep(1)
        raise TaskFailed("no face found")

    async def takes_long() -> None:
        await asyncio.sleep(3600)

    def lanes(stages: Stages) -> Observable[JobEvent]:
        long, short = (stages.effect(do.__name__, {}, do).map(lambda _: Note("x")) for do in (takes_long, fails))
        return all_done(long, short)

    build = pipeline(lambda stages: stages.submit().pipe(then(lambda _: lanes(stages))))
    rehearsal = PipelineHarness()
    assert (await rehearsal.run(build))["job-1"] == Failed("no face found", "task_failed")
    assert rehearsal.events["job-1"][-1][0] < 5
    assert (await replay(rehearsal.log, build=build)).divergences == ()
