"""What each reply of the hub leads to; the whole wait is tested in tests/streams/jobs/test_job.py."""

import asyncio
from collections.abc import Sequence

import pytest
from reactivex import Observable
from reactivex.subject import Subject

from tests.support.streams.stage_scene import AUDIO, VIDEO, Stage
from wakestream.adapters.testing.fakes import FakeWorker, FakeWorkers
from wakestream.operators.model import errors
from wakestream.operators.model import events as e
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import (
    Accepted,
    BootFailure,
    Busy,
    Free,
    Health,
    LinkDown,
    LinkUp,
    OfflineReply,
    OnlineNotice,
    PowerNotice,
    Refused,
    Reply,
)

NEW, OLD = LinkUp(frozenset({"late_hashes"})), LinkUp()


class Hub:
    """Says what the test schedules, and notes what it is asked."""

    def __init__(self, *script: tuple[float, Reply]) -> None:
        self.script = script
        self.asked: list[tuple[float, Sequence[e.Fingerprint]]] = []

    def replies(self, job: e.Job) -> Observable[Reply]:
        said: Subject[Reply] = Subject()
        for at, reply in self.script:
            asyncio.get_running_loop().call_later(at, said.on_next, reply)
        return said

    def submit(self, job: e.Job, files: Sequence[e.Fingerprint] = ()) -> None:
        self.asked.append((asyncio.get_running_loop().time(), files))

    def order(self, jobs: Sequence[str]) -> None:
        raise AssertionError(jobs)

    def release(self, job: e.Job, *, cancelled: bool = False) -> None:
        """Not asked of this stage."""


async def run(hub: Hub, policy: Policy | None = None) -> Stage:
    stage = Stage()
    await stage.run(stage.of(policy, hub=hub).submit())
    return stage


async def test_a_wait_for_money_says_until_when_and_has_no_time_limit() -> None:
    unpaid = OfflineReply("budget", 1, None, 90_000.0)
    hub = Hub((0, NEW), (1, unpaid), (50_000, PowerNotice("stopping")), (90_000, OfflineReply("booting", 1)))
    stage = await run(hub, Policy(online=60.0, line_every=1000.0))
    queued = [event for _, event in stage.items if isinstance(event, e.Queued)]
    assert [(event.phase, event.until) for event in queued] == [("budget", 90_000.0), ("booting", None)]
    lines = [event for _, event in stage.items if isinstance(event, e.Waking) and event.waited < 90_000]
    assert {(event.phase, event.until) for event in lines} == {("budget", 90_000.0)}
    assert isinstance(stage.end, errors.StageTimeout)
    assert asyncio.get_running_loop().time() == 90_059, "the second before the budget was spent counts"


async def test_the_time_limit_counts_again_while_the_hub_that_had_no_money_is_lost() -> None:
    unpaid = OfflineReply("budget", 1, None, 90_000.0)
    stage = await run(
        Hub((0, NEW), (0, unpaid), (1000, LinkDown("cut")), (1020, NEW), (1020, unpaid), (2000, LinkDown("cut"))),
        Policy(online=60.0, line_every=1000.0),
    )
    assert isinstance(stage.end, errors.StageTimeout)
    assert asyncio.get_running_loop().time() == 2040, "20 of the 60 seconds passed without the hub before"


async def test_why_no_gpu_can_be_started_is_shown_at_once_and_repeated() -> None:
    reply = OfflineReply("no_monitor", 1, None, None, "only the GPU attic has the kind paint")
    stage = await run(Hub((0, NEW), (1, reply), (25, Accepted())))
    lines = [event for _, event in stage.items if isinstance(event, e.Waking)]
    assert [line.waited for line in lines] == [1.0, 11.0, 21.0]
    assert {line.why for line in lines} == {"only the GPU attic has the kind paint"}


async def test_a_new_hub_gets_the_submit_before_the_hashes_and_an_old_one_after() -> None:
    for link, files in ((NEW, ()), (OLD, (VIDEO, AUDIO))):
        hub = Hub((1.0, link), (2.0, Accepted("gpu", "http://x")))
        stage = await run(hub)
        assert [asked for _, asked in hub.asked] == [files]
        assert [item for _, item in stage.items] == [e.Granted("online", 2.0, "gpu", "http://x")]


async def test_an_answer_after_a_wait_is_the_offline_branch() -> None:
    stage = await run(Hub((0.0, NEW), (1.0, OfflineReply("booting", 2)), (25.0, Accepted())))
    kinds = [type(item) for _, item in stage.items]
    assert kinds == [e.Queued, e.Waking, e.Waking, e.Granted]
    assert [at for at, _ in stage.items] == [1.0, 11.0, 21.0, 25.0]


