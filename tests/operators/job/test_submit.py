"""What each reply of the hub leads to; the whole wait is tested in tests/streams/test_job.py."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from reactivex import Observable
from reactivex.subject import Subject
from stage import AUDIO, JOB, VIDEO, Stage

from wakestream.operators import errors
from wakestream.operators import events as e
from wakestream.operators.job.submit import submit
from wakestream.operators.policy import Policy
from wakestream.operators.ports import Accepted, Asleep, BootFailure, LinkDown, LinkUp, Refused, Reply, Stirring, Woken

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

    def release(self, job: e.Job, *, cancelled: bool = False) -> None:
        """Not asked of this stage."""


async def run(hub: Hub, policy: Policy | None = None) -> Stage:
    stage = Stage()
    await stage.run(submit(JOB, hub, stage.readings, policy or Policy()))
    return stage


async def test_a_new_hub_is_asked_before_and_an_old_one_after_the_files_are_hashed() -> None:
    for link, files in ((NEW, ()), (OLD, (VIDEO, AUDIO))):
        hub = Hub((1.0, link), (2.0, Accepted("gpu", "http://x")))
        stage = await run(hub)
        assert [asked for _, asked in hub.asked] == [files]
        assert [item for _, item in stage.items] == [e.Granted("online", 2.0, "gpu", "http://x")]


async def test_an_answer_after_a_wait_is_the_offline_branch() -> None:
    stage = await run(Hub((0.0, NEW), (1.0, Asleep("booting", 2)), (25.0, Accepted())))
    kinds = [type(item) for _, item in stage.items]
    assert kinds == [e.Queued, e.Waking, e.Waking, e.Granted]
    assert [at for at, _ in stage.items] == [1.0, 11.0, 21.0, 25.0]


async def test_the_broadcast_counts_only_for_those_who_were_told_to_wait() -> None:
    asleep = await run(Hub((0.0, OLD), (1.0, Asleep()), (9.0, Woken("gpu", "http://x"))))
    assert asleep.items[-1][1].url == "http://x"
    awake = await run(Hub((0.0, OLD), (9.0, Woken())), Policy(reply=20.0))
    assert isinstance(awake.end, errors.StageTimeout)


async def test_each_new_connection_is_asked_again() -> None:
    hub = Hub((0.0, NEW), (1.0, Asleep()), (5.0, LinkDown("cut")), (7.0, NEW), (8.0, Accepted()))
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


async def test_news_of_the_machine_is_told_and_the_wait_goes_on() -> None:
    stage = await run(Hub((0.0, NEW), (1.0, Asleep()), (2.0, Stirring("booted")), (3.0, Accepted())))
    assert [getattr(item, "phase", None) for _, item in stage.items] == ["booting", "booted", None]


async def test_news_before_any_answer_is_no_answer() -> None:
    stage = await run(Hub((0.0, NEW), (2.0, Stirring("booted"))), Policy(reply=10.0))
    assert isinstance(stage.end, errors.StageTimeout)
    assert stage.items == []
