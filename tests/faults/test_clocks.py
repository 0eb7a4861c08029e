"""The clock is set by an hour or a day, forwards or back: no lease is lost, and no wait becomes longer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faults.programs_in_one_loop import bounded
from tests.support.programs.our_peers import Place, until
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.testing.memory_journal import FakeJournal
from wakestream.operators.model.ports import LinkUp
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.hub.rows import event_row
from wakestream.streams.hub.state import WarmHours
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Row
from wakestream.streams.recording.secrets import REDACTED
from wakestream.streams.replay.input_rows import event_from

STEPS = pytest.mark.parametrize("by", [3600.0, 86_400.0, -3600.0, -86_400.0])
NOW = 1_700_000_000.0


class Desk:
    """A hub's decider, and its two clocks in hand."""

    def __init__(self) -> None:
        self.state, self.now = hub.HubState(), NOW
        self.journal: list[f.Fact] = []
        self.commands: list[f.Command] = []

    def happens(self, event: f.Event) -> None:
        facts, self.commands = map(list, hub.DECIDER.step(self.state, event, self.now))
        self.journal += [fact for fact in facts if fact.DURABLE]

    def steps(self, by: float) -> None:
        self.now += by
        self.happens(f.ClockMoved(by))

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.happens(f.Tick())

    def joins(self, fd: int, who: f.License, **register: Any) -> None:
        self.happens(f.Opened(fd))
        self.happens(f.Registering(fd, m.Register(**register), who.id, who))

    def sent(self, kind: type[m.Message]) -> list[Any]:
        return [c.message for c in self.commands if isinstance(c, f.Send) and isinstance(c.message, kind)]


@pytest.fixture
def desk() -> Desk:
    """A GPU is online, an old client holds it, and our client waits for nothing."""
    desk = Desk()
    desk.joins(1, f.License("c", "client"), key="c")
    desk.joins(2, f.License("w", "worker"), role="worker", gpu="gpu", url="http://w")
    desk.joins(3, f.License("m", "monitor"), role="gpu_monitor", gpus=("gpu",), features=("power_state",))
    desk.happens(f.Received(2, m.Online(gpu="gpu")))
    desk.happens(f.Received(1, m.Submit(request_id="job", payload={})))
    return desk


@STEPS
@pytest.mark.parametrize("connected", [True, False])
def test_no_lease_is_lost_by_it_and_none_lasts_longer(desk: Desk, by: float, connected: bool) -> None:
    if not connected:
        desk.happens(f.Closed(1))
    desk.passes(1800.0)
    desk.steps(by)
    desk.passes(1.0)
    assert "job" in desk.state.jobs
    desk.passes(1800.0)
    assert "job" not in desk.state.jobs  # after an hour without a sign of work, as an old client's lease ends


@STEPS
def test_no_job_is_lost_when_a_hub_with_another_clock_takes_over(desk: Desk, by: float) -> None:
    desk.happens(f.Received(1, m.Submit(request_id="waits", payload={})))
    desk.passes(60.0)
    assert desk.state.jobs.keys() == {"job", "waits"}
    desk.now += by
    desk.state = hub.DECIDER.recover(desk.journal)
    desk.happens(f.ProcessStarted())
    desk.joins(4, f.License("w", "worker"), role="worker", gpu="gpu", url="http://w")
    desk.happens(f.Received(4, m.Online(gpu="gpu")))
    for _ in range(60):
        desk.passes(1.0)
    assert desk.state.jobs.keys() == {"job", "waits"}
    assert desk.state.jobs["job"].gpu == "gpu"
    desk.joins(5, f.License("c", "client"), key="c")
    desk.happens(f.Received(5, m.JobDone(request_id="job")))
    assert desk.state.jobs["waits"].gpu == "gpu"


@STEPS
def test_a_stop_that_was_announced_is_neither_called_off_at_once_nor_awaited_for_a_day(desk: Desk, by: float) -> None:
    desk.happens(f.Received(1, m.Cancel(request_id="job")))
    desk.passes(100.0)
    desk.happens(f.Received(3, m.TaskQuery(request_id="q", gpu="gpu", drain=True)))
    assert [answer.active_count for answer in desk.sent(m.TaskQueryResponse)] == [0]
    desk.steps(by)
    desk.passes(1.0)
    assert desk.state.gpus["gpu"].phase == "draining"
    desk.passes(61.0)
    assert desk.state.gpus["gpu"].phase == "online"


