"""What the pages of the wire show is what the code reads and writes: its frames, and its lists of words and numbers."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from wakestream.adapters.worker.http import replies
from wakestream.adapters.worker.http.server import FEATURES as WORKER_FEATURES
from wakestream.operators.model.engine import Frame
from wakestream.operators.model.events import FileRef
from wakestream.streams.hub import hub
from wakestream.streams.monitor import power_table
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.worker import state as w

PAGES = ("protocol", "protocol-jobs", "protocol-power", "protocol-worker", "protocol-depot")
DOCS = Path(__file__).parents[2] / "docs"
DOC = "\n".join((DOCS / f"{page}.md").read_text(encoding="utf-8") for page in PAGES)


def lines(info: str) -> list[str]:
    """Each line of the blocks whose fence says exactly `info`."""
    blocks = re.findall(rf"^```{info}\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def bodies() -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines("json http")]


def typed(mapping: Mapping[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in mapping.items() if value is not None}


def test_every_block_of_the_page_is_of_a_kind_that_is_checked() -> None:
    fences = re.findall(r"^```(.+)$", DOC, re.MULTILINE)
    assert set(fences) == {"json", "json old", "json read", "json http"}


@pytest.mark.parametrize("line", lines("json"))
def test_a_frame_of_the_page_is_read_and_written_as_it_stands(line: str) -> None:
    message = wire.decode(line, strict=True)
    assert not isinstance(message, m.Unknown)
    assert json.loads(wire.encode(message)) == json.loads(line)


@pytest.mark.parametrize("line", lines("json old"))
def test_an_older_frame_of_the_page_is_read_and_written_under_its_older_name(line: str) -> None:
    message = wire.decode(line, strict=True)
    assert json.loads(line)["type"] == type(message).OLD
    assert json.loads(wire.encode_old(message) or "null") == json.loads(line)


@pytest.mark.parametrize("line", lines("json read"))
def test_a_frame_that_only_others_write_is_read(line: str) -> None:
    message = wire.decode(line, strict=True)
    assert not isinstance(message, m.Unknown)
    assert json.loads(wire.encode(message)) != json.loads(line)


def test_the_page_shows_every_message_under_each_of_its_names() -> None:
    shown = {json.loads(line)["type"] for line in lines("json") + lines("json old")}
    assert shown == {name for kind in wire.KNOWN for name in (kind.TYPE, kind.OLD) if name}


def test_the_page_shows_every_field_of_every_message() -> None:
    for kind in wire.KNOWN:
        examples = [json.loads(line) for line in lines("json") if json.loads(line)["type"] == kind.TYPE]
        shown = {name for frame in examples for name in (*frame, *frame.get("data", {}))}
        missing = set(kind.__struct_fields__) - shown
        assert not missing, kind.TYPE


def test_the_page_explains_what_hub_and_worker_announce() -> None:
    of_the_hub = "".join(re.findall(r"^\| (`[^|]+`) \| hub \|", DOC, re.MULTILINE))
    assert set(hub.FEATURES) <= set(re.findall(r"`(\w+)`", of_the_hub))
    row = ", ".join(f"`{feature}`" for feature in WORKER_FEATURES)
    assert f"| {row} | worker |" in DOC


def test_the_page_lists_every_power_state_with_the_field_s_word_for_it() -> None:
    for state, word in power_table.STATUS.items():
        assert re.search(rf"^\| `{state}` \| .* \| `{word}`", DOC, re.MULTILINE), state


def test_the_page_lists_the_close_codes_of_the_hub() -> None:
    for code in (hub.UNAUTHORIZED, hub.FORBIDDEN, hub.NOT_REGISTERED, hub.REPLACED, hub.TOO_MANY):
        assert f"\n| {code} |" in DOC


def test_the_page_states_the_hub_s_limits() -> None:
    limits = hub.Limits()
    assert f"| frame | {wire.MAX_FRAME // 1024} KiB, nested {wire.MAX_DEPTH} deep |" in DOC
    assert f"batch | {limits.batch // 1024} KiB |" in DOC
    assert f"| 1 to {m.MAX_ID} characters |" in DOC
    assert f"| {m.MAX_URL} characters |" in DOC
    assert f"| connections of one license | {limits.per_license} |" in DOC
    assert f"| connections from one address | {limits.per_address} |" in DOC
    assert f"| time to register | {limits.register:g} s |" in DOC
    assert f"| malformed frames of one connection | {limits.malformed} |" in DOC
    assert f"| open jobs of one license | {limits.jobs_per_key} |" in DOC
    assert f"| open queries of one connection | {limits.open_queries} |" in DOC
    assert f"| {limits.queued_ttl / 60:g} min, then `expired` |" in DOC
    assert f"| {limits.granted_ttl / 3600:g} h |" in DOC
    assert f"-ours-job_state) | {limits.over_ttl:g} s |" in DOC
    assert f"as that says | {limits.unreached_ttl:g} s |" in DOC
    assert f"| {limits.silent_ttl / 3600:g} h, then `expired` |" in DOC
    assert f"| {limits.kept_results}, for {limits.granted_ttl / 3600:g} h after the last |" in DOC


def test_the_page_lists_every_word_for_what_went_wrong_at_a_worker() -> None:
    for word, status in replies._STATUS.items():
        assert re.search(rf"^\| {status} \| `{word}` \|", DOC, re.MULTILINE), word


def test_the_page_shows_the_progress_that_the_worker_reports() -> None:
    ref = FileRef("0" * 32, ".mp4")
    task = w.Task("t", ref, ref, "running", 1.0, started_at=1.0, progress=Frame(1, 2, 37.5))
    report = replies.progress(w.QueueState(), task)
    answers = [body.get("data") or {} for body in bodies()]
    shown = [answer for answer in answers if "total_frames" in answer]
    assert [typed(each) for each in shown] == [typed(report)]
    assert shown[0]["status"] == report["status"]


def test_the_page_names_every_call_of_the_worker() -> None:
    folder = Path(__file__).parents[2] / "adapters" / "worker" / "http"
    source = "".join((folder / name).read_text(encoding="utf-8") for name in ("server.py", "depot.py"))
    calls = re.findall(r'web\.(get|post)\(f"\{AT\}(\w+)"', source)
    assert len(calls) > 8
    for method, name in calls:
        assert re.search(rf"\*\*`{method.upper()} {name}(\?[\w=&]+)?`\*\*", DOC), name
