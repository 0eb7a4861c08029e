"""Out of the stream again, for code that awaits."""

import asyncio

import pytest
import reactivex as rx
from reactivex.subject import Subject

from tests.support.streams.virtual_time import Lasting
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.to_future import to_future


async def test_the_future_has_the_last_item() -> None:
    assert await to_future(LoopScheduler())(rx.of(1, 2, 3)) == 3


async def test_none_is_an_item_too() -> None:
    assert await to_future(LoopScheduler())(rx.of(None)) is None


async def test_a_source_without_items_gives_a_lookup_error() -> None:
    with pytest.raises(LookupError, match="completed without an item"):
        await to_future(LoopScheduler())(rx.empty())


async def test_an_error_is_raised_where_it_is_awaited() -> None:
    with pytest.raises(ValueError, match="broken"):
        await to_future(LoopScheduler())(rx.concat(rx.of(1), rx.throw(ValueError("broken"))))


async def test_an_operator_that_ran_out_of_something_does_not_hang_the_wait() -> None:
    exhausted = rx.of(1).map(lambda _: next(iter(())))
    with pytest.raises(RuntimeError, match="StopIteration"):
        await to_future(LoopScheduler())(exhausted)


async def test_cancelling_the_future_disposes_and_reaches_the_effects_finally(loop_scheduler: LoopScheduler) -> None:
    lasting = Lasting()
    future = to_future(loop_scheduler)(from_async(lasting.effect))
    await lasting.entered.wait()
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    await loop_scheduler.close()
    assert lasting.left_at == [0.0]


async def test_a_timeout_around_the_await_disposes_too() -> None:
    source: Subject[int] = Subject()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await to_future(LoopScheduler())(source)
    assert not source.observers


async def test_items_after_a_cancelled_future_are_dropped() -> None:
    source: Subject[int] = Subject()
    future = to_future(LoopScheduler())(source)
    future.cancel()
    source.on_next(1)
    source.on_error(ValueError("late"))
    with pytest.raises(asyncio.CancelledError):
        await future