async def test_the_broadcast_counts_only_for_queued_jobs() -> None:
    asleep = await run(Hub((0.0, OLD), (1.0, OfflineReply()), (9.0, OnlineNotice("gpu", "http://x"))))
    assert asleep.items[-1][1].url == "http://x"
    awake = await run(Hub((0.0, OLD), (9.0, OnlineNotice())), Policy(reply=20.0))
    assert isinstance(awake.end, errors.StageTimeout)


async def test_each_new_connection_gets_the_submit_again() -> None:
    hub = Hub((0.0, NEW), (1.0, OfflineReply()), (5.0, LinkDown("cut")), (7.0, NEW), (8.0, Accepted()))
    stage = await run(hub)
    assert [at for at, _ in hub.asked] == [0.0, 7.0]
    assert [item.phase for _, item in stage.items if isinstance(item, e.Waking)] == ["hub_lost"]


async def test_refusals_and_failed_boots_end_the_wait() -> None:
    for reply, kind in (
        (Refused("full", "queue_full"), errors.HubRefused),
        (BootFailure("no stock"), errors.BootFailed),
        (LinkDown("revoked", "unauthorized"), errors.HubRefused),
    ):
        stage = await run(Hub((0.0, NEW), (3.0, reply)))
        assert isinstance(stage.end, kind)


async def test_news_of_the_machine_is_emitted_and_the_wait_continues() -> None:
    stage = await run(Hub((0.0, NEW), (1.0, OfflineReply()), (2.0, PowerNotice("booted")), (3.0, Accepted())))
    assert [getattr(item, "phase", None) for _, item in stage.items] == ["booting", "booted", None]


async def test_the_next_try_for_a_machine_is_counted_down() -> None:
    policy = Policy(line_every=10.0)
    asked = Hub((0, NEW), (1, OfflineReply("no_capacity", 1, retry_in=40)), (61, LinkDown("cut")), (62, Refused("no")))
    items = [event for _, event in (await run(asked, policy)).items if isinstance(event, e.Queued | e.Waking)]
    assert [event.retry_in for event in items] == [40, 30, 20, 10, 0, 0, None]
    told = Hub((0, NEW), (1, OfflineReply()), (2, PowerNotice("no_capacity", retry_in=15)), (30, Accepted()))
    items = [event for _, event in (await run(told, policy)).items if isinstance(event, e.Queued | e.Waking)]
    assert [event.retry_in for event in items] == [None, 15, 5, 0]
    again = Hub((0, NEW), (1, OfflineReply("no_capacity", retry_in=5)), (6, PowerNotice("starting")), (8, Accepted()))
    items = [event for _, event in (await run(again, policy)).items if isinstance(event, e.Queued | e.Waking)]
    assert [event.retry_in for event in items] == [5, None]


async def test_news_before_any_answer_is_no_answer() -> None:
    stage = await run(Hub((0.0, NEW), (2.0, PowerNotice("booted"))), Policy(reply=10.0))
    assert isinstance(stage.end, errors.StageTimeout)
    assert stage.items == []


@pytest.mark.parametrize("news", [PowerNotice("booted"), PowerNotice("paused", "its disk is full"), None])
async def test_after_a_reconnection_news_of_the_machine_is_no_answer_either(news: PowerNotice | None) -> None:
    script: list[tuple[float, Reply]] = [(0.0, NEW), (1.0, OfflineReply()), (5.0, LinkDown("cut")), (6.0, NEW)]
    stage = await run(Hub(*script, *([(7.0, news)] if news else [])), Policy(reply=10.0))
    assert isinstance(stage.end, errors.StageTimeout)
    assert (stage.end.stage, asyncio.get_running_loop().time()) == ("reply", 16.0)


async def test_a_busy_hub_is_asked_again_also_after_news_of_the_machine() -> None:
    hub = Hub(
        (0.0, OLD), (1.0, OfflineReply()), (2.0, LinkDown("cut")), (3.0, OLD), (4.0, Busy()), (5.0, PowerNotice("on"))
    )
    await run(hub, Policy(reply=10.0))
    assert [at for at, _ in hub.asked] == [0.0, 3.0, 6.0]


async def test_a_hub_without_a_time_limit_is_waited_for_and_the_wait_for_the_gpu_counts_from_the_first_submit() -> None:
    script: list[tuple[float, Reply]] = [(0.0, LinkDown("nobody")), (90_000.0, NEW), (90_001.0, OfflineReply())]
    stage = await run(Hub(*script), Policy(hub=None, online=60.0, line_every=1000.0))
    assert isinstance(stage.end, errors.StageTimeout)
    assert (stage.end.stage, asyncio.get_running_loop().time()) == ("online", 90_060.0)


