"""Lanes side by side: the first that completes wins."""

import reactivex as rx
from reactivex import Observable
from reactivex.testing import TestScheduler

from tests.support.streams.virtual_time import on_completed, on_error, on_next, subscribe
from wakestream.operators.rx.first_success import first_success
from wakestream.operators.rx.sources import never, of


def test_all_lanes_emit_until_the_first_completes_and_the_others_are_disposed(scheduler: TestScheduler) -> None:
    slow = scheduler.create_cold_observable(on_next(10, "s1"), on_next(60, "s2"), on_completed(70))
    fast = scheduler.create_cold_observable(on_next(20, "f1"), on_next(40, "f2"), on_completed(50))
    assert scheduler.start(lambda: first_success(slow, fast)).messages == [
        on_next(210, "s1"), on_next(220, "f1"), on_next(240, "f2"), on_completed(250),
    ]  # fmt: skip
    assert slow.subscriptions == fast.subscriptions == [subscribe(200, 250)]


def test_the_last_item_is_the_winners_even_after_items_of_other_lanes(scheduler: TestScheduler) -> None:
    winner = scheduler.create_cold_observable(on_next(10, "won"), on_completed(30))
    other = scheduler.create_cold_observable(on_next(20, "still here"))
    assert scheduler.start(lambda: first_success(winner, other)).messages == [
        on_next(210, "won"), on_next(220, "still here"), on_next(230, "won"), on_completed(230),
    ]  # fmt: skip


def test_a_failed_lane_drops_out_with_a_note() -> None:
    scheduler = TestScheduler()
    broken = scheduler.create_cold_observable(on_error(10, ValueError("broken")))
    whole = scheduler.create_cold_observable(on_next(20, "x"), on_completed(30))
    lanes = first_success(whole, broken, dropped=lambda place, error: f"{place}: {error}")
    assert scheduler.start(lambda: lanes).messages == [on_next(210, "1: broken"), on_next(220, "x"), on_completed(230)]
    scheduler = TestScheduler()
    silent = first_success(scheduler.create_cold_observable(on_error(10, ValueError())), of("x"))
    assert scheduler.start(lambda: silent).messages == [on_next(200, "x"), on_completed(200)]


def test_the_error_of_the_last_lane_passes() -> None:
    scheduler, first, last = TestScheduler(), ValueError("first"), ValueError("last")
    lanes = [scheduler.create_cold_observable(on_error(tick, error)) for tick, error in ((20, last), (10, first))]
    told: list[int] = []
    result = scheduler.start(lambda: first_success(*lanes, dropped=lambda place, _: told.append(place)))
    assert result.messages == [on_error(220, last)]
    assert told == [1]


def test_an_error_in_the_note_on_a_dropped_lane_ends_everything(scheduler: TestScheduler) -> None:
    def no_word(_: int, error: Exception) -> str:
        raise KeyError("no word")

    broken = scheduler.create_cold_observable(on_error(10, ValueError()))
    result = scheduler.start(lambda: first_success(broken, never(), dropped=no_word))
    assert isinstance(result.messages[-1].value.exception, KeyError)


def test_a_lane_that_ends_at_once_has_won_before_the_next_begins() -> None:
    begun: list[str] = []
    late: Observable[str] = rx.defer(lambda _: begun.append("late") or of("late"))  # type: ignore[func-returns-value]
    heard: list[str] = []
    first_success(of("early"), late).subscribe(heard.append, on_completed=lambda: heard.append("|"))
    assert (heard, begun) == (["early", "|"], [])


def test_after_dropped_raised_no_further_source_is_subscribed() -> None:
    fault, begun, ended = ValueError("dropped"), list[str](), list[Exception]()

    def dropped(_: int, __: Exception) -> None:
        raise fault

    later = rx.defer(lambda _: begun.append("later") or never())
    first_success(rx.throw(ValueError("broken")), later, dropped=dropped).subscribe(on_error=ended.append)
    assert (ended, begun) == ([fault], [])