@STEPS
def test_a_worker_whose_address_does_not_come_is_online_after_the_same_time(desk: Desk, by: float) -> None:
    desk.happens(f.Received(3, m.PowerState(gpu="gpu", state="off", url_follows=True)))
    desk.happens(f.Closed(2))
    desk.joins(4, f.License("w", "worker"), role="worker", gpu="gpu")
    desk.happens(f.Received(4, m.Online(gpu="gpu")))
    desk.passes(5.0)
    desk.steps(by)
    desk.passes(24.0)
    assert not desk.state.gpus["gpu"].online
    desk.passes(2.0)
    assert desk.state.gpus["gpu"].online


@STEPS
def test_a_gpu_that_is_off_in_its_keep_warm_hours_is_asked_for_after_the_same_time(desk: Desk, by: float) -> None:
    hours = WarmHours({"gpu": ("daily 00:00-12:00", "daily 12:00-24:00")})
    desk.state.limits = hub.Limits(keep_warm=hours)
    desk.happens(f.Closed(2))
    desk.happens(f.Received(3, m.PowerState(gpu="gpu", state="off")))
    desk.passes(1.0)
    assert len(desk.sent(m.Boot)) == 1
    desk.steps(by)
    desk.passes(298.0)
    assert desk.sent(m.Boot) == []
    desk.passes(3.0)
    assert len(desk.sent(m.Boot)) == 1


@STEPS
def test_a_job_is_told_the_same_time_to_the_next_try_for_capacity(desk: Desk, by: float) -> None:
    desk.happens(f.Closed(2))
    desk.happens(f.Received(3, m.PowerState(gpu="gpu", state="no_capacity", retry_in=60)))
    desk.steps(by)
    desk.happens(f.Received(1, m.Submit(request_id="job", payload={})))
    assert [answer.retry_in for answer in desk.sent(m.Offline)] == [60]


@STEPS
def test_work_of_a_minute_ago_is_recent_and_that_of_an_hour_ago_is_not(desk: Desk, by: float) -> None:
    desk.happens(f.Received(2, m.TaskActive(task_id="t")))
    desk.steps(by)
    desk.happens(f.Received(3, m.TaskQuery(request_id="q", gpu="gpu")))
    assert [answer.has_recent_active for answer in desk.sent(m.TaskQueryResponse)] == [True]
    desk.passes(90.0)
    desk.happens(f.Received(3, m.TaskQuery(request_id="q", gpu="gpu")))
    assert [answer.has_recent_active for answer in desk.sent(m.TaskQueryResponse)] == [False]


@STEPS
def test_the_ledger_counts_what_ran_and_not_what_the_clock_was_set_by(desk: Desk, by: float) -> None:
    desk.passes(600.0)
    desk.steps(by)
    desk.passes(600.0)
    desk.happens(f.Received(3, m.PowerState(gpu="gpu", state="off")))
    assert desk.state.gpus["gpu"].account.ran(0.0, desk.now) == pytest.approx(1200.0, abs=1.0)


@STEPS
def test_a_restart_restores_the_hubs_state(desk: Desk, by: float) -> None:
    desk.passes(10.0)
    desk.steps(by)
    again = hub.DECIDER.recover(desk.journal)
    assert {job.id: (job.gpu, job.since) for job in again.jobs.values()} == {
        job.id: (job.gpu, job.since) for job in desk.state.jobs.values()
    }
    short = hub.DECIDER.restore(hub.DECIDER.snapshot(desk.state))
    assert [job.since for job in short.jobs.values()] == [job.since for job in desk.state.jobs.values()]


@pytest.mark.parametrize(
    "event",
    [
        f.ClockMoved(-3600.0),
        f.BookSeen((("w", "worker", ("one",)),), (("w", 1.0),), (("c", 3),)),
        f.Registering(1, m.Register(key=REDACTED), REDACTED, f.License("c", "client", max_priority=5)),
    ],
    ids=["clock", "licenses", "register"],
)
def test_an_event_is_on_the_record_and_is_replayed_whole(event: f.Event) -> None:
    direction, label, data, job = event_row(event, NOW)
    assert event_from(Row(1, 0.0, direction, label, data, job)) == event


