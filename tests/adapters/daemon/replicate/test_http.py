"""What is sent to programs: events of a stream, and values of outputs."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from wakestream.adapters.daemon.replicate.http import origin
from wakestream.adapters.daemon.replicate.predictions import _content
from wakestream.adapters.daemon.replicate.streams import event
from wakestream.adapters.net.connection_limits import Proxies
from wakestream.adapters.net.silent_callers import SilentCallers


def test_each_end_of_a_line_begins_a_data_line_so_that_a_text_makes_no_event() -> None:
    sent = event("1", "output", "a\rb\r\nc\n\rdata: {}")
    assert sent == b"event: output\nid: 1\ndata: a\ndata: b\ndata: c\ndata: \ndata: data: {}\n\n"


@pytest.mark.parametrize(
    ("said", "scheme"), [("https", "https"), ("http, HTTPS", "https"), ("javascript", "http"), ("", "http")]
)
async def test_the_address_of_the_api_has_the_scheme_that_a_named_proxy_tells_and_no_one_else(
    said: str, scheme: str
) -> None:
    named = Proxies([ip_network("10.0.0.0/24")])
    heard = SilentCallers(proxies=named).middleware()
    seen = []

    async def call(request: web.Request) -> web.Response:
        seen.append(origin(request))
        return web.Response()

    for peer in ("10.0.0.7", "10.0.1.7", "127.0.0.1"):
        headers = {"Host": "gpu.example", "X-Forwarded-Proto": said}
        await heard(make_mocked_request("GET", "/v1/models", headers).clone(remote=peer), call)
    assert seen == [f"{scheme}://gpu.example", "http://gpu.example", "http://gpu.example"]


def test_a_value_that_is_too_deep_for_an_answer_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[" * 400 + "]" * 400)
    assert _content(file, "json").startswith("data:application/json;base64,")
    file.write_text("[[1]]")
    assert _content(file, "json") == [[1]]
    assert orjson.dumps(_content(file, "json")) == b"[[1]]"
