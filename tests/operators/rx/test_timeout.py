"""A time limit: on the whole, on silence, and on standing still."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex.subject import Subject
from reactivex.testing import TestScheduler

from tests.support.streams.virtual_time import on_completed, on_error, on_next, subscribe
from wakestream.adapters.testing.virtual_loop import run_virtual
from wakestream.operators.model.errors import StageTimeout, Stalled
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.timeout import each_item, timeout
from wakestream.operators.rx.to_future import to_future

silence = partial(timeout, reset=each_item, error=Stalled)


def test_it_ends_a_lively_source_to_the_tick_and_names_the_stage(scheduler: TestScheduler) -> None:
    source = scheduler.create_hot_observable(*(on_next(tick, tick) for tick in range(210, 400, 10)))
    result = scheduler.start(lambda: source.pipe(timeout(45, "online")))
    *items, last = result.messages
    assert items == [on_next(tick, tick) for tick in (210, 220, 230, 240)]
    assert last.time == 245
    assert isinstance(last.value.exception, StageTimeout)
    assert (last.value.exception.stage, last.value.exception.seconds) == ("online", 45)
    assert source.subscriptions == [subscribe(200, 245)]


def test_what_is_excused_does_not_count(scheduler: TestScheduler) -> None:
    paused = lambda: min(max(0.0, scheduler.now.timestamp() - 220), 100.0)  # noqa: E731 - from 220 to 320
    result = scheduler.start(lambda: rx.never().pipe(timeout(45, "online", excused=paused)), disposed=1000)
    assert [(message.time, type(message.value.exception)) for message in result.messages] == [(345, StageTimeout)]


@pytest.mark.parametrize(("limit", "item", "end", "broken"), [(timeout, 10, 44, 44), (silence, 44, 88, 44)])
def test_a_source_that_ends_in_time_keeps_its_own_end(limit: Any, item: int, end: int, broken: int) -> None:
    scheduler, error = TestScheduler(), ValueError("broken")
    source = scheduler.create_cold_observable(on_next(item, "x"), on_completed(end))
    said = [on_next(200 + item, "x"), on_completed(200 + end)]
    assert scheduler.start(lambda: source.pipe(limit(45, "s"))).messages == said
    scheduler = TestScheduler()
    failing = scheduler.create_cold_observable(on_error(broken, error))
    assert scheduler.start(lambda: failing.pipe(limit(45, "s"))).messages == [on_error(200 + broken, error)]


def test_silence_from_the_start_ends_it_to_the_tick(scheduler: TestScheduler) -> None:
    source = scheduler.create_hot_observable(on_next(900, "late"))
    (message,) = scheduler.start(lambda: source.pipe(silence(60, "transfer"))).messages
    error = message.value.exception
    assert message.time == 260
    assert isinstance(error, Stalled)
    assert (error.stage, error.seconds) == ("transfer", 60)
    assert source.subscriptions == [subscribe(200, 260)]


def test_each_item_restarts_the_timeout(scheduler: TestScheduler) -> None:
    ticks = (230, 289, 290, 349)
    source = scheduler.create_hot_observable(*(on_next(tick, tick) for tick in ticks))
    *items, last = scheduler.start(lambda: source.pipe(silence(60, "transfer"))).messages
    assert items == [on_next(tick, tick) for tick in ticks]
    assert last.time == 409


def looks_of(scheduler: LoopScheduler) -> list[Any]:
    """One item for each timer that the scheduler starts from now on."""
    looks, plain = list[Any](), scheduler.schedule_relative
    scheduler.schedule_relative = lambda *args, **named: looks.append(args) or plain(*args, **named)  # type: ignore[method-assign, func-returns-value]
    return looks


@pytest.mark.parametrize("start", [0.0, 12_345.678, 1_760_000_000.123456])
@given(gap=st.floats(0.001, 100), wait=st.floats(0.001, 100))
def test_fractions_of_seconds_neither_spin_nor_stray(start: float, gap: float, wait: float) -> None:
    async def silent_after_one_item() -> tuple[float, int]:
        scheduler, source = LoopScheduler(), Subject[int]()
        looks, loop = looks_of(scheduler), asyncio.get_running_loop()
        begun = loop.time()
        ended = to_future(scheduler)(source.pipe(silence(wait, "s")))
        loop.call_at(begun + gap, source.on_next, 1)
        with pytest.raises(Stalled):
            await ended
        return loop.time() - begun, len(looks)

    took, looks = run_virtual(silent_after_one_item(), start=start)
    heard = start + gap < start + wait  # as the loop adds them: far from 0, a hair's breadth is lost
    assert took == pytest.approx(gap + wait if heard else wait, abs=3e-6)
    assert looks <= 4


async def test_a_lively_source_has_one_timer_only() -> None:
    async def lively() -> AsyncIterator[int]:
        for number in range(1_000):
            await asyncio.sleep(1)  # virtual
            yield number

    scheduler = LoopScheduler()
    looks = looks_of(scheduler)
    assert await to_future(scheduler)(from_async(lively).pipe(silence(60, "transfer"))) == 999
    assert len(looks) <= 20


@pytest.mark.parametrize(("places", "late"), [((), 245), ("aaaa", 255), ("aabb", 275), ("abca", 285)])
def test_it_counts_from_the_last_change(scheduler: TestScheduler, places: str, late: int) -> None:
    said = [on_next(210 + 10 * number, place) for number, place in enumerate(places)]
    source = scheduler.create_hot_observable(*said)
    result = scheduler.start(lambda: source.pipe(timeout(45, "execution", reset=str)))
    *items, last = result.messages
    assert items == said
    assert last.time == late
    assert isinstance(last.value.exception, StageTimeout)
    assert (last.value.exception.stage, last.value.exception.seconds) == ("execution", 45)
    assert source.subscriptions == [subscribe(200, late)]


def test_without_progress_a_source_that_ends_in_time_keeps_its_own_end(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(10, "a"), on_next(20, "a"), on_completed(54))
    result = scheduler.start(lambda: source.pipe(timeout(45, "execution", reset=str)))
    assert result.messages == [on_next(210, "a"), on_next(220, "a"), on_completed(254)]


async def test_no_timer_is_left_behind_by_an_early_end() -> None:
    scheduler, loop = LoopScheduler(), asyncio.get_running_loop()
    assert await to_future(scheduler)(rx.of(1).pipe(timeout(43_200, "total"))) == 1
    waiting = rx.never().pipe(timeout(43_200, "total")).subscribe(scheduler=scheduler)
    waiting.dispose()
    assert await to_future(scheduler)(rx.timer(50_000)) == 0
    assert loop.time() == 50_000


def test_an_error_in_what_does_not_count_arrives_as_an_error(scheduler: TestScheduler) -> None:
    broken = ValueError("cannot count")

    def excused() -> float:
        raise broken

    assert scheduler.start(lambda: rx.never().pipe(timeout(60, "s", excused=excused))).messages == [
        on_error(260, broken)
    ]


@pytest.mark.parametrize("limit", [timeout, partial(timeout, reset=each_item)])
def test_an_error_in_making_the_error_arrives_as_an_error(scheduler: TestScheduler, limit: Any) -> None:
    broken = ValueError("no words")

    def words(_stage: str, _seconds: float) -> Exception:
        raise broken

    assert scheduler.start(lambda: rx.never().pipe(limit(60, "s", error=words))).messages == [on_error(260, broken)]
