"""The stage `costs` alone."""

import asyncio
from pathlib import Path

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex.subject import Subject

from tests.support.streams.stage_scene import Stage
from wakestream.operators.contrib.costs import Cost, Meter, costs
from wakestream.operators.model import events as e
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.ports import Accepted, BootFailure, LinkUp, OnlineNotice, PowerNotice, Refused, Reply
from wakestream.operators.rx.sources import start_with

DONE = e.Done(Path("out.mp4"), 1)


def tell(cost: Cost) -> e.JobEvent:
    return e.Note(f"{cost.seconds} s", {"money": cost.money})


async def test_there_is_a_reading_every_now_and_then_and_a_last_one_before_the_outcome() -> None:
    stage, power = Stage(), Subject[Reply]()
    asyncio.get_running_loop().call_later(5.0, power.on_next, PowerNotice("starting"))
    job: Observable[e.JobEvent] = rx.timer(70.0).map(lambda _: DONE)
    events = await stage.run(job.pipe(start_with(e.Queued()), costs(power, 3600.0, tell)))
    readings = [e.Note(f"{seconds} s", {"money": float(seconds)}) for seconds in (25, 55, 65)]
    assert events == [e.Queued(), *readings, DONE]
    assert [round(at) for at, _ in stage.items] == [0, 30, 60, 70, 70]
    assert power.observers == [], "at the end it unsubscribes from the news"


async def test_the_pace_of_the_lines_is_the_users() -> None:
    stage, job = Stage(), rx.timer(10.0).map(lambda _: DONE)
    assert len(await stage.run(job.pipe(costs(rx.never(), 1.0, tell, line_every=3.0)))) == 3 + 2


async def test_an_error_in_the_report_is_the_jobs_error(stage: Stage) -> None:
    def broken(_: Cost) -> e.JobEvent:
        raise WakestreamError("no such word")

    assert await stage.run(rx.never().pipe(costs(rx.never(), 1.0, broken))) == []
    assert str(stage.end) == "no such word"


@pytest.mark.parametrize(
    "news", [Accepted(), OnlineNotice(), *map(PowerNotice, ("starting", "booted", "online", "draining"))]
)
def test_the_meter_runs_from_the_news_that_the_gpu_is_on(news: Reply) -> None:
    meter = Meter(3600.0)
    assert meter.cost(5.0) == Cost(0, 0.0)
    meter.update(news, 10.0)
    meter.update(Accepted(), 15.0)
    assert meter.cost(20.0) == Cost(10, 10.0)


@pytest.mark.parametrize("news", [BootFailure("no power"), PowerNotice("stopping"), PowerNotice("no_capacity")])
def test_the_meter_stops_while_the_gpu_is_off(news: Reply) -> None:
    meter = Meter(3600.0)
    meter.update(PowerNotice("starting"), 0.0)
    meter.update(news, 10.0)
    assert meter.cost(99.0) == Cost(10, 10.0)
    meter.update(PowerNotice("starting"), 100.0)
    assert meter.cost(101.0) == Cost(11, 11.0)


@pytest.mark.parametrize("news", [LinkUp(), Refused("no")])
def test_other_events_change_nothing(news: Reply) -> None:
    meter = Meter(3600.0)
    meter.update(news, 0.0)
    assert meter.cost(10.0).seconds == 0
    meter.update(Accepted(), 10.0)
    meter.update(news, 20.0)
    assert meter.cost(30.0).seconds == 20