async def test_the_wait_for_the_gpu_counts_while_a_hub_that_was_asked_in_an_earlier_attempt_is_lost() -> None:
    stage = await run(Hub((0.0, LinkDown("cut", asked=True))), Policy(hub=None, online=60.0))
    assert isinstance(stage.end, errors.StageTimeout)
    assert (stage.end.stage, asyncio.get_running_loop().time()) == ("online", 60.0)


STRAIGHT = Policy(straight=1.0, hub=30.0)


async def straight(hub: Hub, worker: FakeWorker, policy: Policy = STRAIGHT) -> Stage:
    stage = Stage()
    stage.workers = FakeWorkers({"http://x": worker}, "http://x")
    await stage.run(stage.of(policy, hub=hub).submit())
    return stage


def told(stage: Stage) -> list[tuple[float, str]]:
    return [(at, getattr(item, "phase", type(item).__name__)) for at, item in stage.items]


def asleep_until(seconds: int) -> FakeWorker:
    return FakeWorker(healths=[*[errors.WorkerUnreachable("off")] * seconds, Health(initialized=True)])


async def test_a_busy_hub_is_asked_again_with_growing_delays() -> None:
    hub = Hub((0.0, OLD), (1.0, Busy()), (4.0, Busy()), (9.0, Accepted()))
    stage = await run(hub)
    assert [at for at, _ in hub.asked] == [0.0, 3.0, 8.0]
    assert told(stage) == [(1.0, "busy"), (4.0, "busy"), (9.0, "Granted")]
    assert stage.items[0][1].eta == e.Eta(2.0, 2.0)


async def test_a_hub_that_is_free_again_is_asked_at_once() -> None:
    hub = Hub((0.0, OLD), (1.0, Busy()), (1.5, Free()), (1.75, Accepted()))
    stage = await run(hub)
    assert [at for at, _ in hub.asked] == [0.0, 1.5]
    assert stage.items[-1][0] == 1.75


async def test_a_refusal_that_names_the_job_itself_means_that_it_was_taken() -> None:
    hub = Hub((0.0, OLD), (1.0, Busy(own=True)))
    assert told(await run(hub)) == [(1.0, "Granted")]


async def test_a_job_that_was_taken_before_waits_for_the_worker_where_its_address_is_known() -> None:
    hub = Hub((0.0, OLD), (1.0, Busy(own=True)), (32.0, Busy(own=True)))
    stage = await straight(hub, asleep_until(50))
    assert [at for at, _ in hub.asked] == [0.0, 31.0]
    assert stage.items[-1] == (51.0, e.Granted("online", 51.0))


async def test_a_key_that_stays_taken_keeps_no_job_from_a_worker_that_is_ready() -> None:
    hub = Hub((0.0, OLD), (1.0, Busy()), (4.0, Busy()))
    stage = await straight(hub, FakeWorker())
    assert told(stage) == [(1.0, "busy"), (4.0, "busy"), (4.0, "straight"), (4.0, "Granted")]


async def test_without_a_hub_a_worker_that_is_ready_is_used() -> None:
    stage = await straight(Hub((0.0, LinkDown("nobody"))), asleep_until(3))
    assert told(stage) == [(0.0, "hub_unreachable"), (3.0, "straight"), (3.0, "Granted")]


async def test_an_unresponsive_hub_leaves_time_to_ask_the_worker() -> None:
    stage = await straight(Hub((0.0, LinkDown(connecting=True))), FakeWorker())
    assert told(stage)[-1] == (5.0, "Granted")


async def test_without_a_hub_and_without_a_worker_the_hub_is_named() -> None:
    stage = await straight(Hub((0.0, LinkDown("nobody"))), asleep_until(100))
    assert isinstance(stage.end, errors.HubUnreachable)


async def test_a_hub_that_is_only_started_again_keeps_its_jobs() -> None:
    hub = Hub((0.0, OLD), (1.0, LinkDown("cut")), (5.0, LinkDown("cut")), (9.0, OLD), (12.0, LinkDown("cut")))
    stage = await straight(hub, FakeWorker())
    assert [at for at, _ in hub.asked] == [0.0, 9.0]
    assert told(stage)[-1] == (22.0, "Granted")


async def test_online_before_offline_of_an_old_hub_grants_the_job() -> None:
    hub = Hub((0.0, OLD), (1.0, OnlineNotice()), (1.0, OfflineReply()))
    stage = await straight(hub, FakeWorker())
    assert told(stage) == [(1.0, "booting"), (3.0, "straight"), (3.0, "Granted")]
    assert stage.items[-1][1].branch == "offline"


async def test_a_hub_that_grants_each_job_is_not_passed_by() -> None:
    grants = LinkUp(frozenset({"grant"}))
    hub = Hub((0.0, grants), (1.0, OfflineReply()), (60.0, Accepted("gpu")))
    stage = await straight(hub, worker := FakeWorker())
    assert stage.items[-1][1].gpu == "gpu"
    assert worker.said("health") == []
