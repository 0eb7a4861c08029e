"""The one way in for effects: run at each subscription, cancelled at disposal, always cleaned up."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from reactivex.testing import TestScheduler

from tests.support.streams.virtual_time import collect
from wakestream.operators.model.errors import WakestreamError, is_retryable
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.to_future import to_future


async def test_a_coroutine_gives_one_item(loop_scheduler: LoopScheduler) -> None:
    async def effect() -> str:
        return "item"

    heard = collect(from_async(effect), loop_scheduler)
    assert heard == []  # a task, not a call
    await loop_scheduler.close()
    assert heard == ["item", "|"]


async def test_an_async_generator_gives_all_its_items_as_they_come(loop_scheduler: LoopScheduler) -> None:
    async def effect() -> AsyncIterator[float]:
        for _ in range(3):
            yield loop_scheduler.loop.time()
            await asyncio.sleep(10)  # virtual

    heard = collect(from_async(effect), loop_scheduler)
    await loop_scheduler.close()
    assert heard == [0.0, 10.0, 20.0, "|"]


async def test_the_effect_runs_again_at_each_subscription(loop_scheduler: LoopScheduler) -> None:
    runs: list[int] = []

    async def effect() -> int:
        runs.append(1)
        return len(runs)

    source = from_async(effect)
    assert [await to_future(loop_scheduler)(source) for _ in range(3)] == [1, 2, 3]


async def test_what_an_effect_raises_is_the_observables_error(loop_scheduler: LoopScheduler) -> None:
    broken = ValueError("broken")

    async def effect() -> None:
        raise broken

    async def items() -> AsyncIterator[int]:
        yield 1
        raise broken

    def not_even_begun() -> Any:
        raise broken

    heard = [collect(from_async(each), loop_scheduler) for each in (effect, items, not_even_begun)]
    await loop_scheduler.close()
    assert heard == [[broken], [1, broken], [broken]]


async def test_disposing_cancels_and_reaches_the_finally_of_a_coroutine() -> None:
    entered, seen = asyncio.Event(), list[str]()

    async def effect() -> None:
        try:
            entered.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            seen.append("finally")

    scheduler, heard = LoopScheduler(), list[Any]()
    running = from_async(effect).subscribe(heard.append, heard.append, lambda: heard.append("|"), scheduler=scheduler)
    await entered.wait()
    running.dispose()
    await scheduler.close()
    assert (seen, heard) == (["cancelled", "finally"], [])


async def test_disposing_before_the_task_began_never_calls_the_effect(loop_scheduler: LoopScheduler) -> None:
    calls: list[int] = []

    async def effect() -> None:
        calls.append(1)

    from_async(effect).subscribe(scheduler=loop_scheduler).dispose()
    await loop_scheduler.close()
    assert calls == []


async def test_an_observer_that_has_enough_stops_a_generator_that_never_waits(loop_scheduler: LoopScheduler) -> None:
    seen: list[Any] = []

    async def effect() -> AsyncIterator[int]:
        try:
            for number in range(1_000_000):
                seen.append(number)
                yield number
        finally:
            seen.append("finally")

    heard = collect(from_async(effect).take(2), loop_scheduler)
    await loop_scheduler.close()
    assert heard == [0, 1, "|"]
    assert seen == [0, 1, "finally"]


async def test_an_effect_that_cancels_itself_is_an_error_and_not_silence(loop_scheduler: LoopScheduler) -> None:
    async def effect() -> None:
        raise asyncio.CancelledError

    async def items() -> AsyncIterator[int]:
        yield 1
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner

    heard = [collect(from_async(each, "upload"), loop_scheduler) for each in (effect, items)]
    await loop_scheduler.close()
    (error,), (first, same) = heard
    assert (first, type(error), error.code, is_retryable(error)) == (1, WakestreamError, "internal", False)
    assert {type(error), type(same)} == {WakestreamError}
    for each in (error, same):
        assert re.fullmatch(r"upload cancelled itself \(CancelledError\): .* \(test_from_async.py:\d+\)", str(each))


async def test_cancellation_from_outside_is_neither_caught_nor_emitted(loop_scheduler: LoopScheduler) -> None:
    async def effect() -> None:
        await asyncio.Event().wait()

    heard = collect(from_async(effect, "cancelled from outside"), loop_scheduler)
    (task,) = (task for task in asyncio.all_tasks() if task.get_name() == "cancelled from outside")
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert heard == []


async def test_an_observer_that_raises_closes_the_generator(loop_scheduler: LoopScheduler) -> None:
    seen, heard, fault = list[str](), list[Any](), ValueError("observer")

    async def effect() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            seen.append("finally")

    def observer(_: int) -> None:
        raise fault

    from_async(effect).subscribe(observer, heard.append, scheduler=loop_scheduler)
    await loop_scheduler.close()
    assert (heard, seen) == ([fault], ["finally"])


@pytest.mark.parametrize("scheduler", [None, TestScheduler()])
def test_anything_but_a_loop_scheduler_is_a_clear_type_error(scheduler: Any) -> None:
    async def effect() -> None:
        """Never run."""

    with pytest.raises(TypeError, match="effects run on a LoopScheduler: give one at the single subscribe"):
        from_async(effect).subscribe(scheduler=scheduler)
