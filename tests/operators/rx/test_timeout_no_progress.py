"""A limit on standing still."""

import pytest
from reactivex.testing import TestScheduler

from tests.support.streams.virtual_time import on_completed, on_next, subscribe
from wakestream.operators.model.errors import StageTimeout
from wakestream.operators.rx.timeout_no_progress import timeout_no_progress


@pytest.mark.parametrize(("places", "late"), [((), 245), ("aaaa", 255), ("aabb", 275), ("abca", 285)])
def test_it_counts_from_the_last_change(scheduler: TestScheduler, places: str, late: int) -> None:
    said = [on_next(210 + 10 * number, place) for number, place in enumerate(places)]
    source = scheduler.create_hot_observable(*said)
    result = scheduler.start(lambda: source.pipe(timeout_no_progress(str, 45, "execution")))
    *items, last = result.messages
    assert items == said
    assert last.time == late
    assert isinstance(last.value.exception, StageTimeout)
    assert (last.value.exception.stage, last.value.exception.seconds) == ("execution", 45)
    assert source.subscriptions == [subscribe(200, late)]


def test_a_source_that_ends_in_time_keeps_its_own_end(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(10, "a"), on_next(20, "a"), on_completed(54))
    result = scheduler.start(lambda: source.pipe(timeout_no_progress(str, 45, "execution")))
    assert result.messages == [on_next(210, "a"), on_next(220, "a"), on_completed(254)]