def starts_anew(before: Desk, now: float) -> Desk:
    """The hub's next life, which begins when the clock says `now`, with worker and monitor back."""
    desk = Desk()
    desk.state, desk.now, desk.journal = hub.DECIDER.recover(before.journal), now, list(before.journal)
    desk.happens(f.ProcessStarted())
    desk.joins(2, f.License("w", "worker"), role="worker", gpu="gpu", url="http://w")
    desk.joins(3, f.License("m", "monitor"), role="gpu_monitor", gpus=("gpu",), features=("power_state",))
    desk.happens(f.Received(2, m.Online(gpu="gpu")))
    return desk


def lets_the_gpu_go(desk: Desk) -> None:
    """An hour after its client has gone, a lease expires and the GPU is free."""
    desk.passes(1800.0)
    assert "job" in desk.state.jobs
    desk.passes(1801.0)
    assert "job" not in desk.state.jobs
    desk.happens(f.Received(3, m.TaskQuery(request_id="q", gpu="gpu")))
    (answer,) = desk.sent(m.TaskQueryResponse)
    assert (answer.active_count, answer.has_recent_active) == (0, False)


BEHIND = pytest.mark.parametrize("by", [3600.0, 10 * 86_400.0, 10 * 365 * 86_400.0])


@BEHIND
def test_a_corrected_clock_does_not_make_a_lease_endless(desk: Desk, by: float) -> None:
    lets_the_gpu_go(starts_anew(desk, NOW - by))


@BEHIND
def test_nor_when_the_hub_starts_before_its_machine_knows_the_time(desk: Desk, by: float) -> None:
    again = starts_anew(desk, NOW + 60.0 - by)
    again.steps(by)
    lets_the_gpu_go(again)


@BEHIND
def test_the_ledger_counts_on_when_the_clock_was_ahead(desk: Desk, by: float) -> None:
    desk.passes(600.0)
    again = starts_anew(desk, desk.now - by)
    again.passes(3000.0)
    account = again.state.gpus["gpu"].account
    assert account.ran(0.0, again.now) == pytest.approx(3000.0)
    assert account.running_since is not None
    assert account.running_since < again.now


# --- the program


class Clocks:
    """A wall clock that is set, and a monotonic one."""

    def __init__(self) -> None:
        self.wall, self.steady = NOW, 5.0


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[tuple[Place, HubServer, Clocks]]:
    place, clocks = Place(tmp_path), Clocks()
    async with open_hub(
        HubConfig(place.book, clock=lambda: clocks.wall, steady=lambda: clocks.steady), FakeJournal[f.Fact]()
    ) as running:
        place.hub_url = running.url
        yield place, running, clocks


@STEPS
@bounded
async def test_a_running_hub_keeps_its_leases_at_a_clock_change(
    place: tuple[Place, HubServer, Clocks], by: float
) -> None:
    at, running, clocks = place
    told: list[Any] = []
    link = Link(at.hub_url, lambda: m.Register(key=at.keys["client"]))
    link.events.subscribe(told.append)
    await until(lambda: any(isinstance(each, LinkUp) for each in told))
    link.send(m.Submit(request_id="job", payload={}))
    await until(lambda: any(isinstance(each, m.Offline) for each in told))
    since = running.state.jobs["job"].since
    clocks.wall += by
    running.happen(f.Tick())
    assert running.state.jobs["job"].since == pytest.approx(since + by, abs=1.0)
    await link.close()
    await until(lambda: running.state.jobs["job"].gone is not None)
    running.happen(f.Tick())
    await asyncio.sleep(0)
    assert "job" in running.state.jobs


@bounded
async def test_small_clock_corrections_are_followed_silently(place: tuple[Place, HubServer, Clocks]) -> None:
    _, running, clocks = place
    facts: list[f.Fact] = []
    running.on_fact = facts.append
    for _ in range(1000):
        clocks.wall, clocks.steady = clocks.wall + 1.001, clocks.steady + 1.0
        running.happen(f.Tick())
    assert not any(isinstance(fact, f.ClockSet) for fact in facts)
