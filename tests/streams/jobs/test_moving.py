"""The user's order of the jobs that wait: at each limit, at a GPU that is off, and in a replay."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from random import Random

import pytest

from tests.support.streams.daemon_scene import unreachable
from tests.support.streams.line_scene import Line
from wakestream.adapters.testing.fakes import FakeWorker
from wakestream.adapters.testing.harness import GPU, asleep, awake
from wakestream.operators.model import events as e
from wakestream.operators.model.ports import TaskReceipt
from wakestream.streams.jobs.job_order import LATE, JobOrder, Move, Order
from wakestream.streams.jobs.job_runner import MOVE, ORDER
from wakestream.streams.jobs.turn_stages import LaneLimits
from wakestream.streams.protocol import messages as m
from wakestream.streams.replay.divergence import divergences
from wakestream.streams.replay.replay import replay


def slow(**delays: float) -> FakeWorker:
    """A worker whose calls take some seconds."""
    worker = FakeWorker()
    worker.delays |= delays
    return worker


def test_without_a_move_all_jobs_are_equal_and_a_priority_comes_first() -> None:
    order = JobOrder(lambda job: 5 if job == "urgent" else 0)
    for job in ("a", "b", "urgent"):
        order.add(job)
    assert order.key("a") == order.key("b") > order.key("urgent")
    order.move("b", Move("a", 0))
    assert order.key("urgent") < order.key("b") < order.key("a")
    order.move("a", Move("urgent", 5))
    assert sorted(("a", "b", "urgent"), key=order.key) == ["a", "urgent", "b"]
    order.add("c")
    order.remove("a")
    order.move("b", Move("gone", 0))
    assert sorted(("b", "c", "urgent"), key=order.key) == ["urgent", "c", "b"]


def test_the_order_of_all_is_set_at_once_and_jobs_that_it_does_not_have_come_first() -> None:
    order = JobOrder(lambda job: 5 if job == "urgent" else 0)
    for job in ("a", "b", "urgent", "ending"):
        order.add(job)
    order.arrange(Order(("b", "gone", "urgent", "a"), (5, 5, 5, 0)))
    order.add("new")
    assert sorted(("a", "b", "new", "urgent"), key=order.key) == ["b", "urgent", "a", "new"]
    assert order.key("ending") < order.key("a")
    order.remove("b")
    assert "b" not in order._moved


async def test_the_order_of_all_is_recorded_and_a_replay_has_it() -> None:
    line = Line(LaneLimits(running=2, gpu=1), worker=slow(report=11.0))
    line.start(1, 2, 3, 4, 5)
    await line.passes(10)
    assert line.daemon.arrange(Order(tuple(f"job-{n}" for n in (4, 2, 5, 1, 3, 9)), (0,) * 6))
    await line.passes(1)
    line._answer = awake
    line.wake()
    await line.all()
    assert line.order == [4, 2, 5, 1, 3]
    assert not line.daemon.arrange(Order(("job-1",), (0,)))
    [row] = [row for row in line.log.rows if row.label == ORDER]
    assert (row.job, row.data["jobs"]) == ("job-3", "job-4 job-2 job-5 job-1 job-3 job-9")
    assert (await replay(line.log)).divergences == ()


@pytest.mark.parametrize(("lane", "upload", "report"), [("running", 20, 20), ("uploads", 20, 20), ("gpu", 1, 20)])
async def test_the_next_at_each_limit_is_the_one_that_was_moved(lane: str, upload: float, report: float) -> None:
    line = Line(LaneLimits(**{lane: 1}), awake, worker=slow(upload=upload, report=report))
    line.start(1, 2, 3, 4)
    await line.passes(10)
    assert line.move(4, before=2)
    assert all(isinstance(end, e.Done) for end in await line.all())
    assert line.order == [1, 4, 2, 3]


@pytest.mark.parametrize("known", [False, True])
async def test_when_the_gpu_wakes_the_jobs_come_in_the_order_of_the_user(known: bool) -> None:
    line = Line(worker=slow(upload=20.0))
    if known:  # nothing has to be sent
        first = Line(answer=awake, worker=line.worker)
        first.start(1, 2, 3, 4, 5)
        await first.all()
        line.worker.calls.clear()
    line.start(1, 2, 3, 4, 5)
    await line.passes(10)
    line.move(5, before=1)
    line.move(1)
    line.move(3, before=2)
    line.wake()
    assert all(isinstance(end, e.Done) for end in await line.all())
    assert line.order == [5, 3, 2, 4, 1]
    assert bool(line.worker.said("upload")) is not known


async def test_a_job_that_asks_for_a_gpu_gives_its_place_to_one_that_is_moved_before_it() -> None:
    line = Line(LaneLimits(running=2))
    line.start(1, 2, 3, 4)
    await line.passes(10)
    assert [submit.request_id for submit in line.link.said(m.Submit)] == ["job-1", "job-2"]
    line.move(4, before=1)
    await line.passes(1)
    assert [submit.request_id for submit in line.link.said(m.Submit)] == ["job-1", "job-2", "job-4"]
    waits = line.events["job-2"][-1][1]
    assert isinstance(waits, e.Note)
    assert waits.data == {"waits": "to begin", "limit": 2, "before": 0}
    assert [done.request_id for done in line.link.said(m.JobDone)] == ["job-2"], "no GPU is kept on for it"
    assert line.link.said(m.Cancel) == []
    line.wake()
    line._answer = awake
    assert all(isinstance(end, e.Done) for end in await line.all())
    assert line.order == [4, 1, 2, 3]


async def test_a_job_with_a_gpu_keeps_its_place() -> None:
    line = Line(LaneLimits(running=1), awake, worker=slow(upload=20.0))
    line.start(1, 2)
    await line.passes(5)
    line.move(2, before=1)
    await line.all()
    assert line.order == [1, 2]
    assert len(line.link.said(m.Submit)) == 2


async def test_a_job_that_does_not_arrive_holds_up_the_others_for_a_moment_only() -> None:
    line = Line()
    line.start(1, 2, 3)
    await line.passes(10)
    line.move(3, before=1)
    line.workers.workers["http://far:1"] = far = unreachable()
    for job, url in (("job-1", GPU), ("job-2", GPU), ("job-3", "http://far:1")):
        line.say(m.Ack(request_id=job, gpu="gpu", url=url))
    await line.ends[2]
    assert line.order == [1, 2]
    begun = next(at for at, event in line.events["job-1"] if isinstance(event, e.Uploading))
    assert begun == pytest.approx(10 + LATE, abs=0.1)
    far.gone = None
    line._answer = awake
    await line.all()


async def test_a_cancel_while_it_waits_for_its_place_leaves_the_others_in_order() -> None:
    line = Line(worker=slow(check=1.0))
    line.start(1, 2, 3, 4)
    await line.passes(10)
    line.move(4, before=1)
    line.wake()
    await line.passes(0.5)
    assert line.daemon.cancel("job-4")
    assert [type(end) for end in await line.all()] == [e.Done, e.Done, e.Done, e.Cancelled]
    assert line.order == [1, 2, 3]


@pytest.mark.parametrize("sent", [False, True])
async def test_many_jobs_go_on_in_order_when_their_gpu_wakes(sent: bool) -> None:
    many = list(range(1, 191))
    before = Line(answer=awake)
    if sent:  # the files are at the worker already, so the jobs meet at the limit of the GPU
        before.start(*many)
        await before.all()
        before.worker.calls.clear()
    before.worker.delays |= {"upload": 20.0, "report": 5.0}
    line = Line(worker=before.worker)
    line.start(*many)
    await line.passes(10)
    line.move(190, before=1)
    line._answer = awake
    line.wake()
    assert {type(end) for end in await line.all()} == {e.Done}
    assert line.order == [190, *many[:-1]]


@pytest.mark.parametrize(("step", "expected"), [(0.2, [1, 2, 3, 4]), (LATE + 1, [4, 3, 2, 1])])
async def test_uploads_that_end_in_another_order_change_the_order_only_when_a_job_is_late(
    step: float, expected: list[int]
) -> None:
    class Uneven(FakeWorker):
        async def _called(self, name: str, what: object) -> None:
            if name == "upload":  # the first of them ends last
                self.delays[name] = 10 * step - step * len(self.said(name))
            await super()._called(name, what)

    line = Line(
        LaneLimits(uploads=4), worker=Uneven(known=[hashlib.md5(b"a" * 500, usedforsecurity=False).hexdigest()])
    )
    line.start(2, 3, 4, 1)
    await line.passes(10)
    line.move(1, before=2)
    line._answer = awake
    line.wake()
    assert {type(end) for end in await line.all()} == {e.Done}
    assert line.order == expected


@pytest.mark.parametrize(("first", "expected"), [(LATE - 1, [4, 1, 2, 3]), (LATE + 1, [1, 2, 3, 4])])
async def test_no_call_to_the_worker_overtakes_that_of_a_job_before_it_unless_that_one_is_late(
    first: float, expected: list[int]
) -> None:
    taken: list[str] = []

    class Far(FakeWorker):
        """The first call needs a new connection."""

        async def submit(self, job: e.Job, files: Mapping[str, e.FileRef]) -> TaskReceipt:
            self.delays["submit"] = 0.0 if self.said("submit") else first
            receipt = await super().submit(job, files)
            taken.append(job.id)
            return receipt

    line = Line(LaneLimits(gpu=4), worker=Far())
    line.start(1, 2, 3, 4)
    await line.passes(10)
    line.move(4, before=1)
    line._answer = awake
    line.wake()
    assert {type(end) for end in await line.all()} == {e.Done}
    assert taken == [f"job-{n}" for n in expected]
    assert line.order == [4, 1, 2, 3]
    assert (await replay(line.log)).divergences == ()


async def test_one_late_job_does_not_change_the_order_of_the_others() -> None:
    line = Line()
    line.start(1, 2, 3, 4)
    await line.passes(10)
    line.move(4, before=1)
    line.move(3, before=1)
    line.workers.workers["http://far:1"] = unreachable()
    for n, url, pause in ((4, "http://far:1", 0), (1, GPU, 0.3), (3, GPU, 0), (2, GPU, 0)):
        line.say(m.Ack(request_id=f"job-{n}", gpu="gpu", url=url))
        await line.passes(pause)
    await line.passes(20)
    assert line.order == [3, 1, 2]


async def test_a_job_gives_its_place_as_soon_as_the_hub_has_said_that_it_waits() -> None:
    line = Line(LaneLimits(running=1), lambda _: None)
    line.link.disconnect()
    line.start(1, 2)  # perhaps from before a restart, with its task at the worker
    await line.passes(5)
    line.move(2, before=1)
    line.link.connect(*line._features)
    await line.passes(2)
    assert [said.request_id for said in line.link.said(m.Submit)] == ["job-1"]
    line._answer = asleep
    line.say(asleep(line.link.said(m.Submit)[0]))
    await line.passes(2)
    assert [said.request_id for said in line.link.said(m.Submit)] == ["job-1", "job-2"]
    assert [said.request_id for said in line.link.said(m.JobDone)] == ["job-1"]
    line._answer = awake
    line.wake()
    await line.all()
    assert line.order == [2, 1]
    assert (await replay(line.log)).divergences == ()


async def test_moves_are_recorded_and_a_replay_has_the_same_order() -> None:
    line = Line(LaneLimits(running=3, uploads=1, gpu=1), worker=slow(upload=7.0, report=11.0))
    line.start(1, 2, 3, 4, 5, 6)
    await line.passes(10)
    line.move(6, before=1)
    line.move(2)
    await line.passes(10)
    line._answer = awake
    line.wake()
    await line.passes(15)
    line.move(5, before=3, priority=2)
    await line.all()
    log = line.log
    assert [row.data for row in log.rows if row.label == MOVE][-1] == {"before": "job-3", "priority": 2}
    replayed = await replay(log)
    assert replayed.divergences == ()
    assert [row.job for row in replayed.again.rows if row.label == "submitted"] == [f"job-{n}" for n in line.order]
    unmoved = [row for row in log.rows if row.label != MOVE]
    again = (await replay(type(log)(log.header, tuple(unmoved)))).again
    assert divergences(log, again), "the moves matter"


@pytest.mark.parametrize("seed", range(12))
async def test_after_random_moves_the_worker_gets_the_jobs_in_their_order(seed: int) -> None:
    random = Random(seed)
    line = Line(LaneLimits(random.choice((1, 2, 5, 200)), gpu=random.choice((1, 8))), worker=slow(report=5.0))
    expected = list(range(1, 11))
    line.start(*expected)
    for _ in range(15):
        n, before = random.sample(expected, 2)
        last = random.random() < 0.2
        expected.remove(n)
        expected.insert(len(expected) if last else expected.index(before), n)
        assert line.move(n, None if last else before)
        await line.passes(1.0)
    line._answer = awake
    line.wake()
    await line.all()
    assert line.order == expected


@pytest.mark.parametrize("seed", range(12))
async def test_random_moves_and_cancels_lose_no_job_and_start_none_twice(seed: int) -> None:
    random = Random(seed)
    limits = LaneLimits(random.choice((1, 3, 200)), random.choice((1, 2)), random.choice((1, 3)))
    line = Line(limits, worker=slow(upload=3.0, report=5.0, check=0.2))
    numbers = list(range(1, 13))
    line.start(*numbers)
    cancelled = set[int]()
    for step in range(25):
        await line.passes(random.choice((0.01, 0.1, 4.0)))
        if step == 8:
            line._answer = awake
            line.wake()
        line.move(random.choice(numbers), random.choice([None, *numbers]), random.choice((0, 0, 0, 3)))
        await line.passes(0.01)
        if random.random() < 0.1:
            cancelled.add(random.choice(numbers))
            line.daemon.cancel(f"job-{max(cancelled)}")
    ends = await line.all()
    assert all(isinstance(end, e.Done | e.Cancelled) for end in ends)
    assert {n for n, end in zip(numbers, ends, strict=True) if isinstance(end, e.Cancelled)} <= cancelled
    assert len(line.order) == len(set(line.order))
    for lane in (line.lanes.running, line.lanes.uploads, line.lanes.gpu, line.lanes.downloads):
        assert (lane.running, lane.waiting) == (0, 0)
    assert line.lanes.asking == {}
    assert (await replay(line.log)).divergences == ()
