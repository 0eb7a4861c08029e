"""A limit on the whole, however lively the source is."""

import asyncio
from typing import Any

import pytest
import reactivex as rx
from reactivex.testing import TestScheduler

from tests.support.streams.virtual_time import on_completed, on_error, on_next, subscribe
from wakestream.operators.model.errors import StageTimeout
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.timeout_total import timeout_total
from wakestream.operators.rx.to_future import to_future


def test_it_ends_a_lively_source_to_the_tick_and_names_the_stage(scheduler: TestScheduler) -> None:
    source = scheduler.create_hot_observable(*(on_next(tick, tick) for tick in range(210, 400, 10)))
    result = scheduler.start(lambda: source.pipe(timeout_total(45, "online")))
    *items, last = result.messages
    assert items == [on_next(tick, tick) for tick in (210, 220, 230, 240)]
    assert last.time == 245
    assert isinstance(last.value.exception, StageTimeout)
    assert (last.value.exception.stage, last.value.exception.seconds) == ("online", 45)
    assert source.subscriptions == [subscribe(200, 245)]


def test_what_is_excused_does_not_count(scheduler: TestScheduler) -> None:
    paused = lambda: min(max(0.0, scheduler.now.timestamp() - 220), 100.0)  # noqa: E731 - from 220 to 320
    result = scheduler.start(lambda: rx.never().pipe(timeout_total(45, "online", paused)), disposed=1000)
    assert [(message.time, type(message.value.exception)) for message in result.messages] == [(345, StageTimeout)]


def test_a_source_that_ends_in_time_keeps_its_own_end() -> None:
    scheduler, broken = TestScheduler(), ValueError("broken")
    source = scheduler.create_cold_observable(on_next(10, "x"), on_completed(44))
    assert scheduler.start(lambda: source.pipe(timeout_total(45, "s"))).messages == [
        on_next(210, "x"),
        on_completed(244),
    ]
    scheduler = TestScheduler()
    failing = scheduler.create_cold_observable(on_error(44, broken))
    assert scheduler.start(lambda: failing.pipe(timeout_total(45, "s"))).messages == [on_error(244, broken)]


async def test_no_timer_is_left_behind_by_an_early_end() -> None:
    scheduler, loop = LoopScheduler(), asyncio.get_running_loop()
    assert await to_future(scheduler)(rx.of(1).pipe(timeout_total(43_200, "total"))) == 1
    waiting = rx.never().pipe(timeout_total(43_200, "total")).subscribe(scheduler=scheduler)
    waiting.dispose()
    assert await to_future(scheduler)(rx.timer(50_000)) == 0
    assert loop.time() == 50_000


async def test_the_effect_that_took_too_long_is_cancelled_and_cleans_up(loop_scheduler: LoopScheduler) -> None:
    seen: list[Any] = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(loop_scheduler.loop.time())

    with pytest.raises(StageTimeout, match="execution: nothing within 30 s"):
        await to_future(loop_scheduler)(from_async(endless).pipe(timeout_total(30, "execution")))
    await loop_scheduler.close()
    assert seen == [30.0]


def test_no_scheduler_is_a_clear_type_error() -> None:
    with pytest.raises(TypeError, match="no scheduler"):
        rx.never().pipe(timeout_total(1, "s")).subscribe()
