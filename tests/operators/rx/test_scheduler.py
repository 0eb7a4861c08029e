"""The one clock: it follows the loop, starts no thread, and knows the effects that still run."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
import reactivex as rx
from reactivex.disposable import Disposable
from reactivex.testing import TestScheduler

from wakestream.operators.rx.core.scheduler import LoopScheduler, clock, seconds_now
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.to_future import to_future


async def test_now_follows_the_loop(loop_scheduler: LoopScheduler) -> None:
    before = loop_scheduler.now
    await asyncio.sleep(90)  # virtual
    assert loop_scheduler.now - before == timedelta(seconds=90)
    assert seconds_now(loop_scheduler) == loop_scheduler.loop.time() == 90.0


def test_seconds_now_reads_any_scheduler(scheduler: TestScheduler) -> None:
    scheduler.advance_to(12.5)
    assert seconds_now(scheduler) == 12.5


async def test_delays_are_seconds_or_timedeltas_and_never_negative() -> None:
    scheduler, fired = LoopScheduler(), list[tuple[str, float]]()

    def note(_: Any, name: Any = None) -> None:
        fired.append((name, scheduler.loop.time()))

    scheduler.schedule_relative(2.5, note, "seconds")
    scheduler.schedule_relative(timedelta(seconds=1), note, "timedelta")
    scheduler.schedule_relative(-5, note, "past")
    scheduler.schedule(note, "soon")
    scheduler.schedule_absolute(scheduler.now + timedelta(seconds=2), note, "absolute")
    await asyncio.sleep(3)  # virtual
    assert sorted(fired[:2]) == [("past", 0.0), ("soon", 0.0)]
    assert fired[2:] == [("timedelta", 1.0), ("absolute", 2.0), ("seconds", 2.5)]


async def test_a_disposed_action_does_not_fire() -> None:
    scheduler, fired = LoopScheduler(), list[Any]()
    pending = (
        scheduler.schedule(lambda *_: fired.append("soon")),
        scheduler.schedule_relative(1, lambda *_: fired.append("later")),
    )
    for timer in pending:
        timer.dispose()
        timer.dispose()
    await asyncio.sleep(5)  # virtual
    assert fired == []


async def test_disposing_after_the_action_disposes_what_it_returned() -> None:
    scheduler, gone = LoopScheduler(), list[str]()
    timer = scheduler.schedule(lambda *_: Disposable(lambda: gone.append("inner")))
    await asyncio.sleep(0)
    assert gone == []
    timer.dispose()
    assert gone == ["inner"]


async def test_an_action_that_disposes_itself_disposes_what_it_returns() -> None:
    scheduler, gone = LoopScheduler(), list[str]()

    def action(*_: Any) -> Disposable:
        timer.dispose()
        return Disposable(lambda: gone.append("inner"))

    timer = scheduler.schedule(action)
    await asyncio.sleep(0)
    assert gone == ["inner"]


async def test_other_return_values_of_an_action_are_ignored(loop_scheduler: LoopScheduler) -> None:
    timer = loop_scheduler.schedule(lambda *_: 5)  # type: ignore[arg-type, return-value]
    await asyncio.sleep(0)
    timer.dispose()


async def test_the_librarys_own_time_operators_run_on_it_without_a_thread(loop_scheduler: LoopScheduler) -> None:
    before = threading.enumerate()
    source = rx.interval(1.0).delay(0.5).take(3).pipe(rx.operators.timeout(60.0), rx.operators.to_list())
    assert await to_future(loop_scheduler)(source) == [0, 1, 2]
    assert loop_scheduler.loop.time() == pytest.approx(3.5, abs=1e-5)
    assert await to_future(loop_scheduler)(rx.timer(1_800).map(lambda _: threading.enumerate())) == before


async def test_close_waits_for_cancelled_effects_and_tasks_that_they_start(loop_scheduler: LoopScheduler) -> None:
    seen: list[str] = []

    async def last_words() -> None:
        await asyncio.sleep(2)  # virtual
        seen.append("last words")

    async def effect() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)  # virtual
            seen.append("cleaned up")
            from_async(last_words).subscribe(scheduler=loop_scheduler)

    running = [from_async(effect).subscribe(scheduler=loop_scheduler) for _ in range(2)]
    await asyncio.sleep(0)
    for subscription in running:
        subscription.dispose()
    await loop_scheduler.close()
    assert seen == ["cleaned up"] * 2 + ["last words"] * 2
    assert loop_scheduler.loop.time() == 3.0


def test_there_is_no_default_clock(scheduler: TestScheduler) -> None:
    with pytest.raises(TypeError, match="no scheduler: give one at the single subscribe"):
        clock(None)
    assert clock(scheduler) is scheduler
