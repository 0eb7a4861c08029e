"""What is sent to programs: events of a stream, and values of outputs."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from aiohttp.test_utils import make_mocked_request

from wakestream.adapters.daemon.replicate.http import origin
from wakestream.adapters.daemon.replicate.predictions import _content
from wakestream.adapters.daemon.replicate.streams import event


def test_each_end_of_a_line_begins_a_data_line_so_that_a_text_makes_no_event() -> None:
    sent = event("1", "output", "a\rb\r\nc\n\rdata: {}")
    assert sent == b"event: output\nid: 1\ndata: a\ndata: b\ndata: c\ndata: \ndata: data: {}\n\n"


@pytest.mark.parametrize(
    ("said", "scheme"), [("https", "https"), ("HTTPS, http", "https"), ("javascript", "http"), ("", "http")]
)
def test_the_address_of_the_api_has_a_scheme_of_the_web(said: str, scheme: str) -> None:
    request = make_mocked_request("GET", "/v1/models", {"Host": "gpu.example", "X-Forwarded-Proto": said})
    assert origin(request) == f"{scheme}://gpu.example"


def test_a_value_that_is_too_deep_for_an_answer_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[" * 400 + "]" * 400)
    assert _content(file, "json").startswith("data:application/json;base64,")
    file.write_text("[[1]]")
    assert _content(file, "json") == [[1]]
    assert orjson.dumps(_content(file, "json")) == b"[[1]]"
