"""What the lines of a program are for the worker: progress by a pattern or JSON, and lines for the log."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from wakestream.adapters.engines import run_process
from wakestream.adapters.engines.program_output import LINES_A_SECOND, MAX_ERROR, ProgramOutput, reader_of
from wakestream.operators.model.engine import Frame, Line
from wakestream.operators.model.errors import TaskFailed, WrongInput


def items(progress: object, *lines: str) -> list[Any]:
    output = ProgramOutput(reader_of(progress), clock=lambda: 0.0)
    return [item for line in lines for item in output.take(line)]


@pytest.mark.parametrize(
    ("progress", "lines", "found"),
    [
        (None, ["loading", "5%", "5 %", "9%"], [Line("loading"), Frame(0, 0, 5.0), Frame(0, 0, 9.0)]),
        (None, ["250%", "  ", ""], [Line("250%")]),
        (None, ["10% 20% 30%", "99%|#########9| 99/100"], [Frame(0, 0, 30.0), Frame(0, 0, 99.0)]),
        (None, ["frame 3 of 24 (12.5 %)", "half of it"], [Frame(0, 0, 12.5), Line("half of it")]),
        (r"step (?P<frame>\d+)/(?P<frames>\d+)", ["step 3/12"], [Frame(3, 12, 25.0)]),
        (r"step (?P<frame>\d+)/(?P<frames>\d+)", ["step 1/4 step 2/4"], [Frame(2, 4, 50.0)]),
        (r"total (?P<frames>\d+)|at (?P<frame>\d+)", ["total 8", "at 2"], [Frame(0, 8, 0.0), Frame(2, 8, 25.0)]),
        (r"(?P<frame>\d+) of (?P<frames>\d+)", ["9 of 8", "3 of 0"], [Frame(9, 8, 100.0), Frame(3, 0, 0.0)]),
        (r"frame (?P<frame>\d+)", ["frame 7", "50%"], [Frame(7, 0, 0.0), Line("50%")]),
        (r"p=(?P<percent>\S+)", ["p=1e1", "p=nan", "p=-3", "p=101", "p=x"],
         [Frame(0, 0, 10.0), Line("p=nan"), Line("p=-3"), Line("p=101"), Line("p=x")]),
        ("json", ['{"percent": 12.5}', '{"frame": 3, "frames": 4}'], [Frame(0, 0, 12.5), Frame(3, 4, 75.0)]),
        ("json", ['{"log": "hello"}', '{"percent": 1, "log": "one"}'], [Line("hello"), Frame(0, 0, 1.0), Line("one")]),
        ("json", ["12", "[1]", "half {", '{"percent": true}', '{"percent": null}', '{"percent": {}}'],
         [Line(text) for text in ("12", "[1]", "half {", '{"percent": true}', '{"percent": null}', '{"percent": {}}')]),
        ("json", ['{"percent": "40"}'], [Frame(0, 0, 40.0)]),
    ],
)  # fmt: skip
def test_lines_are_progress_or_log(progress: object, lines: list[str], found: list[Any]) -> None:
    assert items(progress, *lines) == found


def test_the_same_progress_again_is_nothing_new() -> None:
    assert items(None, "5%", "5%", "5 %") == [Frame(0, 0, 5.0)]


def test_log_lines_have_no_control_characters() -> None:
    (line,) = items(None, "\x1b[31mred\x1b[0m \x07bell\ttab")
    assert line.text.isprintable()


@pytest.mark.parametrize(
    ("progress", "reason"),
    [
        ("(", "is neither \"json\" nor a regular expression"),
        (r"\d+%", "needs a group"),
        (r"(?P<frames>\d+)", "needs a group"),
        (r"(?P<percent>\d+) (?P<speed>\d+)", "may have"),
        (7, "needs a group"),
    ],
)  # fmt: skip
def test_a_wrong_pattern_is_refused(progress: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("(", r"\(")):
        reader_of(progress)


def test_a_flood_of_lines_is_counted_and_not_logged() -> None:
    now = [0.0]
    output = ProgramOutput(reader_of(None), clock=lambda: now[0])
    first = [item for number in range(10_000) for item in output.take(f"line {number}")]
    assert len(first) == LINES_A_SECOND
    assert output.take("7%") == [Frame(0, 0, 7.0)], "progress is never left out"
    now[0] = 1.5
    assert output.take("later") == [Line(f"({10_000 - LINES_A_SECOND} more lines)"), Line("later")]


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ('{"error": "no face", "field": "inputs.image"}', WrongInput, "input image: no face"),
        ('{"error": "too many", "field": "params.steps"}', WrongInput, "parameter steps: too many"),
        ('{"error": "out of memory"}', TaskFailed, "out of memory"),
        ('{"error": "odd", "field": "/etc/passwd"}', TaskFailed, "odd"),
        ('{"error": "odd", "field": 7}', TaskFailed, "odd"),
    ],
)
def test_a_json_line_can_say_what_went_wrong_and_which_field_is_to_blame(
    line: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as raised:
        items("json", line)
    assert str(raised.value) == words


def test_an_empty_error_is_none_and_a_long_one_is_cut() -> None:
    assert items("json", '{"error": null, "percent": 5}', '{"error": ""}') == [Frame(0, 0, 5.0), Line('{"error": ""}')]
    with pytest.raises(TaskFailed) as raised:
        items("json", json.dumps({"error": "\x1b[31mx" * 5000}))
    assert len(str(raised.value)) == MAX_ERROR
    assert str(raised.value).isprintable()


async def test_a_character_that_is_read_in_two_parts_is_whole() -> None:
    stream, found = asyncio.StreamReader(), list[str]()
    lines = run_process._Lines(stream)
    for piece in (b"\xe8\xaf", b"\xb4\xe8\xaf\x9d 50 %\rend \xe8"):
        stream.feed_data(piece)
        found += await lines.more() or ()
    stream.feed_eof()
    found += await lines.more() or ()
    assert found == ["说话 50 %", "end \ufffd"]
    assert await lines.more() is None
