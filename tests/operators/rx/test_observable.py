"""Lean observables: the library's rules, at a fifth of its weight."""

from typing import Any

import pytest
from reactivex import Observable, abc

from tests.support.streams.virtual_time import collect
from wakestream.operators.rx.core.observable import Disposable, LightObservable, SerialDisposable, subscribe_through
from wakestream.operators.rx.sources import of, start_with, throw


def passing(source: Observable[Any]) -> Observable[Any]:
    return LightObservable(lambda observer, scheduler: subscribe_through(source, observer, scheduler))


def test_nothing_passes_after_the_end() -> None:
    def babbling(observer: abc.ObserverBase[int], _: abc.SchedulerBase | None) -> abc.DisposableBase:
        observer.on_next(1)
        observer.on_completed()
        observer.on_next(2)
        observer.on_completed()
        return SerialDisposable()

    assert collect(passing(LightObservable(babbling))) == [1, "|"]


def test_a_source_that_cannot_even_begin_is_an_error_of_the_whole() -> None:
    broken = ValueError("broken")

    def begin(*_: Any) -> abc.DisposableBase:
        raise broken

    assert collect(passing(LightObservable(begin)).pipe(start_with(0))) == [0, broken]


def test_disposing_disposes_the_source() -> None:
    let_go: list[str] = []
    source: Observable[Any] = LightObservable(lambda *_: Disposable(lambda: let_go.append("source")))
    subscription = passing(passing(source)).subscribe()
    assert let_go == []
    subscription.dispose()
    subscription.dispose()
    assert let_go == ["source"]


def test_the_librarys_methods_work_unchanged() -> None:
    squares = of(1, -1, 2, 3, 4).map(lambda item: item * item).distinct_until_changed()
    assert collect(squares.take_while(lambda item: item < 9, inclusive=True)) == [1, 4, 9, "|"]


def test_actions_come_before_what_they_are_called_for() -> None:
    heard: list[Any] = []
    source = of(1, 2).do_action(lambda item: heard.append(-item), on_completed=lambda: heard.append("end"))
    source.subscribe(heard.append, on_completed=lambda: heard.append("|"))
    assert heard == [-1, 1, -2, 2, "end", "|"]
    fault = ValueError("fault")
    throw(fault).do_action(on_error=heard.append).subscribe(on_error=lambda error: heard.append(repr(error)))
    assert heard[6:] == [fault, repr(fault)]


@pytest.mark.parametrize("where", ["on_next", "on_error", "on_completed"])
def test_an_error_of_an_action_is_the_end(where: str) -> None:
    heard: list[Any] = []

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    source = of(1, 2) if where != "on_error" else throw(ValueError())
    source.do_action(**{where: broken}).subscribe(heard.append, lambda error: heard.append(type(error)))
    assert heard == [*([1, 2] if where == "on_completed" else []), ZeroDivisionError]


def test_an_error_of_a_function_arrives_as_an_error() -> None:
    heard: list[Any] = []
    of(1, 0, 2).map(lambda item: 1 // item).subscribe(heard.append, lambda error: heard.append(type(error)))
    assert heard == [1, ZeroDivisionError]
