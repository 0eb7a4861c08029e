"""Rows come in a replay in the order in which the recorded program handled them."""

import asyncio

import pytest

from wakestream.streams.recording.recording import Row
from wakestream.streams.replay.row_order import RowOrder

pytestmark = pytest.mark.virtual


async def order_of(*rows: Row, timers: tuple[float, ...]) -> list[tuple[str, float]]:
    """What comes when; the first row waits for no call, the others do."""
    loop, heard = asyncio.get_running_loop(), list[tuple[str, float]]()
    start = loop.time()

    def hear(what: str) -> None:
        heard.append((what, round(loop.time() - start, 6)))

    order = RowOrder(loop, rows, start)
    order.plan(rows[0].t, hear, rows[0].label)
    for row in rows[1:]:
        order.call(row.t, hear, row.label)
    for due in timers:
        loop.call_at(start + due, hear, f"timer {due}")
    await asyncio.sleep(10.0)
    order.close()
    return heard


async def test_a_row_comes_before_the_timers_that_a_busy_loop_fired_after_it() -> None:
    frame, answer = (Row(n, 1.0 + n / 10, "in", f"row {n}", {}, None, lag) for n, lag in ((1, 0.05), (2, 0.15)))
    assert await order_of(frame, answer, timers=(1.02, 1.07, 1.3)) == [
        ("timer 1.02", 1.02), ("row 1", 1.1), ("row 2", 1.2), ("timer 1.07", 1.2), ("timer 1.3", 1.3),
    ]  # fmt: skip


async def test_without_a_lag_timers_fire_in_time() -> None:
    frame, answer = (Row(n, 1.0 + n / 10, "in", f"row {n}", {}) for n in (1, 2))
    assert await order_of(frame, answer, timers=(1.02, 1.15)) == [
        ("timer 1.02", 1.02), ("row 1", 1.1), ("timer 1.15", 1.15), ("row 2", 1.2),
    ]  # fmt: skip
