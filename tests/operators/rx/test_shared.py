"""An effect that many need and that is carried out once."""

import asyncio
import gc
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex.subject import Subject

from tests.support.streams.virtual_time import Lasting, collect
from wakestream.operators.rx.core.observable import LightObservable
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.shared import Shared
from wakestream.operators.rx.to_future import to_future


def counted(source: Observable[Any]) -> tuple[Observable[Any], list[int]]:
    subscriptions: list[int] = []

    def begin(_: Any) -> Observable[Any]:
        subscriptions.append(1)
        return source

    return rx.defer(begin), subscriptions


async def test_early_and_late_subscribers_get_the_one_item_of_one_run(loop_scheduler: LoopScheduler) -> None:
    runs: list[int] = []

    async def effect() -> str:
        runs.append(1)
        await asyncio.sleep(5)  # virtual
        return "item"

    once = Shared(from_async(effect))
    early = [collect(once, loop_scheduler) for _ in range(3)]
    assert await to_future(loop_scheduler)(once) == "item"
    late = collect(once, loop_scheduler)
    assert [*early, late] == [["item", "|"]] * 4
    assert len(runs) == 1


def test_subscribers_come_and_go_while_the_effect_runs() -> None:
    effect: Subject[str] = Subject()
    once = Shared(effect)
    gone, heard = list[str](), list[str]()
    once.subscribe(gone.append).dispose()
    assert len(effect.observers) == 1
    once.subscribe(heard.append)
    effect.on_next("item")
    assert (gone, heard) == ([], ["item"])


def test_only_the_first_item_counts() -> None:
    effect: Subject[str] = Subject()
    once = Shared(effect)
    early = collect(once)
    effect.on_next("first")
    effect.on_next("second")
    assert early == collect(once) == ["first", "|"]


@pytest.mark.parametrize("broken", [ValueError("broken"), None])
def test_an_end_without_an_item_reaches_all_subscribers_and_the_next_subscription_restarts(
    broken: ValueError | None,
) -> None:
    effects = iter([first := Subject[str](), second := Subject[str]()])
    once = Shared(rx.defer(lambda _: next(effects)))
    waiting = [collect(once), collect(once)]
    first.on_completed() if broken is None else first.on_error(broken)
    assert waiting == [[broken or "|"]] * 2
    again = collect(once)
    second.on_next("item")
    assert again == ["item", "|"]


def test_a_subscriber_that_raises_is_reported_and_blocks_no_other() -> None:
    effect: Subject[str] = Subject()
    once = Shared(effect)
    order: list[str] = []

    def raises(item: str) -> None:
        order.append("raises")
        raise ValueError("observer")

    once.subscribe(raises)
    once.subscribe(lambda item: order.append(item))
    with pytest.raises(ValueError, match="observer"):
        effect.on_next("item")
    assert order == ["raises", "item"]


def test_a_subscriber_without_an_error_handler_does_not_block_an_error() -> None:
    effect, heard = Subject[str](), list[Any]()
    once = Shared(effect)
    once.subscribe(lambda _: None)
    once.subscribe(heard.append, heard.append)
    with pytest.raises(ValueError, match="broken"):
        effect.on_error(broken := ValueError("broken"))
    assert heard == [broken]


def test_a_waiter_may_start_it_again_from_within_its_error() -> None:
    effects = iter([first := Subject[str](), second := Subject[str]()])
    once = Shared(rx.defer(lambda _: next(effects)))
    heard: list[str] = []
    once.subscribe(lambda _: None, lambda _: once.subscribe(heard.append))
    first.on_error(ValueError("broken"))
    second.on_next("item")
    assert heard == ["item"]


async def test_dispose_stops_the_effect(loop_scheduler: LoopScheduler) -> None:
    lasting = Lasting()
    once = Shared(from_async(lasting.effect))
    collect(once, loop_scheduler)
    await lasting.entered.wait()
    once.dispose()
    await loop_scheduler.close()
    assert lasting.left_at == [0.0]


def test_a_subscriber_that_tries_again_at_once_gets_the_second_run() -> None:
    second, heard = Subject[str](), list[Any]()
    runs = iter([rx.throw(ValueError("at once")), second])
    shared = Shared(LightObservable(lambda observer, _: next(runs).subscribe(observer)))
    shared.subscribe(heard.append, lambda _: shared.subscribe(heard.append, heard.append))
    second.on_next("item")
    assert heard == ["item"]


async def test_a_waiter_that_raises_at_an_effects_item_is_reported_to_the_loop(loop_scheduler: LoopScheduler) -> None:
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))

    async def effect() -> str:
        return "item"

    def raises(_: str) -> None:
        raise ValueError("observer")

    once = Shared(from_async(effect))
    once.subscribe(raises, lambda _: None, scheduler=loop_scheduler)
    heard = collect(once, loop_scheduler)
    await loop_scheduler.close()
    assert heard == ["item", "|"]
    gc.collect()  # asyncio tells when the task is forgotten
    assert [str(context["exception"]) for context in reported] == ["observer"]
