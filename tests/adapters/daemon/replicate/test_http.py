"""What is sent to programs: events of a stream, and values of outputs."""

from __future__ import annotations

from pathlib import Path

import orjson

from wakestream.adapters.daemon.replicate.http import event
from wakestream.adapters.daemon.replicate.predictions import _content


def test_each_end_of_a_line_begins_a_data_line_so_that_a_text_makes_no_event() -> None:
    sent = event("1", "output", "a\rb\r\nc\n\rdata: {}")
    assert sent == b"event: output\nid: 1\ndata: a\ndata: b\ndata: c\ndata: \ndata: data: {}\n\n"


def test_a_value_that_is_too_deep_for_an_answer_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[" * 400 + "]" * 400)
    assert _content(file, "json").startswith("data:application/json;base64,")
    file.write_text("[[1]]")
    assert _content(file, "json") == [[1]]
    assert orjson.dumps(_content(file, "json")) == b"[[1]]"
