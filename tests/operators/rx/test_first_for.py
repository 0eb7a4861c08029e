"""Waiting by key: one registration, one timer, and nothing left behind."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx
from reactivex.testing import ReactiveTest, TestScheduler

from wakestream.operators.model.errors import StageTimeout
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.first_by_key import by_key, first_by_key
from wakestream.operators.rx.to_future import to_future
from wakestream.streams.jobs.keyed_subject import KeyedSubject

Fault = Callable[[Exception, Any], None]


def board() -> KeyedSubject[Any]:
    def unexpected(error: Exception, item: Any) -> None:
        raise AssertionError(f"an observer failed on {item!r}") from error

    return KeyedSubject(unexpected)


def test_the_first_item_for_the_key_arrives_and_ends_it() -> None:
    hub, heard = board(), list[Any]()
    first_by_key(hub, "a").subscribe(heard.append, heard.append, lambda: heard.append("|"))
    for item, key in (("other", "b"), ("mine", "a"), ("later", "a")):
        hub.feed(item, key)
    assert heard == ["mine", "|"]
    assert hub.keys == ()


def test_what_is_for_all_counts_too() -> None:
    hub, heard = board(), list[Any]()
    first_by_key(hub, "a").subscribe(heard.append)
    hub.feed("broadcast")
    assert heard == ["broadcast"]


def test_the_timeout_is_exact_named_and_leaves_no_registration() -> None:
    hub, scheduler = board(), TestScheduler()
    result = scheduler.start(lambda: first_by_key(hub, "a", within=30, stage="reply"))
    (message,) = result.messages
    error = message.value.exception
    assert message.time == 230
    assert isinstance(error, StageTimeout)
    assert (error.stage, error.seconds) == ("reply", 30)
    assert hub.keys == ()


@pytest.mark.parametrize(("tick", "in_time"), [(229, True), (231, False)])
def test_an_item_one_tick_before_the_limit_is_in_time(tick: int, in_time: bool) -> None:
    hub, scheduler = board(), TestScheduler()
    scheduler.schedule_absolute(float(tick), lambda *_: hub.feed("item", "a"))
    result = scheduler.start(lambda: first_by_key(hub, "a", within=30))
    if in_time:
        assert result.messages == [ReactiveTest.on_next(tick, "item"), ReactiveTest.on_completed(tick)]
    else:
        assert [message.time for message in result.messages] == [230]


def test_an_answer_stops_the_timer() -> None:
    hub, scheduler = board(), TestScheduler()
    first_by_key(hub, "a", within=30).subscribe(lambda _: None, scheduler=scheduler)
    hub.feed("item", "a")
    scheduler.start()
    assert scheduler.clock == 1000  # nothing but the test scheduler's own end


async def test_disposing_takes_registration_and_timer_away() -> None:
    hub, scheduler, heard = board(), LoopScheduler(), list[Any]()
    waiting = first_by_key(hub, "a", within=30).subscribe(heard.append, heard.append, scheduler=scheduler)
    assert hub.keys == ("a",)
    waiting.dispose()
    assert hub.keys == ()
    hub.feed("item", "a")
    assert await to_future(scheduler)(first_by_key(hub, "b", within=100).catch(lambda error, _: rx.of(error)))
    assert heard == []


def test_a_wait_with_a_limit_and_no_scheduler_is_a_clear_type_error_and_registers_nobody() -> None:
    hub = board()
    with pytest.raises(TypeError, match="no scheduler: give one at the single subscribe"):
        first_by_key(hub, "a", within=30).subscribe(lambda _: None)
    assert hub.keys == ()


def test_an_item_fed_by_the_waiter_reaches_the_next_wait() -> None:
    hub, heard = board(), list[Any]()

    def again(item: Any) -> None:
        heard.append(item)
        first_by_key(hub, "a").subscribe(heard.append)
        hub.feed("second", "a")
        assert heard == ["first"]  # it waits its turn

    first_by_key(hub, "a").subscribe(again)
    hub.feed("first", "a")
    assert heard == ["first", "second"]


def test_two_waiters_of_one_key_are_both_answered() -> None:
    hub, one, two = board(), list[Any](), list[Any]()
    first_by_key(hub, "a").subscribe(one.append)
    first_by_key(hub, "a").subscribe(two.append)
    hub.feed("item", "a")
    assert one == two == ["item"]


def test_each_for_hears_everything_for_its_key_until_disposed() -> None:
    hub, heard = board(), list[Any]()
    listening = by_key(hub, "a").subscribe(heard.append)
    for item, key in ((1, "a"), (2, "b"), (3, None), (4, "a")):
        hub.feed(item, key)
    listening.dispose()
    hub.feed(5, "a")
    assert heard == [1, 3, 4]
    assert hub.keys == ()


async def test_a_waiting_job_is_slim() -> None:
    hub, scheduler, count = board(), LoopScheduler(), 2_000
    tracemalloc.start()
    try:
        waiting = [
            first_by_key(hub, key, within=1800).subscribe(lambda _: None, lambda _: None, scheduler=scheduler)
            for key in range(count)
        ]
        each = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    for subscription in waiting:
        subscription.dispose()
    assert each <= 3_000  # bytes; the budget that the benchmarks hold it to is 2 kB
    assert hub.keys == ()
