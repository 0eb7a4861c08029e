"""Try again, later each time: exact delays in scheduler time, and every way in which it ends."""

import asyncio
import tracemalloc
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex.testing import TestScheduler

from tests.support.streams.virtual_time import on_completed, on_error, on_next, subscribe
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.to_future import to_future

EXACT = Backoff(initial=1.0, factor=2.0, max_delay=60.0, jitter=0.0)
BROKEN = ValueError("broken")


def changed(**parts: Any) -> Backoff:
    return Backoff(**{"initial": 10.0, "factor": 2.0, "max_delay": 1000.0, "jitter": 0.0, **parts})


def messages(source: Callable[[TestScheduler], Observable[Any]], backoff: Backoff, disposed: float = 1000) -> list[Any]:
    scheduler = TestScheduler()
    cold = source(scheduler)
    return scheduler.start(lambda: cold.pipe(retry_backoff(backoff, Random(1))), disposed=disposed).messages


def failing(after: int = 1, error: Exception = BROKEN) -> Callable[[TestScheduler], Observable[Any]]:
    return lambda scheduler: scheduler.create_cold_observable(on_error(after, error))


def test_attempts_are_made_after_exact_delays_in_scheduler_time(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(1, "x"), on_error(2, BROKEN))
    backoff = changed(max_retries=3)
    result = scheduler.start(lambda: source.pipe(retry_backoff(backoff, Random(1))))
    starts = [200, 212, 234, 276]
    assert source.subscriptions == [subscribe(start, start + 2) for start in starts]
    assert result.messages == [*(on_next(start + 1, "x") for start in starts), on_error(278, BROKEN)]


async def test_jittered_delays_are_those_of_the_seeded_source(loop_scheduler: LoopScheduler) -> None:
    seed, attempts = Random(7), list[float]()
    first, second = (10.0 * (1 - 0.5 * seed.random()), 20.0 * (1 - 0.5 * seed.random()))

    def attempt(_: abc.SchedulerBase) -> Observable[Any]:
        attempts.append(loop_scheduler.loop.time())
        return rx.throw(BROKEN)

    retried = rx.defer(attempt).pipe(retry_backoff(changed(jitter=0.5, max_retries=2), Random(7)))
    with pytest.raises(ValueError, match="broken"):
        await to_future(loop_scheduler)(retried)
    assert attempts == [0.0, first, first + second]


def test_a_source_that_completes_is_not_touched() -> None:
    source = lambda scheduler: scheduler.create_cold_observable(on_next(1, "x"), on_completed(2))  # noqa: E731
    assert messages(source, changed()) == [on_next(201, "x"), on_completed(202)]


def test_no_retries_means_that_the_first_error_passes() -> None:
    assert messages(failing(), changed(max_retries=0)) == [on_error(201, BROKEN)]


def test_an_error_that_is_not_chosen_passes_at_once() -> None:
    chosen = changed(retry_on=lambda error: isinstance(error, KeyError))
    assert messages(failing(), chosen) == [on_error(201, BROKEN)]


def test_the_last_error_is_the_one_that_passes() -> None:
    errors = iter([ValueError("first"), ValueError("second"), last := ValueError("last")])
    result = messages(lambda _: rx.defer(lambda _: rx.throw(next(errors))), changed(max_retries=2))
    assert [message.value.exception for message in result] == [last]


def test_max_elapsed_counts_from_the_first_failure_and_forbids_a_delay_that_ends_later() -> None:
    # failures at 201, 212, 233, 274: delays 10, 20, 40, then 80 > 100 - 73
    assert messages(failing(), changed(max_elapsed=100.0)) == [on_error(274, BROKEN)]
    assert messages(failing(), changed(max_elapsed=153.0), disposed=354) == []  # to the tick: 73 + 80 is allowed


def test_an_item_that_counts_as_success_sets_count_and_clock_back() -> None:
    def source(scheduler: TestScheduler) -> Observable[Any]:
        return scheduler.create_cold_observable(on_next(1, "up"), on_error(5, BROKEN))

    starts = [200, 215, 230, 245]
    backoff = changed(max_retries=1, max_elapsed=12.0, reset_on_success=lambda item: item == "up")
    assert messages(source, backoff, disposed=250) == [on_next(start + 1, "up") for start in starts]
    not_success = changed(max_retries=1, reset_on_success=lambda item: item == "other")
    assert messages(source, not_success) == [on_next(201, "up"), on_next(216, "up"), on_error(220, BROKEN)]


