"""What every operator and every stage does: it can be subscribed twice, and disposed while it is being subscribed."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from reactivex import Observable
from reactivex import operators as ops
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from tests.support.streams.stage_scene import CHECKED, JOB, ONLINE, SUBMITTED, Stage
from wakestream.operators.contrib.costs import costs
from wakestream.operators.contrib.stop_others import stop_others
from wakestream.operators.lifecycle.before_outcome import before_outcome
from wakestream.operators.lifecycle.cancellable import cancellable
from wakestream.operators.lifecycle.outcome import outcome
from wakestream.operators.model import events as e
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.rx.all_done import all_done
from wakestream.operators.rx.concat_unless import concat_unless
from wakestream.operators.rx.core.observable import Disposable, LightObservable
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.first_success import first_success
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.interval import interval
from wakestream.operators.rx.limiter import Limiter
from wakestream.operators.rx.of_type import of_type
from wakestream.operators.rx.poll import poll
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.sources import concat, merge_errors, never, of, start_with, throw
from wakestream.operators.rx.switch_by_type import switch_by_type
from wakestream.operators.rx.then import then
from wakestream.operators.rx.timeout import each_item, timeout
from wakestream.operators.stages.effect import effect
from wakestream.streams.jobs.world import Direct

Source = Observable[Any]
ITEM = SUBMITTED
TWO = {"left": Path("left.mp4"), "right": Path("right.mp4")}
OPERATORS: dict[str, Callable[[Source], Source]] = {
    "all_done": lambda source: all_done(source, source),
    "concat": lambda source: concat(source, source),
    "concat_unless": lambda source: source.pipe(concat_unless(lambda _: False, source)),
    "first_success": lambda source: first_success(source, source),
    "limiter": lambda source: source.pipe(Limiter(1).limit()),
    "merge_errors": lambda source: source.pipe(merge_errors(source)),
    "of_type": lambda source: source.pipe(of_type(object)),
    "poll": lambda source: source.pipe(poll(1.0, lambda _: True)),
    "retry_backoff": lambda source: source.pipe(retry_backoff(Backoff(), Random(1))),
    "start_with": lambda source: source.pipe(start_with(ITEM)),
    "switch_by_type": lambda source: of(1).pipe(switch_by_type({int: lambda _: source})),
    "catch with throw": lambda source: concat(source, throw(ValueError())).pipe(ops.catch(lambda *_: source)),
    "then": lambda source: source.pipe(then(lambda _: source)),
    "timeout": lambda source: source.pipe(timeout(9.0, "test")),
    "timeout of an item": lambda source: source.pipe(timeout(9.0, "test", reset=each_item)),
    "timeout excused": lambda source: source.pipe(timeout(9.0, "test", excused=lambda: 0.0)),
    "before_outcome": lambda source: source.pipe(before_outcome(lambda _: source)),
    "cancellable": lambda source: source.pipe(cancellable(never(), Stage().workers)),
    "outcome": lambda source: source.pipe(outcome()),
    "costs": lambda source: source.pipe(costs(never(), 1.0, lambda cost: e.Note(str(cost)))),
    "stop_others": lambda source: source.pipe(stop_others(JOB, Stage().workers)),
}
STAGES: dict[str, Callable[[Stage], Source]] = {
    "dedupe": lambda s: s.of().dedupe(ONLINE),
    "download": lambda s: s.of().download(e.Rendered(SUBMITTED)),
    "download of two": lambda s: s.of(outputs=TWO).download(e.Rendered(SUBMITTED)),
    "effect": lambda s: effect("own", {}, s.worker.health, Direct()),
    "follow": lambda s: s.of().follow(SUBMITTED),
    "from_async": lambda s: from_async(s.worker.health),
    "interval": lambda _: interval(1.0, lambda passed: passed).pipe(ops.take(2)),
    "online": lambda s: s.of().online(e.Granted("online", 0.0, "gpu", ONLINE.url)),
    "synthesize": lambda s: s.of().synthesize(e.Uploaded(CHECKED, 0, 0)),
    "upload": lambda s: s.of().upload(CHECKED),
}


class Emitting(LightObservable[Any]):
    """Emits an item within the subscription, and does not end; counts its subscriptions."""

    def __init__(self) -> None:
        super().__init__(self._emit)
        self.open = 0

    def _emit(self, observer: ObserverBase[Any], _: SchedulerBase | None) -> DisposableBase:
        self.open += 1
        try:
            observer.on_next(ITEM)
        except Exception:
            self._close()
            raise
        return Disposable(self._close)

    def _close(self) -> None:
        self.open -= 1


async def all_of(source: Source) -> list[Any]:
    stage = Stage()
    return [*await stage.run(source), stage.end]


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)
async def test_an_operator_gives_the_same_when_it_is_subscribed_again(make: Callable[[Source], Source]) -> None:
    made = make(of(ITEM, e.Rendered(ITEM)))
    assert await all_of(made) == await all_of(made) != []


@pytest.mark.parametrize("make", STAGES.values(), ids=STAGES)
async def test_a_stage_gives_the_same_when_it_is_subscribed_again(make: Callable[[Stage], Source]) -> None:
    made = make(Stage())
    assert await all_of(made) == await all_of(made) != []


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)
async def test_an_operator_does_all_at_once(make: Callable[[Source], Source]) -> None:
    ended: list[str] = []
    make(of(ITEM, e.Rendered(ITEM))).subscribe(on_completed=lambda: ended.append("|"), scheduler=LoopScheduler())
    assert ended == ["|"]  # in a later turn of the loop, it would depend on other jobs what came first


@pytest.mark.parametrize("name", ["poll", "retry_backoff", "timeout", "timeout of an item"])
def test_without_a_scheduler_an_operator_that_needs_time_is_a_clear_type_error(name: str) -> None:
    with pytest.raises(TypeError, match="no scheduler"):
        OPERATORS[name](never()).subscribe()


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)
async def test_disposed_at_its_first_item_an_operator_keeps_no_subscription(make: Callable[[Source], Source]) -> None:
    source, seen, scheduler = Emitting(), list[Any](), LoopScheduler()
    make(source).pipe(ops.take(1)).subscribe(seen.append, seen.append, scheduler=scheduler)
    assert (seen, source.open) == ([ITEM], 0)
    assert pending() == []


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)
async def test_an_observer_that_raises_leaves_nothing_behind(make: Callable[[Source], Source], number: int) -> None:
    source, told, scheduler, items = Emitting(), list[Exception](), LoopScheduler(), list[Any]()

    def raises(item: Any) -> None:
        items.append(item)
        if len(items) == number:
            raise ValueError("the observer is broken")

    try:
        made = make(source).subscribe(raises, told.append, scheduler=scheduler)
    except ValueError as error:
        told.append(error)
    else:
        made.dispose()
    assert source.open == 0
    assert pending() == []


def pending() -> list[asyncio.TimerHandle]:
    timers = asyncio.get_running_loop()._timers  # type: ignore[attr-defined]
    return [timer for _, _, timer in timers if not timer.cancelled()]
