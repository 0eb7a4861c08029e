"""The waiting line: a sign of life at a steady pace."""

import asyncio
import math
from typing import Any

import pytest
import reactivex as rx
from reactivex.testing import TestScheduler

from tests.support.streams.virtual_time import on_error, on_next
from wakestream.adapters.testing.virtual_loop import VirtualLoop
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.interval import interval
from wakestream.operators.rx.to_future import to_future


def same(elapsed: float) -> float:
    return elapsed


def test_it_emits_the_elapsed_time_at_each_beat(scheduler: TestScheduler) -> None:
    result = scheduler.start(lambda: interval(10, lambda elapsed: f"{elapsed:g}"), disposed=235)
    assert result.messages == [on_next(210, "10"), on_next(220, "20"), on_next(230, "30")]


async def test_it_does_not_drift() -> None:
    scheduler, beats = LoopScheduler(), list[float]()
    line = interval(0.1, lambda _: beats.append(scheduler.loop.time())).take(10_000)
    await to_future(scheduler)(line)
    assert beats[-1] == pytest.approx(1_000.0, abs=1e-9)


async def test_beats_missed_while_the_machine_slept_are_not_made_up_for(loop_scheduler: LoopScheduler) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    heard: list[tuple[float, float]] = []

    def beat(elapsed: float) -> None:
        heard.append((loop.time(), elapsed))
        if elapsed == 20:
            loop.jump(28_803)

    await to_future(loop_scheduler)(interval(10, beat).take(4))
    assert heard == [(10, 10), (20, 20), (28_823, 28_820), (28_830, 28_830)]


def test_a_line_that_cannot_be_made_arrives_as_an_error(scheduler: TestScheduler) -> None:
    broken = ValueError("no line")

    def make(_: float) -> Any:
        raise broken

    assert scheduler.start(lambda: interval(10, make)).messages == [on_error(210, broken)]


@pytest.mark.parametrize("seconds", [0, -1.0, math.nan])
def test_a_period_that_is_no_time_arrives_as_an_error(scheduler: TestScheduler, seconds: float) -> None:
    (message,) = scheduler.start(lambda: interval(seconds, same)).messages
    assert (message.time, message.value.kind, type(message.value.exception)) == (200, "E", ValueError)


async def test_an_observer_that_has_enough_ends_it(loop_scheduler: LoopScheduler) -> None:
    assert await to_future(loop_scheduler)(interval(10, same).take(2)) == 20.0
    assert await to_future(loop_scheduler)(rx.timer(100)) == 0
    assert loop_scheduler.loop.time() == 120.0


def test_no_scheduler_is_a_clear_type_error() -> None:
    with pytest.raises(TypeError, match="no scheduler"):
        interval(1, same).subscribe()


def test_nothing_is_made_before_the_first_beat_nor_after_disposal(scheduler: TestScheduler) -> None:
    made: list[float] = []
    scheduler.start(lambda: interval(10, made.append), disposed=209)
    assert made == []


def test_an_observer_that_raises_does_not_stop_the_clock() -> None:
    scheduler, heard = TestScheduler(), list[float]()

    def observer(elapsed: float) -> None:
        heard.append(elapsed)
        if elapsed == 10:
            raise ValueError("observer")

    listening = interval(10, same).subscribe(observer, scheduler=scheduler)
    with pytest.raises(ValueError, match="observer"):
        scheduler.advance_to(10)
    scheduler.stop()
    scheduler.advance_to(35)
    listening.dispose()
    assert heard == [10, 20, 30]
