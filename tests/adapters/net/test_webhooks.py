"""Webhooks in virtual time: all are sent, a limited number at once, and each result is reported."""

import asyncio

import pytest

from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.net import webhooks as at_work
from wakestream.adapters.net.webhooks import Receiver, WebhookGone, Webhooks, receiver
from wakestream.operators.model.errors import WakestreamError, WorkerUnreachable
from wakestream.streams import webhooks
from wakestream.streams import webhooks as f

pytestmark = pytest.mark.virtual


def owed(number: int) -> f.WebhookOwed:
    return f.WebhookOwed(f"job-{number}", f"{number:032}", 0.0, {"id": f"job-{number}"})


class Desk:
    """Answers as the test says; counts concurrent requests."""

    def __init__(self) -> None:
        self.settled: list[f.WebhookSettled] = []
        self.posted: list[str] = []
        self.errors: dict[str, WakestreamError] = {}
        self.inside = self.most = 0
        self.heard, self.never = asyncio.Event(), asyncio.Event()
        self.webhooks = Webhooks(self.post, self.settle, now=lambda: asyncio.get_running_loop().time())

    async def post(self, told: f.WebhookOwed) -> None:
        self.posted.append(told.job)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await (self.never.wait() if told.job == "job-99" else _a_second())
        finally:
            self.inside -= 1
        if told.job in self.errors:
            raise self.errors[told.job]

    def settle(self, settled: f.WebhookSettled) -> None:
        self.settled.append(settled)
        self.heard.set()

    async def settles(self, count: int) -> None:
        while len(self.settled) < count:
            self.heard.clear()
            await self.heard.wait()


async def _a_second() -> None:
    """Of virtual time."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.call_later(1.0, over.set)
    await over.wait()


async def test_all_webhooks_are_sent_with_limited_concurrency() -> None:
    desk = Desk()
    for number in range(20):
        desk.webhooks.tell(owed(number))
    await desk.settles(20)
    assert {(one.delivery, one.reason) for one in desk.settled} == {(owed(number).delivery, "") for number in range(20)}
    assert desk.most == at_work.AT_ONCE
    assert desk.webhooks.counted == {"delivered": 20}
    await desk.webhooks.aclose()


async def test_a_webhook_in_progress_is_not_sent_twice_at_once() -> None:
    desk = Desk()
    desk.webhooks.tell(owed(1))
    desk.webhooks.tell(owed(1))
    await desk.settles(1)
    assert desk.posted == ["job-1"]
    await desk.webhooks.aclose()


async def test_an_abandoned_webhook_has_a_reason_and_does_not_block_others() -> None:
    desk = Desk()
    desk.errors = {"job-1": WorkerUnreachable("down"), "job-2": WebhookGone("no more")}
    for number in range(4):
        desk.webhooks.tell(owed(number))
    await desk.settles(3)
    assert asyncio.get_running_loop().time() < 10
    await desk.settles(4)
    assert asyncio.get_running_loop().time() > webhooks.LASTS - 700
    assert {one.delivery[-1]: one.reason for one in desk.settled} == {"0": "", "1": "down", "2": "no more", "3": ""}
    assert (desk.webhooks.counted["delivered"], desk.webhooks.counted["given_up"]) == (2, 2)
    assert desk.webhooks.counted["failed"] > 100
    await desk.webhooks.aclose()


async def test_a_webhook_in_progress_at_the_stop_is_not_settled() -> None:
    desk = Desk()
    desk.webhooks.tell(owed(99))
    async with asyncio.timeout(5):
        while not desk.posted:  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(0)
        await desk.webhooks.aclose()
    assert (desk.settled, desk.inside) == ([], 0)


async def test_the_limit_on_pending_webhooks_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MAX_PENDING", 3)
    desk = Desk()
    for number in range(10):
        desk.webhooks.tell(owed(number))
        await asyncio.sleep(0)
    assert len(desk.webhooks._telling) <= 3
    await desk.webhooks.aclose()


def test_a_webhook_needs_its_secret_and_shows_neither() -> None:
    to = "https://shop.example/?token=x"
    assert receiver("webhook_url", Settings()) is None
    with pytest.raises(SettingsError, match="set WAKESTREAM_WEBHOOK_SECRET"):
        receiver("webhook_url", Settings(webhook_url=to))
    made = receiver("webhook_url", Settings(webhook_url=to, webhook_secret="whsec"))
    assert isinstance(made, Receiver)
    assert "token" not in repr(made)
    assert "whsec" not in repr(made)
