"""The pictures of a log: an SVG that any viewer can read in light and dark, and lines that fit a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.cells import cell_len

from tests.support.streams.log_library import LOGS
from tests.support.streams.marbles_scene import recorded
from wakestream.adapters.cli.marbles import text as terminal_text
from wakestream.adapters.cli.marbles.style import text_width
from wakestream.adapters.cli.marbles.svg import svg
from wakestream.streams.diagram.marbles import TIMES
from wakestream.streams.recording.recording import Header, Log, Row
from wakestream.streams.replay.divergence import Divergence

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</title><script>alert(1)</script>&\"']]>\x00\x1b[31m\u202e中文\n" + "x" * 300
WORSE = f"\ud800{HOSTILE}"
"""No JSON can hold half a character; a name of a file can."""


def terminal(log: Log, divergences: Sequence[Divergence] = (), *, boxes: bool = True, **how: Any) -> str:
    """The lines, whatever the encoding of this test's own output."""
    return terminal_text.terminal(log, divergences, boxes=boxes, **how)


@cache
def parted(name: str) -> tuple[Divergence, ...]:
    """Made-up divergences of a client's log: a job's first event missing, and another's upload with other bytes."""
    rows = [row for row in recorded(name).rows if row.label in ("granted", "uploaded") and row.job]
    other = replace(rows[-1], data={**rows[-1].data, "sent": 1})
    return (Divergence(rows[0].job, rows[0], None), Divergence(rows[-1].job, rows[-1], other))


@cache
def drawn(name: str, *, diverged: bool = False) -> str:
    return svg(recorded(name), parted(name) if diverged else ())


def hostile() -> Log:
    rows = (
        Row(1, 0.1, "in", "job.accept", {"video": HOSTILE}, WORSE),
        Row(2, 0.2, "in", WORSE, {"type": HOSTILE, HOSTILE: HOSTILE}),
        Row(3, 0.3, "in", "gpu.power.state", {"type": "gpu.power.state", "gpu": HOSTILE, "state": HOSTILE}),
        Row(5, 0.35, '"/><script/>', "x", {}),  # type: ignore[arg-type]
        Row(4, 0.4, "out", "failed", {"event": "failed", "why": "so"}, WORSE),
    )
    return Log(Header(WORSE, 0.0, 0), rows)


CASES = ("offline", "online", "client 1", "client 10", "client 200", "hub 3", "hub 200")


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own text


