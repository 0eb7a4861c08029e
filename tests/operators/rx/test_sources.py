"""Items that are there within the subscription itself."""

from typing import Any

import reactivex as rx
from reactivex import Observable
from reactivex.subject import Subject

from wakestream.operators.rx.sources import merge_errors, of, start_with


def heard(source: Observable[Any]) -> list[Any]:
    items: list[Any] = []
    source.subscribe(items.append, lambda error: items.append(str(error)), lambda: items.append("|"))
    return items


def test_emit_gives_its_items_and_completes_before_subscribe_returns() -> None:
    assert heard(of(1, 2)) == [1, 2, "|"]
    assert heard(of()) == ["|"]


def test_start_with_emits_its_items_before_those_of_the_source() -> None:
    source: Subject[int] = Subject()
    items = heard(source.pipe(start_with(0)))
    assert items == [0]
    source.on_next(1)
    source.on_completed()
    assert items == [0, 1, "|"]


def test_merge_errors_passes_the_source_and_only_the_error_of_the_other() -> None:
    source: Subject[int] = Subject()
    other: Subject[str] = Subject()
    items = heard(source.pipe(merge_errors(other)))
    other.on_next("ignored")
    source.on_next(1)
    other.on_error(ValueError("broken"))
    source.on_next(2)
    assert items == [1, "broken"]


def test_the_end_of_the_other_ends_nothing() -> None:
    source: Subject[int] = Subject()
    items = heard(source.pipe(merge_errors(of("x"))))
    source.on_next(1)
    source.on_completed()
    assert items == [1, "|"]


def test_a_source_that_fails_on_subscribe_is_reported_once() -> None:
    assert heard(rx.throw(ValueError("at once")).pipe(merge_errors(rx.throw(ValueError("too"))))) == ["at once"]
