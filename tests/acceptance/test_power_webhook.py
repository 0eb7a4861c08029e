"""The hub's webhook with the real program: signed, and delivered again after a kill."""

import sys

import pytest
from standardwebhooks import Webhook

from tests.support.programs.client_scene import User
from tests.support.programs.hub_keeper import Keeper
from tests.support.programs.webhook_scene import Shop
from wakestream.streams.protocol import messages as m

SECRET = "marked-whsec-4711"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")
async def test_news_of_power_are_signed_and_delivered_by_the_next_run_after_a_kill(user: User, keeper: Keeper) -> None:
    user.environment |= {"WAKESTREAM_WEBHOOK_SECRET": SECRET}
    failed = m.PowerState(gpu="studio", state="failed", msg="the provider refused")
    async with Shop(status=503).open() as shop:
        async with keeper.hub("--power-webhook", shop.url) as first, keeper.peer(keeper.monitor(), failed):
            refused = await shop.hears()
            first.process.kill()
            await first.process.wait()
        shop.status = 200
        count = len(shop.calls)
        async with keeper.hub("--power-webhook", shop.url):
            told = await shop.hears(count + 1)
    assert told.body == refused.body
    assert told.headers["webhook-id"] == refused.headers["webhook-id"]
    assert Webhook(SECRET.encode()).verify(told.body, told.headers) == told.news
    assert (told.news["event"], told.news["gpu"]) == ("power.failed", "studio")
    assert told.news["why"] == "the provider refused"
