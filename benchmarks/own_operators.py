"""What each of our operators costs while it waits, against the nearest composition of the library's operators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from timing import row
from waiting_job import cost

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.rx.all_done import all_done
from wakestream.operators.rx.concat_unless import concat_unless
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.first_success import first_success
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.interval import interval
from wakestream.operators.rx.poll import poll
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.shared import Shared
from wakestream.operators.rx.sources import concat, of, start_with, throw
from wakestream.operators.rx.switch_by_type import switch_by_type
from wakestream.operators.rx.then import then
from wakestream.operators.rx.timeout import each_item, timeout

Make = Callable[[], Observable[Any]]
WAITS: Observable[Any] = rx.never()
LOST = ConnectionError("lost")


async def _call() -> None:
    await asyncio.get_running_loop().create_future()


def _last(stage: Callable[[Any], Observable[Any]]) -> Callable[[Observable[Any]], Observable[Any]]:
    return ops.publish(lambda shared: rx.merge(shared, shared.pipe(ops.last(), ops.flat_map(stage))))


def _late(_: Any) -> Observable[Any]:
    return throw(TimeoutError())


PAIRS: dict[str, tuple[Make, Make]] = {
    "then": (
        lambda: of(1).pipe(then(lambda _: WAITS, lambda _: WAITS)),
        lambda: of(1).pipe(_last(lambda _: WAITS), _last(lambda _: WAITS)),
    ),
    "switch_by_type": (
        lambda: concat(of(1), WAITS).pipe(switch_by_type({int: lambda _: WAITS})),
        lambda: rx.concat(of(1), WAITS).pipe(ops.map(lambda _: WAITS), ops.switch_latest()),
    ),
    "retry_backoff": (
        lambda: throw(LOST).pipe(retry_backoff(Backoff(initial=30.0), Random(1))),
        lambda: throw(LOST).pipe(ops.catch(lambda _, source: rx.timer(30.0).pipe(ops.flat_map(source)))),
    ),
    "poll": (
        lambda: of(0).pipe(poll(30.0, bool)),
        lambda: of(0).pipe(
            ops.concat(rx.timer(30.0).pipe(ops.ignore_elements())), ops.repeat(), ops.take_while(lambda item: not item)
        ),
    ),
    "timeout, on the whole": (
        lambda: WAITS.pipe(timeout(30.0, "reply")),
        lambda: rx.merge(WAITS, rx.timer(30.0).pipe(ops.flat_map(_late))),
    ),
    "timeout, between items": (
        lambda: WAITS.pipe(timeout(30.0, "transfer", reset=each_item)),
        lambda: WAITS.pipe(ops.timeout(30.0)),
    ),
    "interval": (lambda: interval(30.0, str), lambda: rx.interval(30.0).pipe(ops.map(str))),
    "from_async": (
        lambda: from_async(_call),
        lambda: rx.defer(lambda _: rx.from_future(asyncio.ensure_future(_call()))),
    ),
    "Shared": (lambda: Shared(WAITS), lambda: WAITS.pipe(ops.replay(1), ops.ref_count())),
    "concat_unless": (lambda: of(0).pipe(concat_unless(bool, WAITS)), lambda: rx.concat(of(0), WAITS)),
    "start_with": (lambda: WAITS.pipe(start_with(1)), lambda: WAITS.pipe(ops.start_with(1))),
    "all_done": (lambda: all_done(WAITS, WAITS), lambda: rx.fork_join(WAITS, WAITS)),
    "first_success": (lambda: first_success(WAITS, WAITS), lambda: rx.amb(WAITS, WAITS)),
}
"""By operator: ours, and the library's composition that comes nearest. docs/decisions/35 says how they differ."""


async def main() -> bool:
    """Print a row for each operator; True if each of our operators needs at most the memory of the library's."""
    scheduler, held = LoopScheduler(), []

    def begin(make: Make) -> Callable[[int], Any]:
        return lambda _: make().subscribe(lambda _: None, lambda _: None, scheduler=scheduler)

    print("an operator that waits: bytes and microseconds, ours and the library's")
    for name, pair in PAIRS.items():
        results = []
        for make in pair:
            results.append(cost(begin(make)))
            await asyncio.sleep(0)
        (size, seconds), (their_size, their_seconds) = results
        held.append(row(f"{name}: memory", size, their_size, 1.0))
        print(f"        {size:6.0f} B {seconds * 1e6:6.1f} us     {their_size:6.0f} B {their_seconds * 1e6:6.1f} us")
    await scheduler.close()
    return all(held)
