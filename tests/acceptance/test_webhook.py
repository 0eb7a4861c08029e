"""Webhooks to an HTTP server that is not ours."""

import asyncio

import pytest

from tests.support.programs.examples_scene import receiver
from wakestream.adapters.net import webhooks as webhook
from wakestream.adapters.net.webhooks import WebhookDown, post_json
from wakestream.operators import WakestreamError, is_retryable


async def test_the_receiver_gets_the_news_as_json() -> None:
    async with receiver() as (url, news):
        await post_json(url, {"job": "job-1", "why": "没有"})
    assert news == [{"job": "job-1", "why": "没有"}]


async def test_a_refusing_or_unreachable_receiver_is_retried_without_its_address_in_errors() -> None:
    async with receiver(refuses=1) as (url, news):
        with pytest.raises(WebhookDown, match="HTTP 503") as said:
            await post_json(url, {})
        assert news == []
    with pytest.raises(WebhookDown, match="nothing listens there") as silent:
        await post_json(url, {})
    for error in (said.value, silent.value):
        assert is_retryable(error)
        assert "127.0.0.1" not in str(error)
        assert error.__suppress_context__ or error.__context__ is None


@pytest.mark.parametrize("url", ["nowhere", "http://", "ftp://x.example/y"])
async def test_an_invalid_address_is_not_retried(url: str) -> None:
    with pytest.raises(WakestreamError) as error:
        await post_json(url, {})
    assert (is_retryable(error.value), error.value.code) == (False, "bad_url")


async def test_a_slow_receiver_and_one_without_tls_are_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    monkeypatch.setattr(webhook, "ANSWER_WITHIN", 0.2)
    async with server:
        with pytest.raises(WebhookDown, match=r"no answer within 0\.2 s") as slow:
            await post_json(f"http://{address}/?token=hush", {})
    monkeypatch.setattr(webhook, "ANSWER_WITHIN", 10.0)
    async with receiver() as (url, _):
        with pytest.raises(WebhookDown, match="it does not speak TLS") as plain:
            await post_json(url.replace("http://", "https://"), {})
    for error in (slow.value, plain.value):
        assert is_retryable(error)
        assert "127.0.0.1" not in str(error)
        assert "hush" not in str(error)
