"""Whatever comes to the port for scrapes, the next scrape is answered."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.fuzz.example_counts import BOUNDED
from tests.support.fuzz.observers import watched
from tests.support.fuzz.raw_http import RawHttp, request
from wakestream.adapters.telemetry.metrics_server import metrics_listener


@pytest.fixture
async def port() -> AsyncIterator[int]:
    with watched():
        async with metrics_listener(("127.0.0.1", 0), lambda: ()) as url:
            yield int(url.rpartition(":")[2].partition("/")[0])


@BOUNDED
@given(st.binary(max_size=200))
@example(request("GET", "/metrics", "Expect: \ud800"))
@example(request("POST", "/metrics", body=b"x" * 100_000))
@example(request("GET", "/metrics", "Accept: " + "," * 5000))
@example(request("GET", "/../../etc/passwd"))
@example(request("GET", "/metrics", "Bad Name: x"))
@example(request("GET", "/metrics", "Content-Length: -1"))
@example(b"GET / HTTP/9.9\r\n\r\n")
async def test_the_metrics_port_survives_any_bytes(port: int, data: bytes) -> None:
    caller = await RawHttp.connect(port)
    caller.write(data)
    if data.endswith(b"\r\n\r\n"):
        await caller.reply()
    await caller.close()
    scrape = await RawHttp.connect(port)
    scrape.write(request("GET", "/metrics"))
    assert (await scrape.reply()).status == 200
    await scrape.close()
