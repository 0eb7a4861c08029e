"""News to somebody else's HTTP server."""

from __future__ import annotations

import pytest
from examples_scene import receiver

from wakestream.adapters.http.webhook import WebhookDown, post_json
from wakestream.operators import WakestreamError, mendable


async def test_the_receiver_gets_the_news_as_json() -> None:
    async with receiver() as (url, news):
        await post_json(url, {"job": "job-1", "why": "没有"})
    assert news == [{"job": "job-1", "why": "没有"}]


async def test_a_receiver_that_says_no_or_is_not_there_may_be_asked_again_and_its_address_stays_out_of_it() -> None:
    async with receiver(refuses=1) as (url, news):
        with pytest.raises(WebhookDown, match="HTTP 503") as said:
            await post_json(url, {})
        assert news == []
    with pytest.raises(WebhookDown, match="nobody listens there") as silent:
        await post_json(url, {})
    for error in (said.value, silent.value):
        assert mendable(error)
        assert "127.0.0.1" not in str(error)
        assert error.__suppress_context__ or error.__context__ is None


@pytest.mark.parametrize("url", ["nowhere", "http://", "ftp://x.example/y"])
async def test_an_address_that_is_none_is_not_called_again(url: str) -> None:
    with pytest.raises(WakestreamError) as error:
        await post_json(url, {})
    assert (mendable(error.value), error.value.code) == (False, "bad_url")
