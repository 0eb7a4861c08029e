"""Ask again and again, each time only after the last answer."""

import tracemalloc
from itertools import count, pairwise
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex.subject import Subject
from reactivex.testing import TestScheduler

from tests.support.streams.virtual_time import on_completed, on_error, on_next, subscribe
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.poll import poll
from wakestream.operators.rx.to_future import to_future


def test_it_polls_at_once_then_at_its_pace_until_satisfied() -> None:
    scheduler, numbers = TestScheduler(), count(1)
    asked: list[float] = []

    def ask() -> Observable[int]:
        asked.append(scheduler.clock)
        return rx.of(next(numbers))

    result = scheduler.start(lambda: rx.defer(lambda _: ask()).pipe(poll(every=20, until=lambda number: number == 3)))
    assert [message.value.kind for message in result.messages] == ["N", "N", "N", "C"]
    assert [message.value.value for message in result.messages[:3]] == [1, 2, 3]
    assert asked[0] == 200
    assert len(asked) == 3


def test_the_pause_may_depend_on_the_last_answer() -> None:
    scheduler, numbers, asked = TestScheduler(), count(1), list[float]()

    def ask() -> Observable[int]:
        asked.append(scheduler.clock)
        return rx.of(next(numbers))

    scheduler.start(lambda: rx.defer(lambda _: ask()).pipe(poll(lambda last: 10.0 * last, lambda number: number == 4)))
    assert [after - before for before, after in pairwise(asked)] == [10, 20, 30]


def test_a_slow_poll_never_overlaps_and_the_pause_counts_from_its_answer(scheduler: TestScheduler) -> None:
    answer = scheduler.create_cold_observable(on_next(70, "x"), on_completed(70))
    result = scheduler.start(lambda: answer.pipe(poll(every=20, until=lambda _: False)), disposed=500)
    assert answer.subscriptions == [
        subscribe(200, 270),
        subscribe(290, 360),
        subscribe(380, 450),
        subscribe(470, 500),
    ]
    assert result.messages == [on_next(270, "x"), on_next(360, "x"), on_next(450, "x")]


def test_an_empty_answer_is_polled_again(scheduler: TestScheduler) -> None:
    answers = iter([rx.empty(), rx.empty(), rx.of("x")])
    result = scheduler.start(lambda: rx.defer(lambda _: next(answers)).pipe(poll(every=20, until=lambda _: True)))
    assert [message.value.kind for message in result.messages] == ["N", "C"]


def test_nothing_of_an_answer_counts_after_the_item_that_satisfied(scheduler: TestScheduler) -> None:
    answer = scheduler.create_cold_observable(on_next(1, "x"), on_next(2, "y"), on_completed(3))
    result = scheduler.start(lambda: answer.pipe(poll(every=20, until=lambda item: item == "x")))
    assert result.messages == [on_next(201, "x"), on_completed(201)]
    assert answer.subscriptions == [subscribe(200, 201)]


def test_an_error_of_the_answer_ends_the_polling() -> None:
    scheduler, broken = TestScheduler(), ValueError("broken")
    answer = scheduler.create_cold_observable(on_next(1, "x"), on_error(5, broken))
    result = scheduler.start(lambda: answer.pipe(poll(every=20, until=lambda _: False)))
    assert result.messages == [on_next(201, "x"), on_error(205, broken)]
    assert len(answer.subscriptions) == 1


def test_an_error_in_the_predicate_arrives_as_an_error_and_disposes() -> None:
    broken, answer, heard = ValueError("cannot judge"), Subject[int](), list[Any]()

    def judge(_: int) -> bool:
        raise broken

    answer.pipe(poll(every=20, until=judge)).subscribe(heard.append, heard.append, scheduler=TestScheduler())
    answer.on_next(1)  # and nothing is raised in its source
    assert heard == [broken]
    assert not answer.observers


def test_an_error_in_the_pause_arrives_as_an_error(scheduler: TestScheduler) -> None:
    broken = ValueError("no pause")

    def pause(_: str) -> float:
        raise broken

    answer = scheduler.create_cold_observable(on_next(1, "x"), on_completed(5))
    result = scheduler.start(lambda: answer.pipe(poll(pause, until=lambda _: False)))
    assert result.messages == [on_next(201, "x"), on_error(205, broken)]
    assert answer.subscriptions == [subscribe(200, 205)]


@pytest.mark.parametrize(("disposed", "last"), [(230, subscribe(200, 230)), (280, subscribe(200, 270))])
def test_disposing_in_an_answer_or_in_the_pause_ends_it(scheduler: TestScheduler, disposed: float, last: Any) -> None:
    answer = scheduler.create_cold_observable(on_next(70, "x"), on_completed(70))
    scheduler.start(lambda: answer.pipe(poll(every=20, until=lambda _: False)), disposed=disposed)
    assert answer.subscriptions == [last]


@pytest.mark.parametrize("pace", [0.0, 2.0])
async def test_thousands_of_polls_use_constant_memory(loop_scheduler: LoopScheduler, pace: float) -> None:
    number, sizes = 0, list[int]()

    def ask() -> Observable[int]:
        def answer(observer: abc.ObserverBase[int], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            nonlocal number
            number += 1
            if number % 300 == 0:
                sizes.append(tracemalloc.get_traced_memory()[0])
            observer.on_next(number)
            observer.on_completed()
            return rx.disposable.Disposable()

        return Observable(answer)

    tracemalloc.start()
    try:
        polled = rx.defer(lambda _: ask()).pipe(poll(pace, lambda item: item == 3_000))
        assert await to_future(loop_scheduler)(polled) == 3_000
    finally:
        tracemalloc.stop()
    assert loop_scheduler.loop.time() == 2_999 * pace
    assert sizes[-1] - sizes[1] < 10_000
