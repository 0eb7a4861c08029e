"""Lanes side by side, of which each must come to its end."""

import reactivex as rx
from reactivex import Observable
from reactivex.testing import TestScheduler

from tests.support.streams.virtual_time import on_completed, on_error, on_next, subscribe
from wakestream.operators.rx.all_done import all_done
from wakestream.operators.rx.sources import of
from wakestream.operators.rx.then import then


def test_all_lanes_emit_until_the_last_completes_and_the_first_lane_gives_the_result(scheduler: TestScheduler) -> None:
    one = scheduler.create_cold_observable(on_next(10, "a1"), on_next(40, "a2"), on_completed(50))
    other = scheduler.create_cold_observable(on_next(20, "b1"), on_next(60, "b2"), on_completed(70))
    assert scheduler.start(lambda: all_done(one, other)).messages == [
        on_next(210, "a1"), on_next(220, "b1"), on_next(240, "a2"), on_next(260, "b2"),
        on_next(270, "a2"), on_completed(270),
    ]  # fmt: skip
    assert one.subscriptions == [subscribe(200, 250)]
    assert other.subscriptions == [subscribe(200, 270)]


def test_the_result_is_not_repeated_if_it_was_the_last_item() -> None:
    heard: list[str] = []
    all_done(of("other", "a"), rx.empty()).subscribe(heard.append, on_completed=lambda: heard.append("|"))
    assert heard == ["other", "a", "|"]


def test_a_failed_lane_ends_everything_and_disposes_the_others() -> None:
    scheduler, broken = TestScheduler(), ValueError("broken")
    slow = scheduler.create_cold_observable(on_next(10, "s1"), on_next(60, "s2"), on_completed(70))
    fails = scheduler.create_cold_observable(on_next(20, "f1"), on_error(30, broken))
    assert scheduler.start(lambda: all_done(slow, fails)).messages == [
        on_next(210, "s1"), on_next(220, "f1"), on_error(230, broken),
    ]  # fmt: skip
    assert slow.subscriptions == [subscribe(200, 230)]


def test_a_lane_that_fails_at_once_starts_no_other() -> None:
    begun: list[str] = []
    late: Observable[str] = rx.defer(lambda _: begun.append("late") or of("late"))  # type: ignore[func-returns-value]
    heard: list[str] = []
    broken: Observable[str] = of("x").pipe(then(lambda _: {}["missing"]))
    all_done(broken, late).subscribe(heard.append, lambda error: heard.append(type(error).__name__))
    assert (heard, begun) == (["x", "KeyError"], [])


def test_the_results_of_all_lanes_are_joined_in_the_order_of_the_lanes(scheduler: TestScheduler) -> None:
    slow = scheduler.create_cold_observable(on_next(20, 1), on_completed(20))
    fast = scheduler.create_cold_observable(on_next(10, 2), on_completed(10))
    silent: Observable[int] = rx.empty()
    whole = scheduler.start(lambda: all_done(slow, fast, silent, join=lambda *results: results))  # type: ignore[arg-type,return-value]
    assert whole.messages[2:] == [on_next(220, (1, 2, None)), on_completed(220)]


def test_results_that_cannot_be_joined_are_an_error() -> None:
    heard: list[object] = []
    all_done(of(1), of(0), join=lambda a, b: a // b).subscribe(heard.append, lambda e: heard.append(type(e)))
    assert heard == [1, 0, ZeroDivisionError]
