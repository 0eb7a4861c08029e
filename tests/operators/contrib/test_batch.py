"""A gate that opens for many at once: when it is full, or when the time is up."""

import asyncio

import pytest
from reactivex import abc
from reactivex.testing import TestScheduler

from wakestream.operators.contrib.batch import Barrier, BatchState
from wakestream.operators.rx.core.scheduler import LoopScheduler, seconds_now
from wakestream.operators.rx.to_future import to_future


class Crowd:
    """Jobs that join a batch, and what each got, with the time."""

    def __init__(self, size: int, within: float) -> None:
        self.scheduler = TestScheduler()
        self.batch = Barrier(size, within)
        self.told: dict[str, list[tuple[float, str, int]]] = {}

    def join(self, name: str) -> abc.DisposableBase:
        told = self.told.setdefault(name, [])

        def hear(news: BatchState) -> None:
            told.append((seconds_now(self.scheduler), news.state, news.count))

        def over() -> None:
            told.append((seconds_now(self.scheduler), "|", 0))

        return self.batch.wait().subscribe(hear, on_completed=over, scheduler=self.scheduler)

    def at(self, seconds: float) -> None:
        self.scheduler.advance_to(seconds)


def test_it_goes_when_it_is_full() -> None:
    crowd = Crowd(2, 60)
    crowd.join("a")
    crowd.at(10)
    crowd.join("b")
    crowd.at(11)
    assert crowd.told == {"a": [(0, "held", 1), (10, "full", 2), (10, "|", 0)], "b": [(10, "full", 2), (10, "|", 0)]}


def test_it_goes_when_the_first_has_waited_long_enough() -> None:
    crowd = Crowd(3, 60)
    crowd.join("a")
    crowd.at(50)
    crowd.join("b")
    crowd.at(200)
    assert crowd.told["a"] == [(0, "held", 1), (60, "due", 2), (60, "|", 0)]
    assert crowd.told["b"] == [(50, "held", 2), (60, "due", 2), (60, "|", 0)]


def test_the_next_batch_counts_again() -> None:
    crowd = Crowd(2, 60)
    for name in "abc":
        crowd.join(name)
    crowd.at(100)
    assert crowd.told["c"] == [(0, "held", 1), (60, "due", 1), (60, "|", 0)]


def test_a_job_that_leaves_is_not_counted_or_waited_for() -> None:
    crowd = Crowd(2, 60)
    leaving = crowd.join("a")
    crowd.at(10)
    leaving.dispose()
    crowd.join("b")
    crowd.at(20)
    assert crowd.told["b"] == [(10, "held", 1)]
    crowd.at(100)
    assert crowd.told["a"] == [(0, "held", 1)]
    assert crowd.told["b"][1:] == [(70, "due", 1), (70, "|", 0)]


def test_a_batch_of_one_does_not_wait() -> None:
    crowd = Crowd(1, 60)
    crowd.join("a")
    crowd.at(1)
    assert crowd.told["a"] == [(0, "full", 1), (0, "|", 0)]


def test_a_job_that_passed_the_barrier_passes_again() -> None:
    scheduler, batch, heard = TestScheduler(), Barrier(2, 60), list[str]()
    place = batch.wait()
    for _ in range(2):
        place.subscribe(lambda news: heard.append(news.state), scheduler=scheduler)
        scheduler.advance_by(100)
    assert heard == ["held", "due", "passed"]


async def test_a_job_that_raises_does_not_block_the_batch() -> None:
    loop, scheduler, batch = asyncio.get_running_loop(), LoopScheduler(), Barrier(2, 60)
    faults: list[object] = []
    loop.set_exception_handler(lambda _, context: faults.append(str(context["exception"])))

    def broken(news: BatchState) -> None:
        if news.state == "full":
            raise ValueError("broken")

    batch.wait().subscribe(broken, scheduler=scheduler)
    assert await to_future(scheduler)(batch.wait()) == BatchState(2, 2, "full")
    assert faults == ["broken"]


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Barrier(0, 60)
