"""A fork: the newest item's kind chooses the road, and the whole ends with the road followed."""

from typing import Any

import reactivex as rx
from reactivex import Observable, abc
from reactivex.disposable import Disposable
from reactivex.subject import Subject
from reactivex.testing import TestScheduler

from tests.support.streams.virtual_time import collect, on_completed, on_error, on_next, subscribe
from wakestream.operators.rx.sources import of
from wakestream.operators.rx.switch_by_type import switch_by_type


class Yes(str):
    __slots__ = ()


class No(str):
    __slots__ = ()


class Sub(Yes):
    __slots__ = ()


def test_it_completes_with_its_branch_and_disposes_an_endless_source(scheduler: TestScheduler) -> None:
    source = scheduler.create_hot_observable(on_next(210, Yes("a")), on_next(900, Yes("late")))
    road = scheduler.create_cold_observable(on_completed(20))
    result = scheduler.start(lambda: source.pipe(switch_by_type({Yes: lambda _: road})))
    assert result.messages == [on_completed(230)]
    assert source.subscriptions == [subscribe(200, 230)]


def test_the_latest_wins_and_the_road_before_is_left(scheduler: TestScheduler) -> None:
    source = scheduler.create_hot_observable(on_next(210, No("a")), on_next(250, Yes("b")))
    waiting = scheduler.create_cold_observable(*(on_next(tick, f"w{tick}") for tick in (10, 30, 50, 70)))
    granted = scheduler.create_cold_observable(on_next(5, "go"), on_completed(6))
    result = scheduler.start(lambda: source.pipe(switch_by_type({No: lambda _: waiting, Yes: lambda _: granted})))
    assert result.messages == [on_next(220, "w10"), on_next(240, "w30"), on_next(255, "go"), on_completed(256)]
    assert waiting.subscriptions == [subscribe(210, 250)]


def test_the_same_kind_again_starts_its_road_again(scheduler: TestScheduler) -> None:
    source = scheduler.create_hot_observable(on_next(210, No("a")), on_next(230, No("b")))
    waiting = scheduler.create_cold_observable(on_next(15, "w"), on_completed(40))
    result = scheduler.start(lambda: source.pipe(switch_by_type({No: lambda _: waiting})))
    assert result.messages == [on_next(225, "w"), on_next(245, "w"), on_completed(270)]
    assert waiting.subscriptions == [subscribe(210, 230), subscribe(230, 270)]


def test_a_case_that_returns_none_leaves_the_road_followed(scheduler: TestScheduler) -> None:
    source = scheduler.create_hot_observable(on_next(210, No("a")), on_next(220, Yes("news")))
    waiting = scheduler.create_cold_observable(on_next(30, "w"), on_completed(40))
    result = scheduler.start(lambda: source.pipe(switch_by_type({No: lambda _: waiting, Yes: lambda _: None})))
    assert result.messages == [on_next(240, "w"), on_completed(250)]


def test_items_of_other_kinds_pass_unnoticed_subclasses_too() -> None:
    assert collect(rx.of(1, "a", None, Sub("b")).pipe(switch_by_type({Yes: lambda _: rx.of("taken")}))) == ["|"]


def test_a_source_that_ends_before_any_road_was_taken_ends_the_whole() -> None:
    assert collect(rx.empty().pipe(switch_by_type({Yes: lambda _: rx.never()}))) == ["|"]


def test_a_source_that_ends_leaves_the_road_to_its_own_end(scheduler: TestScheduler) -> None:
    source = scheduler.create_hot_observable(on_next(210, Yes("a")), on_completed(220))
    road = scheduler.create_cold_observable(on_next(50, "x"), on_completed(60))
    result = scheduler.start(lambda: source.pipe(switch_by_type({Yes: lambda _: road})))
    assert result.messages == [on_next(260, "x"), on_completed(270)]


def test_errors_of_source_and_branch_end_it_and_dispose_the_other() -> None:
    scheduler, broken = TestScheduler(), ValueError("broken")
    source = scheduler.create_hot_observable(on_next(210, Yes("a")))
    road = scheduler.create_cold_observable(on_error(20, broken))
    assert scheduler.start(lambda: source.pipe(switch_by_type({Yes: lambda _: road}))).messages == [
        on_error(230, broken)
    ]
    assert source.subscriptions == [subscribe(200, 230)]

    scheduler = TestScheduler()
    source = scheduler.create_hot_observable(on_next(210, Yes("a")), on_error(240, broken))
    road = scheduler.create_cold_observable(on_completed(300))
    assert scheduler.start(lambda: source.pipe(switch_by_type({Yes: lambda _: road}))).messages == [
        on_error(240, broken)
    ]
    assert road.subscriptions == [subscribe(210, 240)]


def test_a_case_that_raises_arrives_as_an_error() -> None:
    broken, source = ValueError("broken case"), Subject[Any]()

    def case(_: Any) -> Observable[Any]:
        raise broken

    heard = collect(source.pipe(switch_by_type({Yes: case})))
    source.on_next(Yes("a"))
    assert heard == [broken]
    assert not source.observers


def test_a_branch_that_feeds_the_source_on_entry_is_replaced() -> None:
    source: Subject[Any] = Subject()

    def entering(observer: abc.ObserverBase[Any], _: abc.SchedulerBase | None = None) -> abc.DisposableBase:
        observer.on_next("before")
        source.on_next(Yes("at once"))
        observer.on_next("stale")
        observer.on_error(ValueError("stale"))
        return Disposable(lambda: left.append("left"))

    left: list[str] = []
    roads = {No: lambda _: Observable(entering), Yes: lambda _: rx.concat(rx.of("granted"), rx.never())}
    heard = collect(source.pipe(switch_by_type(roads)))
    source.on_next(No("a"))
    assert heard == ["before", "granted"]
    assert left == ["left"]


def test_a_source_that_emits_while_it_is_subscribed_takes_no_road_after_the_end() -> None:
    entered: list[str] = []

    def road(item: str) -> Observable[str]:
        entered.append(item)
        return of(item)

    assert collect(of(Yes("a"), Yes("b")).pipe(switch_by_type({Yes: road}))) == ["a", "|"]
    assert entered == ["a"]
