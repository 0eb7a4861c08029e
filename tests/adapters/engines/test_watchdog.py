"""A hanging engine is noticed and restarted, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.engines.pair import QuietEngine
from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.operators.model.engine import Frame, Line, Made, Waits, Work
from wakestream.operators.model.errors import TaskFailed

pytestmark = pytest.mark.virtual

WORK = Work("task", "kind", {}, {}, ("made",), Path())


class Repeating(QuietEngine):
    """Reports the same frame each second, a new one after `steps` of them; 0: never."""

    def __init__(self, steps: int = 0, ends: int = 100) -> None:
        self.steps, self.ends = steps, ends
        self.cancelled: list[Work] = []

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        for second in range(self.ends):
            await asyncio.sleep(1.0)
            yield Frame(second // self.steps if self.steps else 0, 0, 20.0)

    async def cancel(self, work: Work) -> None:
        self.cancelled.append(work)


async def test_the_same_progress_again_is_no_progress() -> None:
    engine, loop = Repeating(), asyncio.get_running_loop()
    with pytest.raises(TaskFailed, match=r"has not reported anything new for 30 s; restart it"):
        async for _ in Watchdog(30.0).watch(engine, WORK):
            pass
    assert loop.time() == pytest.approx(31.0, abs=0.1)
    assert engine.cancelled == [WORK]


async def test_new_progress_in_time_keeps_the_work() -> None:
    engine = Repeating(steps=20)
    assert len([item async for item in Watchdog(30.0).watch(engine, WORK)]) == 100
    assert engine.cancelled == []


class Queueing(Repeating):
    """Waits for 100 s behind others and says it once; then it works, or hangs."""

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        yield Waits("2 works are before it")
        await asyncio.sleep(100.0)
        yield Line("it works")
        async for frame in super().render(work):
            yield frame


async def test_the_wait_behind_others_is_no_hang_and_what_comes_after_it_may_be() -> None:
    assert len([item async for item in Watchdog(5.0).watch(Queueing(steps=1, ends=9), WORK)]) == 11
    engine, loop = Queueing(), asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TaskFailed, match=r"has not reported anything new for 5 s"):
        async for _ in Watchdog(5.0).watch(engine, WORK):
            pass
    assert loop.time() - began == pytest.approx(106.0, abs=0.1)


async def test_without_a_limit_it_waits() -> None:
    assert len([item async for item in Watchdog().watch(Repeating(), WORK)]) == 100