@dataclass(frozen=True)
class Box:
    text: str
    left: float
    top: float
    right: float
    bottom: float

    def touches(self, other: Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


SIZES = {"head": 17.0, "title": 12.6, "tick": 10.0, "foldtext": 10.0}


def boxes(element: ET.Element, x: float = 0.0, y: float = 0.0) -> Iterator[Box]:
    """Where each text stands on the page, as wide as the widest font would make it."""
    moved = re.match(r"translate\(([\d.-]+) ([\d.-]+)\)", element.get("transform", ""))
    if moved:
        x, y = x + float(moved[1]), y + float(moved[2])
    if element.tag == f"{SVG}text":
        yield box(element, x, y)
    for child in element:
        yield from boxes(child, x, y)


def box(element: ET.Element, x: float, y: float) -> Box:
    kinds = element.get("class", "").split()
    size = next((SIZES[kind] for kind in kinds if kind in SIZES), 11.0)
    text = "".join(element.itertext())
    wide = text_width(text, size) * (0.92 if "mono" not in kinds else 1.0)
    at, base = x + float(element.get("x", 0)), y + float(element.get("y", 0))
    left = at - wide / 2 if "mid" in kinds else at - wide if element.get("text-anchor") == "end" else at
    return Box(text, left, base - size * 0.78, left + wide, base + size * 0.2)


def overlaps(found: Sequence[Box]) -> list[tuple[str, str]]:
    return [(a.text, b.text) for i, a in enumerate(found) for b in found[i + 1 :] if a.touches(b)]


@pytest.mark.parametrize("name", CASES)
def test_no_text_of_the_picture_touches_another_or_leaves_the_page(name: str) -> None:
    page = parsed(drawn(name))
    found = list(boxes(page))
    assert len(found) > 10
    assert overlaps(found) == []
    assert all(box.left >= 0 and box.right <= float(page.get("width", 0)) for box in found)
    assert all(box.bottom <= float(page.get("height", 0)) for box in found)


@pytest.mark.parametrize("name", ["client 1", "client 10", "client 200"])
def test_texts_do_not_overlap_with_divergences(name: str) -> None:
    assert overlaps(list(boxes(parsed(drawn(name, diverged=True))))) == []


@pytest.mark.parametrize("name", CASES)
def test_every_row_of_the_log_is_in_a_mark_with_a_tooltip(name: str) -> None:
    marks = [element for element in parsed(drawn(name)).iter(f"{SVG}g") if element.get("data-rows")]
    assert all((mark.findtext(f"{SVG}title") or "").strip() for mark in marks)
    assert sum(int(mark.get("data-rows", 0)) for mark in marks) >= len(recorded(name).rows)


def test_a_marks_tooltip_has_row_and_time_or_a_count() -> None:
    row = next(row for row in recorded("client 1").rows if row.label == "uploaded")
    assert f"out uploaded, row {row.seq}, {row.t:.6f} s" in drawn("client 1")
    assert f"ack {TIMES}200, rows " in drawn("client 200")


def test_the_picture_has_a_title_for_screen_readers() -> None:
    page = parsed(drawn("client 10"))
    assert page.get("role") == "img"
    assert page.findtext(f"{SVG}title") == "Marble diagram of a daemon log"
    assert "10 jobs" in (page.findtext(f"{SVG}desc") or "")
    assert {"job-1", "messages in"} <= {str(group.get("aria-label")) for group in page.iter(f"{SVG}g")}


@pytest.mark.parametrize("name", CASES)
def test_the_picture_loads_and_runs_nothing(name: str) -> None:
    text = drawn(name)
    assert "<script" not in text
    assert re.findall(r"\son\w+=", text) == []
    assert set(re.findall(r'href="(.)', text)) <= {"#"}
    assert "url(" not in text
    assert "@import" not in text
    used = set(re.findall(r'href="#([\w-]+)"', text))
    assert used <= set(re.findall(r'id="([\w-]+)"', text))


def test_the_same_log_gives_the_same_bytes_under_any_hash_seed() -> None:
    program = "from tests.adapters.cli.marbles.test_picture import drawn; print(drawn('client 10') + drawn('hub 3'))"
    seen = set()
    for seed in ("0", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(LOGS.parents[1]), "PYTHONUTF8": "1"}
        command = [sys.executable, "-c", program]
        seen.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(seen) == 1


def test_markup_in_labels_is_escaped() -> None:
    log = hostile()
    text = svg(log, [Divergence(WORSE, log.rows[1], None)])
    page = parsed(text)
    assert [element.tag for element in page.iter() if element.tag.endswith("script")] == []
    assert not set(text) & {"\x00", "\x1b", "\u202e", "\ud800"}
    text.encode()
    assert overlaps(list(boxes(page))) == []


def test_a_picture_of_a_log_without_rows_is_a_picture() -> None:
    empty = Log(Header("hub", 0.0, 0), ())
    assert parsed(svg(empty)).tag == f"{SVG}svg"
    assert terminal(empty, width=80, colour=False).startswith("hub")


# Colours


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def palettes() -> tuple[dict[str, str], dict[str, str]]:
    light, dark = drawn("client 1").split("@media (prefers-color-scheme:dark)")[:2]
    found = [dict(re.findall(r"--(\w+):(#[0-9a-f]{6})", half)) for half in (light, dark)]
    return found[0], found[1]


@pytest.mark.parametrize("palette", palettes(), ids=("light", "dark"))
def test_text_and_marks_stand_out_from_the_page_in_light_and_dark(palette: dict[str, str]) -> None:
    for name in ("fg", "soft", "bad", "ok", "quiet"):
        assert contrast(palette[name], palette["bg"]) >= 4.5, name
    for name in ("in", "out", "retry", "render", "download"):
        assert contrast(palette[name], palette["bg"]) >= 3, name
    for ink, band in (("onink", "on"), ("nearink", "near"), ("nearink", "leave"), ("offink", "off")):
        assert contrast(palette[ink], palette[band]) >= 3, band


def test_each_stage_and_each_kind_of_mark_is_explained_once() -> None:
    shown = [box.text for box in boxes(parsed(drawn("client 10")))]
    for text in ("waiting", "uploading", "rendering", "downloading", "call failed", "tried again", "message in"):
        assert shown.count(text) == 1


# The terminal


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
@pytest.mark.parametrize("name", CASES)
def test_no_line_is_longer_than_the_terminal_is_wide(name: str, width: int) -> None:
    lines = terminal(recorded(name), width=width, colour=False).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert len(lines) > 8


@pytest.mark.parametrize("name", CASES)
def test_without_boxes_all_is_plain_ascii_and_without_colour_no_code_is_sent(name: str) -> None:
    text = terminal(recorded(name), width=80, colour=False, boxes=False)
    assert text.isascii()
    assert "\x1b" not in text
    assert text.isprintable() or set(text) - {"\n"} <= {chr(code) for code in range(32, 127)}


@pytest.mark.parametrize(("encoding", "plain"), [("utf-8", False), ("cp1252", True), ("ascii", True), (None, True)])
def test_a_limited_output_gets_ascii(encoding: str | None, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Output:
        def __init__(self) -> None:
            self.encoding = encoding

    monkeypatch.setattr(terminal_text.sys, "stdout", Output())
    assert terminal_text.terminal(recorded("client 1"), width=80, colour=False).isascii() == plain


def test_colour_changes_nothing_but_colour() -> None:
    for name in ("client 10", "hub 3"):
        coloured = terminal(recorded(name), width=100, colour=True)
        assert "\x1b[" in coloured
        plain = [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", coloured).splitlines()]
        assert plain == terminal(recorded(name), width=100, colour=False).splitlines()


def test_a_job_s_line_shows_its_stages_and_how_it_ended() -> None:
    lines = terminal(recorded("client 10"), width=120, colour=False).splitlines()
    of = {line.split()[0]: line for line in lines if line.startswith("job-")}
    assert re.search(r"░+.*▒+.*█+.*▓.*✓ +✓ 1m", of["job-1"])
    assert "↻" in of["job-3"]
    assert of["job-5"].count("✗") == 2
    assert of["job-7"].count("⊘") == 2


def test_200_jobs_fit_on_a_screen_or_two() -> None:
    lines = terminal(recorded("client 200"), width=80, colour=False).splitlines()
    assert len(lines) < 70
    assert any(re.match(rf"{TIMES}1\d\d jobs", line) for line in lines)


def test_the_terminal_shows_the_first_divergence_and_what_was_expected() -> None:
    text = terminal(recorded("client 10"), parted("client 10"), width=100, colour=False)
    assert "≠ the replay diverges in 2 streams" in text.splitlines()[0]
    assert "granted, got nothing" in text
    assert re.search(r"^ +- +sent = \d+$", text, re.MULTILINE)
    assert re.search(r"^ +\+ +sent = 1$", text, re.MULTILINE)


def test_hostile_labels_send_no_code_to_a_terminal_and_keep_its_width() -> None:
    log = hostile()
    for boxes_ in (True, False):
        text = terminal(log, [Divergence(WORSE, log.rows[1], None)], width=80, colour=False, boxes=boxes_)
        assert not set(text) & {"\x00", "\x1b", "\u202e", "\ud800"}
        assert max(map(cell_len, text.splitlines())) <= 80