def test_what_on_retry_returns_is_emitted_unless_it_is_none() -> None:
    told: list[tuple[int, float, Exception]] = []

    def tell(attempt: int, delay: float, error: Exception) -> str | None:
        told.append((attempt, delay, error))
        return None if attempt == 2 else f"again in {delay:g}"

    result = messages(failing(), changed(max_retries=3, on_retry=tell))
    assert told == [(1, 10.0, BROKEN), (2, 20.0, BROKEN), (3, 40.0, BROKEN)]
    assert result == [on_next(201, "again in 10"), on_next(233, "again in 40"), on_error(274, BROKEN)]


def test_an_item_of_on_retry_may_end_it_all(scheduler: TestScheduler) -> None:
    attempts: list[int] = []

    def attempt(_: abc.SchedulerBase) -> Observable[Any]:
        attempts.append(1)
        return rx.throw(BROKEN)

    retried = rx.defer(attempt).pipe(retry_backoff(changed(on_retry=lambda *_: "again"), Random(1)))
    result = scheduler.start(lambda: retried.take(1))
    assert [message.value.kind for message in result.messages] == ["N", "C"]
    assert len(attempts) == 1


@pytest.mark.parametrize("rule", ["retry_on", "on_retry"])
def test_a_rule_that_raises_arrives_as_an_error(rule: str) -> None:
    fault = KeyError("rule")

    def broken(*_: Any) -> Any:
        raise fault

    assert messages(failing(), changed(**{rule: broken})) == [on_error(201, fault)]


def test_a_success_rule_that_raises_arrives_as_an_error_and_is_not_retried(scheduler: TestScheduler) -> None:
    fault = KeyError("rule")

    def broken(_: Any) -> bool:
        raise fault

    source = scheduler.create_hot_observable(on_next(210, "x"), on_next(220, "y"))
    result = scheduler.start(lambda: source.pipe(retry_backoff(changed(reset_on_success=broken), Random(1))))
    assert result.messages == [on_error(210, fault)]
    assert source.subscriptions == [subscribe(200, 210)]


def test_disposing_between_attempts_stops_the_next(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_error(1, BROKEN))
    result = scheduler.start(lambda: source.pipe(retry_backoff(changed(), Random(1))), disposed=205)
    assert result.messages == []
    assert source.subscriptions == [subscribe(200, 201)]


def test_cancellation_is_not_retried() -> None:
    cancelled: Any = asyncio.CancelledError()
    heard: list[Any] = []

    def source(observer: Any, _: Any = None) -> None:
        attempts.append(1)
        observer.on_error(cancelled)

    attempts: list[int] = []
    Observable(source).pipe(retry_backoff(changed(), Random(1))).subscribe(  # type: ignore[arg-type]
        heard.append, heard.append, scheduler=TestScheduler()
    )
    assert heard == [cancelled]
    assert len(attempts) == 1


@pytest.mark.parametrize("delay", [0.0, 1.0])
async def test_thousands_of_attempts_use_constant_memory(loop_scheduler: LoopScheduler, delay: float) -> None:
    failures, sizes = 3_000, list[int]()

    def attempt(_: abc.SchedulerBase) -> Observable[str]:
        nonlocal failures
        failures -= 1
        if failures % 300 == 0:
            sizes.append(tracemalloc.get_traced_memory()[0])
        return rx.throw(BROKEN) if failures else rx.of("done")

    backoff = Backoff(initial=delay, max_delay=delay, jitter=0.0)
    tracemalloc.start()
    try:
        assert await to_future(loop_scheduler)(rx.defer(attempt).pipe(retry_backoff(backoff, Random(1)))) == "done"
    finally:
        tracemalloc.stop()
    assert loop_scheduler.loop.time() == pytest.approx(2_999 * delay)
    assert sizes[-1] - sizes[1] < 10_000
