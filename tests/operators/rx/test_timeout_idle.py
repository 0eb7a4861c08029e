"""A limit on silence: each item buys another full wait."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex.subject import Subject
from reactivex.testing import TestScheduler

from tests.support.streams.virtual_time import on_completed, on_error, on_next, subscribe
from wakestream.adapters.testing.virtual_loop import run_virtual
from wakestream.operators.model.errors import Stalled
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.timeout_idle import timeout_idle
from wakestream.operators.rx.to_future import to_future


def test_silence_from_the_start_ends_it_to_the_tick(scheduler: TestScheduler) -> None:
    source = scheduler.create_hot_observable(on_next(900, "late"))
    (message,) = scheduler.start(lambda: source.pipe(timeout_idle(60, "transfer"))).messages
    error = message.value.exception
    assert message.time == 260
    assert isinstance(error, Stalled)
    assert (error.stage, error.seconds) == ("transfer", 60)
    assert source.subscriptions == [subscribe(200, 260)]


def test_each_item_restarts_the_timeout(scheduler: TestScheduler) -> None:
    ticks = (230, 289, 290, 349)
    source = scheduler.create_hot_observable(*(on_next(tick, tick) for tick in ticks))
    *items, last = scheduler.start(lambda: source.pipe(timeout_idle(60, "transfer"))).messages
    assert items == [on_next(tick, tick) for tick in ticks]
    assert last.time == 409


def test_an_end_in_time_is_the_sources_own() -> None:
    scheduler, broken = TestScheduler(), ValueError("broken")
    source = scheduler.create_cold_observable(on_next(59, "x"), on_completed(118))
    assert scheduler.start(lambda: source.pipe(timeout_idle(60, "s"))).messages == [
        on_next(259, "x"),
        on_completed(318),
    ]
    scheduler = TestScheduler()
    failing = scheduler.create_cold_observable(on_error(59, broken))
    assert scheduler.start(lambda: failing.pipe(timeout_idle(60, "s"))).messages == [on_error(259, broken)]


@pytest.mark.parametrize("start", [0.0, 12_345.678, 1_760_000_000.123456])
@given(gap=st.floats(0.001, 100), wait=st.floats(0.001, 100))
def test_fractions_of_seconds_neither_spin_nor_stray(start: float, gap: float, wait: float) -> None:
    async def silent_after_one_item() -> tuple[float, int]:
        scheduler, source, looks = LoopScheduler(), Subject[int](), 0
        loop = asyncio.get_running_loop()
        begun = loop.time()
        plain = scheduler.schedule_relative

        def counted(*args: Any, **named: Any) -> Any:
            nonlocal looks
            looks += 1
            return plain(*args, **named)

        scheduler.schedule_relative = counted  # type: ignore[method-assign]
        ended = to_future(scheduler)(source.pipe(timeout_idle(wait, "s")))
        loop.call_at(begun + gap, source.on_next, 1)
        with pytest.raises(Stalled):
            await ended
        return loop.time() - begun, looks

    took, looks = run_virtual(silent_after_one_item(), start=start)
    heard = start + gap < start + wait  # as the loop adds them: far from 0, a hair's breadth is lost
    assert took == pytest.approx(gap + wait if heard else wait, abs=3e-6)
    assert looks <= 4


async def test_a_lively_source_has_one_timer_only() -> None:
    async def lively() -> AsyncIterator[int]:
        for number in range(1_000):
            await asyncio.sleep(1)  # virtual
            yield number

    scheduler, looks = LoopScheduler(), 0
    plain = scheduler.schedule_relative

    def counted(*args: Any, **named: Any) -> Any:
        nonlocal looks
        looks += 1
        return plain(*args, **named)

    scheduler.schedule_relative = counted  # type: ignore[method-assign]
    assert await to_future(scheduler)(from_async(lively).pipe(timeout_idle(60, "transfer"))) == 999
    assert looks <= 20


async def test_the_stalled_effect_is_cancelled_and_cleans_up(loop_scheduler: LoopScheduler) -> None:
    seen: list[float] = []

    async def stalls() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            seen.append(loop_scheduler.loop.time())

    with pytest.raises(Stalled):
        await to_future(loop_scheduler)(from_async(stalls).pipe(timeout_idle(60, "transfer")))
    await loop_scheduler.close()
    assert seen == [60.0]


def test_disposing_disposes_the_source(scheduler: TestScheduler) -> None:
    source = scheduler.create_hot_observable(on_next(210, 1))
    assert scheduler.start(lambda: source.pipe(timeout_idle(60, "s")), disposed=240).messages == [on_next(210, 1)]
    assert source.subscriptions == [subscribe(200, 240)]


def test_no_scheduler_is_a_clear_type_error() -> None:
    with pytest.raises(TypeError, match="no scheduler"):
        rx.never().pipe(timeout_idle(1, "s")).subscribe()
