"""One stage after another: the last item of a stage is what the next one starts from."""

import reactivex as rx
from reactivex import Observable
from reactivex.testing import TestScheduler
from reactivex.testing.marbles import marbles_testing

from tests.support.streams.virtual_time import on_completed, on_error, on_next, subscribe
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.sources import of
from wakestream.operators.rx.then import then, then_by_type
from wakestream.operators.rx.to_future import to_future


def test_the_next_stage_begins_when_the_source_completes() -> None:
    with marbles_testing() as (start, cold, hot, exp):
        first = hot("--a--b--|", None, None)
        second = cold("-x-y-|", None, None)
        expected = exp("--a--b---x-y-|", None, None)
        assert start(first.pipe(then(lambda _: second))) == expected


def test_the_next_stage_is_made_of_the_last_item() -> None:
    given: list[str] = []

    def following(item: str) -> Observable[str]:
        given.append(item)
        return rx.of(item.upper())

    heard: list[str] = []
    rx.of("a", "b", "c").pipe(then(following)).subscribe(heard.append)
    assert given == ["c"]
    assert heard == ["a", "b", "c", "C"]


def test_none_is_an_item_like_any_other() -> None:
    heard: list[object] = []
    rx.of(None).pipe(then(lambda item: rx.of(("after", item)))).subscribe(heard.append)
    assert heard == [None, ("after", None)]


def test_an_empty_source_stays_empty() -> None:
    asked: list[object] = []
    heard: list[object] = []

    def following(item: object) -> Observable[object]:
        asked.append(item)
        return rx.of(item)

    rx.empty().pipe(then(following)).subscribe(heard.append, on_completed=lambda: heard.append("end"))
    assert (asked, heard) == ([], ["end"])


def test_an_error_of_the_source_ends_all_and_starts_nothing() -> None:
    scheduler, broken, asked = TestScheduler(), ValueError("broken"), list[object]()

    def following(item: object) -> Observable[object]:
        asked.append(item)
        return rx.of(item)

    source = scheduler.create_hot_observable(on_next(210, 1), on_error(220, broken))
    result = scheduler.start(lambda: source.pipe(then(following)))
    assert result.messages == [on_next(210, 1), on_error(220, broken)]
    assert asked == []
    assert source.subscriptions == [subscribe(200, 220)]


def test_an_error_of_the_next_stage_passes(scheduler: TestScheduler) -> None:
    broken = ValueError("broken")
    second = scheduler.create_cold_observable(on_next(5, "x"), on_error(10, broken))
    source = scheduler.create_hot_observable(on_next(210, 1), on_completed(220))
    result = scheduler.start(lambda: source.pipe(then(lambda _: second)))
    assert result.messages == [on_next(210, 1), on_next(225, "x"), on_error(230, broken)]


def test_a_stage_that_cannot_be_built_arrives_as_an_error() -> None:
    broken, heard = ValueError("cannot be built"), list[object]()

    def following(_: object) -> Observable[object]:
        raise broken

    rx.of(1).pipe(then(following)).subscribe(heard.append, heard.append)
    assert heard == [1, broken]


def test_disposing_in_the_second_stage_disposes_it(scheduler: TestScheduler) -> None:
    source = scheduler.create_hot_observable(on_next(210, 1), on_completed(220))
    second = scheduler.create_cold_observable(on_next(10, "x"), on_completed(500))
    result = scheduler.start(lambda: source.pipe(then(lambda _: second)), disposed=300)
    assert result.messages == [on_next(210, 1), on_next(230, "x")]
    assert second.subscriptions == [subscribe(220, 300)]


async def test_the_scheduler_given_once_reaches_every_stage(loop_scheduler: LoopScheduler) -> None:
    async def effect() -> str:
        return "done"

    stages = from_async(effect).pipe(then(lambda _: from_async(effect)), then(lambda _: rx.timer(5.0)))
    assert await to_future(loop_scheduler)(stages) == 0
    assert loop_scheduler.loop.time() == 5.0


def test_the_type_of_the_last_item_chooses_the_stages_that_follow_until_it_has_none() -> None:
    def stages(chosen: Observable[object]) -> list[object]:
        heard: list[object] = []
        twice = (lambda n: of(n + 1), lambda n: of("b", f"{n}"))
        chosen.pipe(then_by_type({int: twice, str: (lambda text: of(float(text)),)})).subscribe(heard.append)
        return heard

    assert stages(of("x", 1)) == ["x", 1, 2, "b", "2", 2.0]
    assert stages(of()) == []
