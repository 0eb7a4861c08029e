"""Which ends cause a webhook, its contents, that both are committed together, and how long it is retried."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.streams.outbox import test_outbox as outbox_desk
from tests.support.streams.submitting import submitting
from wakestream.operators.model import events as e
from wakestream.operators.model.errors import WakestreamError, WorkerUnreachable
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.limiter import Limiter
from wakestream.operators.rx.to_future import to_future
from wakestream.streams import webhooks
from wakestream.streams.outbox import facts as f
from wakestream.streams.outbox import outbox
from wakestream.streams.webhooks import WebhookOwed, WebhookSettled

READING = e.Fingerprint(Path("/in/a.mp4"), 10, 1, {})
CHECKED = e.Checked(outbox_desk.WORKER, {"video": READING, "audio": READING}, "md5", ())


class Desk(outbox_desk.Desk):
    """An outbox whose jobs have webhooks."""

    def __init__(self) -> None:
        super().__init__(webhook=True)

    @property
    def owed(self) -> list[WebhookOwed]:
        return list(self.state.pending.values())


def test_a_done_job_commits_its_webhook_with_its_end() -> None:
    desk = Desk().submit().says(e.Uploaded(CHECKED, 25, 5)).says(e.Done(Path("/out/a.mp4"), 30))
    assert [type(fact) for fact in desk.facts] == [f.JobEnded, WebhookOwed]
    (owed,) = desk.owed
    assert desk.commands[-1] == f.Notify("a", owed)
    assert owed.news == {
        "id": "a",
        "event": "job.done",
        "outcome": "done",
        "files": {"video": "/in/a.mp4", "audio": "/in/a.wav", "output": "/out/a.mp4"},
        "times": {"accepted": 101.0, "ended": 103.0},
        "bytes": {"video": 10, "audio": 20, "sent": 25, "result": 30},
    }


def test_a_job_of_any_kind_shows_its_inputs_apart_whatever_their_names() -> None:
    desk = Desk()
    names = ("output", "sent", "result")
    inputs = {name: f.FileStat(f"/in/{name}.bin", size, 1) for size, name in enumerate(names, 1)}
    desk.happens(submitting(1, "a", inputs, {"whole": "/out/a.bin"}, "join", params={"times": 2}))
    desk.says(e.Done(Path("/out/a.bin"), 30))
    (owed,) = desk.owed
    assert owed.news == {
        "id": "a",
        "event": "job.done",
        "outcome": "done",
        "files": {"output": "/out/a.bin"},
        "times": {"accepted": 101.0, "ended": 102.0},
        "bytes": {"sent": 0, "result": 30},
        "kind": "join",
        "inputs": {name: {"path": f"/in/{name}.bin", "bytes": size} for size, name in enumerate(names, 1)},
        "params": {"times": 2},
        "outputs": {"whole": "/out/a.bin"},
    }


@pytest.mark.parametrize(
    ("end", "event", "why"),
    [
        (e.Failed("no luck", "task_failed"), "job.failed", "no luck"),
        (e.TimedOut("online", 60.0, ""), "job.failed", "online: nothing within 60 s"),
        (e.Cancelled(), None, None),
    ],
)
def test_failures_are_sent_and_cancelled_jobs_are_not(end: e.JobEvent, event: str | None, why: str | None) -> None:
    told = [owed.news for owed in Desk().submit().says(end).owed]
    assert [(news["event"], news["why"]) for news in told] == ([] if event is None else [(event, why)])


def test_bytes_that_went_over_the_wire_in_several_attempts_are_summed_up() -> None:
    desk = Desk().submit().says(e.Uploaded(CHECKED, 25, 5)).says(e.Queued()).says(e.Uploaded(CHECKED, 7, 23))
    assert desk.says(e.Done(Path("/out/a.mp4"), 30)).owed[0].news["bytes"]["sent"] == 32


def test_a_job_is_not_forgotten_while_its_program_waits_for_the_webhook() -> None:
    desk = Desk()
    desk.state.ended_most, desk.state.webhook = 1, False
    caller = f.Caller("shop", webhook="https://shop.example/done", events=("completed",))
    desk.submit("a", caller=caller).says(e.Failed("no"), "a")
    for job in "bc":
        desk.submit(job).says(e.Failed("no"), job)
    assert list(desk.state.jobs) == ["a", "c"], "the webhook shows the job"
    desk.happens(WebhookSettled(desk.owed[0].delivery)).submit("d")
    assert list(desk.state.jobs) == ["d"]


def test_over_the_limit_the_oldest_webhook_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MAX_PENDING", 2)
    desk = Desk()
    for job in "abc":
        desk.submit(job).says(e.Failed("no"), job)
    assert [owed.job for owed in desk.owed] == ["b", "c"]
    assert any(isinstance(fact, f.WebhookGivenUp) and fact.job == "a" for fact in desk.facts)


def test_a_delivery_has_one_id_and_another_end_has_another() -> None:
    names = {webhooks.delivery_id(job, at) for job in ("a", "b") for at in (1.0, 2.0)}
    assert len(names) == 4
    assert webhooks.delivery_id("a", 1.0) == webhooks.delivery_id("a", 1.0)
    assert all(len(name) == 32 for name in names)


OWED = WebhookOwed("a", "d" * 32, 1000.0, {"id": "a"})


class Receiver:
    """Refuses so many times, in virtual time."""

    def __init__(self, refuses: float, error: WakestreamError | None = None) -> None:
        self.refuses, self.error = refuses, error or WorkerUnreachable("down")
        self.at: list[float] = []

    async def post(self, _: WebhookOwed) -> None:
        self.at.append(asyncio.get_running_loop().time())
        if len(self.at) <= self.refuses:
            raise self.error


async def tell(receiver: Receiver, now: float = 1000.0, **changes: Any) -> None:
    scheduler = LoopScheduler()
    backoff = dataclasses.replace(webhooks.AGAIN, **changes)
    told = webhooks.delivery(receiver.post, OWED, now, Random(1), Limiter(1), backoff)
    try:
        await told.pipe(to_future(scheduler))
    finally:
        await scheduler.close()


async def test_an_unreachable_receiver_is_retried_with_growing_delays() -> None:
    receiver = Receiver(5)
    await tell(receiver, jitter=0.0)
    assert [round(at) for at in receiver.at] == [0, 1, 3, 7, 15, 31]


async def test_it_is_tried_for_a_day_and_no_longer() -> None:
    receiver = Receiver(float("inf"))
    with pytest.raises(WorkerUnreachable):
        await tell(receiver, jitter=0.0)
    assert 23.8 * 3600 < receiver.at[-1] <= 24 * 3600
    assert max(b - a for a, b in zip(receiver.at, receiver.at[1:], strict=False)) == 600


async def test_after_a_restart_only_the_rest_of_the_day_is_left_and_one_attempt_at_least() -> None:
    late = Receiver(float("inf"))
    with pytest.raises(WorkerUnreachable):
        await tell(late, now=1000.0 + 23 * 3600)
    assert 0 < late.at[-1] <= 3600
    over = Receiver(float("inf"))
    with pytest.raises(WorkerUnreachable):
        await tell(over, now=1000.0 + 48 * 3600)
    assert len(over.at) == 1


async def test_a_permanent_refusal_is_not_retried() -> None:
    receiver = Receiver(1, WakestreamError("gone"))
    with pytest.raises(WakestreamError, match="gone"):
        await tell(receiver)
    assert len(receiver.at) == 1
