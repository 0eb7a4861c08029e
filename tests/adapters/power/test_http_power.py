"""What all providers with an HTTP API share."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from loguru import logger

from tests.support.programs.plain_server import answering
from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power import http_power
from wakestream.adapters.power.config import PowerConfig
from wakestream.adapters.power.http_power import HttpPower, unix_seconds
from wakestream.operators.model.errors import Denied, Gone, PowerError, QuotaExceeded, Transient, TryAgain


class Acme(HttpPower):
    name, api, errors = "acme", "https://acme.example", (("still stopping", TryAgain),)


DAY = "Thu, 01 Jan 2026"


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def acme(answer: Answer, kind: type[Acme] = Acme) -> AsyncIterator[Acme]:
    """The provider, at an API that answers every call so."""
    async with answering(answer) as url:
        power = kind(PowerConfig("1", base_url=url))
        try:
            yield power
        finally:
            await power.close()


def always(body: Any, status: int = 200, **headers: str) -> Answer:
    """The same answer to every call: these bytes, or this as JSON."""

    async def answer(_: web.Request) -> web.StreamResponse:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(body=text, status=status, headers=headers)

    return answer


async def test_an_answer_in_several_pieces_is_read_to_its_end() -> None:
    arrived = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"name": "half')
        await arrived.wait()
        await response.write(b' and half"}')
        return response

    async with acme(answer) as power:
        asking = asyncio.create_task(power.call("GET", "/x"))
        asyncio.get_running_loop().call_later(0.1, arrived.set)
        assert await asking == {"name": "half and half"}


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_power, "LONGEST_ANSWER", 1000)
    async with acme(always(b"[" * 5000)) as power:
        with pytest.raises(Transient, match="longer than 1000 bytes"):
            await power.call("GET", "/x")


def test_a_time_before_1970_is_no_time() -> None:
    assert unix_seconds("0001-01-01T00:00:00Z") is None


@pytest.mark.parametrize(
    ("status", "headers", "kind", "wait"),
    [
        (429, {}, TryAgain, 10.0),
        (429, {"Retry-After": "7"}, TryAgain, 7.0),
        (429, {"Retry-After": "soon"}, TryAgain, 10.0),
        (409, {}, TryAgain, 5.0),
        (423, {"Retry-After": "3"}, TryAgain, 3.0),
        (503, {}, Transient, None),
        (503, {"Retry-After": "7"}, TryAgain, 7.0),
        (502, {"Retry-After": "1"}, Transient, None),  # a gateway: the call may have had an effect
        (429, {"Retry-After": "99999999"}, TryAgain, 3600.0),
        (503, {"Retry-After": f"{DAY} 00:01:00 GMT", "Date": f"{DAY} 00:00:00 GMT"}, TryAgain, 60.0),
        (418, {}, Transient, None),
        (302, {"Location": "https://evil.example"}, Transient, None),
        (401, {}, Denied, None),
        (403, {}, Denied, None),
        (402, {}, QuotaExceeded, None),
        (404, {}, Gone, None),
        (410, {}, Gone, None),
    ],
)
async def test_what_a_status_means(
    status: int, headers: dict[str, str], kind: type[PowerError], wait: float | None
) -> None:
    async with acme(always({"code": "E1", "message": "no"}, status, **headers)) as power:
        with pytest.raises(kind, match=f"acme: HTTP {status} to `GET /x`: E1 no") as caught:
            await power.call("GET", "/x")
        assert getattr(caught.value, "retry_after", None) == wait


async def test_a_refusal_of_a_proxy_in_another_form_than_the_api_s_own_is_read_too() -> None:
    class Nested(Acme):
        def message(self, document: Any) -> tuple[object, str]:
            return document["problem"]["kind"], document["problem"]["text"]

    async with acme(always({"message": "slow down"}, 429, **{"Retry-After": "9"}), Nested) as power:
        with pytest.raises(TryAgain, match="HTTP 429 to `GET /x`: slow down"):
            await power.call("GET", "/x")


async def test_a_refusal_that_the_table_knows_waits_as_long_as_the_answer_says() -> None:
    async with acme(always({"message": "still stopping"}, 500, **{"Retry-After": "9"})) as power:
        with pytest.raises(TryAgain) as caught:
            await power.call("GET", "/x")
        assert caught.value.retry_after == 9.0


async def test_nobody_there_is_transient_and_names_the_host() -> None:
    power = Acme(PowerConfig("1", base_url="http://127.0.0.1:9", timeout=5.0))
    with pytest.raises(Transient, match=r"acme: no answer of 127\.0\.0\.1:9 to `GET /x`"):
        await power.call("GET", "/x")
    await power.close()


@pytest.mark.parametrize("url", ["ftp://a.example", "https://", "acme"])
def test_the_address_of_an_api_is_an_http_address(url: str) -> None:
    with pytest.raises(SettingsError, match="write an http or https address"):
        Acme(PowerConfig("1", base_url=url))


def test_a_secret_is_kept_out_of_messages_and_off_open_connections() -> None:
    power = Acme(PowerConfig("1", secret=lambda _: "s3cret-value"))
    power.secret("ACME_KEY")
    assert power.plain("the key s3cret-value\n is wrong") == "the key *** is wrong"
    with pytest.raises(SettingsError, match="write https, as credentials are sent to it"):
        Acme(PowerConfig("1", secret=lambda _: "s3cret-value", base_url="http://acme.example")).secret("ACME_KEY")


def test_an_unknown_code_is_reported_once() -> None:
    said: list[str] = []
    sink = logger.add(said.append, level="WARNING", format="{message}")
    power = Acme(PowerConfig("1"))
    for _ in range(3):
        assert isinstance(power.error("E9", "what"), Transient)
        assert power.state("Dreaming") == "unknown"
    logger.remove(sink)
    assert [line.strip() for line in said] == [
        "acme: the code E9: what is not known to wakestream; please report it",
        "acme: the state 'Dreaming' is not known to wakestream; please report it",
    ]


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":"\xff"}'])
async def test_an_answer_that_no_parser_reads_is_a_passing_fault(body: bytes) -> None:
    async with acme(always(body)) as power:
        with pytest.raises(Transient, match="something else than JSON"):
            await power.call("GET", "/x")
