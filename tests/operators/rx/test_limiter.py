"""The limiter: a maximum number at once, the most urgent first, and each end frees a place."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import reactivex as rx
from reactivex import Subject, abc

from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.limiter import Limiter
from wakestream.operators.rx.sources import never, of
from wakestream.operators.rx.to_future import to_future


class Stage:
    """Jobs in one lane: which have begun, and the way to end each."""

    def __init__(self, limit: int) -> None:
        self.turns = Limiter(limit)
        self.begun: list[str] = []
        self.said: dict[str, list[object]] = {}
        self.ends: dict[str, Subject[object]] = {}
        self.scheduler = LoopScheduler()

    def enter(self, name: str, priority: int = 0) -> abc.DisposableBase:
        return self.held(name, partial(self.begin, name), self.turns.limit(priority, lambda before: f"{before} before"))

    def begin(self, name: str, _: object) -> rx.Observable[object]:
        self.begun.append(name)
        self.ends[name] = Subject()
        return self.ends[name]

    def held(
        self, name: str, begin: Callable[[object], rx.Observable[object]], limit: Callable[..., rx.Observable[object]]
    ) -> abc.DisposableBase:
        said = self.said.setdefault(name, [])
        held = rx.defer(begin).pipe(limit)
        return held.subscribe(said.append, lambda error: said.append(str(error)), scheduler=self.scheduler)

    def enter_by(self, places: dict[str, int], *staying: str) -> None:
        """Enter in an order that can change; those that do not stay give way."""
        for name in places:
            limit = self.turns.limit(
                on_wait=lambda before: f"{before} before",
                key=partial(places.__getitem__, name),
                gives_way=partial(bool, name not in staying),
            )
            self.held(name, partial(self.begin, name), limit)

    async def turn(self) -> None:
        """One turn of the loop, and another for what it starts."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Limiter(0)


async def test_a_free_place_is_taken_at_once_and_the_next_waits_with_a_note() -> None:
    stage = Stage(2)
    for name in "abcd":
        stage.enter(name)
    assert stage.begun == ["a", "b"]
    assert stage.said == {"a": [], "b": [], "c": ["0 before"], "d": ["1 before"]}
    stage.ends["a"].on_completed()
    await stage.turn()
    assert stage.begun == ["a", "b", "c"]


async def test_the_most_urgent_is_next_and_equals_keep_their_order() -> None:
    stage = Stage(1)
    stage.enter("first")
    for name, priority in (("low", -1), ("one", 0), ("two", 0), ("high", 5)):
        stage.enter(name, priority)
    assert stage.said["high"] == ["0 before"]
    for name in ("first", "high", "one", "two"):
        stage.ends[name].on_completed()
        await stage.turn()
    assert stage.begun == ["first", "high", "one", "two", "low"]


async def test_an_error_and_a_disposal_give_the_turn_back() -> None:
    stage = Stage(1)
    stage.enter("a")
    b = stage.enter("b")
    stage.enter("c")
    stage.ends["a"].on_error(ValueError("broken"))
    await stage.turn()
    assert (stage.begun, stage.said["a"]) == (["a", "b"], ["broken"])
    b.dispose()
    await stage.turn()
    assert stage.begun == ["a", "b", "c"]
    stage.ends["c"].on_completed()
    assert (stage.turns.running, stage.turns.waiting) == (0, 0)


async def test_one_that_is_disposed_while_waiting_or_called_takes_no_place() -> None:
    stage = Stage(1)
    stage.enter("a")
    waiting, called = stage.enter("waiting"), stage.enter("called")
    stage.enter("last")
    waiting.dispose()
    stage.ends["a"].on_completed()
    called.dispose()
    await stage.turn()
    assert stage.begun == ["a", "last"]


async def test_a_source_that_ends_at_once_frees_its_place_before_its_items_arrive() -> None:
    turns = Limiter(1)
    taken: list[int] = []
    again = of(1).pipe(turns.limit()).do_action(on_completed=lambda: taken.append(turns.running))
    assert await to_future(LoopScheduler())(again) == 1
    assert taken == [0]


async def test_the_order_of_those_that_wait_can_change() -> None:
    stage, places = Stage(1), {"a": 0, "b": 1, "c": 2, "d": 3}
    stage.enter_by(places, *places)
    places |= {"a": 9, "b": 3, "d": 1}
    stage.turns.reorder()
    for name in ("a", "d", "c", "b"):
        stage.ends[name].on_completed()
        await stage.turn()
    assert stage.begun == ["a", "d", "c", "b"]


async def test_a_running_source_gives_way_to_one_that_now_comes_before_it_and_begins_again_later() -> None:
    stage, places = Stage(2), {"a": 0, "b": 1, "c": 2}
    stage.enter_by(places, "a")
    stage.turns.reorder()
    assert stage.begun == ["a", "b"]
    before = stage.ends["b"]
    places |= {"a": 9, "c": -1}
    stage.turns.reorder()
    await stage.turn()
    assert stage.begun == ["a", "b", "c"]
    assert stage.said == {"a": [], "b": ["0 before"], "c": ["0 before"]}
    assert before.observers == []
    stage.ends["c"].on_completed()
    await stage.turn()
    assert stage.begun == ["a", "b", "c", "b"]
    stage.ends["b"].on_next("again")
    assert stage.said["b"] == ["0 before", "again"]
    for name in "ab":
        stage.ends[name].on_completed()
    assert (stage.turns.running, stage.turns.waiting) == (0, 0)


async def test_an_observer_that_raises_at_the_wait_keeps_no_place(loop_scheduler: LoopScheduler) -> None:
    limiter, told = Limiter(1), list[Exception]()
    never().pipe(limiter.limit()).subscribe(scheduler=loop_scheduler)

    def raises(_: Any) -> None:
        raise ValueError("observer")

    never().pipe(limiter.limit(on_wait=lambda before: before)).subscribe(raises, told.append, scheduler=loop_scheduler)
    assert (len(told), limiter.waiting) == (1, 0)


async def test_ten_thousand_wait_and_all_have_their_turn() -> None:
    turns, scheduler = Limiter(3), LoopScheduler()
    busy = [never().pipe(turns.limit()).subscribe(scheduler=scheduler) for _ in range(3)]
    waiting = [to_future(scheduler)(of(n).pipe(turns.limit(n % 7))) for n in range(10_000)]
    assert turns.waiting == 10_000
    for one in busy:
        one.dispose()
    assert sum(await asyncio.gather(*waiting)) == sum(range(10_000))
    assert (turns.running, turns.waiting) == (0, 0)
