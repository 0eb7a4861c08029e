"""What reaches the operator's page of a hub: any headers, paths, first messages and calls."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fuzz.attacked_hub import Attacked, attacked
from tests.support.fuzz.example_counts import BOUNDED
from tests.support.fuzz.hostile_values import TEXTS
from tests.support.fuzz.raw_websocket import BINARY, REQUEST, TEXT, RawWebSocket, frame
from wakestream.adapters.hub.licenses import LicenseBook

LIVE = REQUEST.replace(b"/dsp", b"/operator/live").replace(b"Host: x", b"Host: 127.0.0.1\r\nOrigin: http://127.0.0.1")
FILE = REQUEST.replace(b"/dsp", b"/operator/app.js").replace(b"Host: x", b"Host: 127.0.0.1")
NAMES = (b"Host", b"Origin", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Forwarded-For", b"If-None-Match")
ANSWERS = (b"", *(b"HTTP/1.1 %d" % status for status in (101, 200, 304, 308, 400, 403, 404, 421)))

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.sampled_from(TEXTS) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {}, optional={"role": VALUES, "note": VALUES, "gpus": VALUES, "id": VALUES, "code": VALUES, "search": VALUES}
)
CALLS = st.sampled_from(["licenses", "issue", "revoke", "invite", "qr", "shutdown", "", None, 5])


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Attacked]:
    async with attacked(tmp_path) as scene:
        yield scene


async def answered(hub: Attacked, request: bytes) -> bytes:
    """The status line of the answer; empty if the hub hangs up without one."""
    peer = await RawWebSocket.connect(hub.server.port)
    peer.write(request)
    head = await peer.head()
    await peer.close()
    return head[:12]


def text_of(value: Any) -> bytes:
    """A value as JSON, also one with characters that are no Unicode."""
    return json.dumps(value).encode()


async def opened(hub: Attacked) -> RawWebSocket:
    peer = await RawWebSocket.connect(hub.server.port)
    peer.write(LIVE % b"")
    assert b" 101 " in await peer.head()
    hello = await peer.hear()
    assert hello is not None
    assert hello["type"] == "hello"
    return peer


@BOUNDED
@given(st.binary(max_size=40).map(lambda data: data.replace(b" ", b"").replace(b"\r", b"").replace(b"\n", b"")))
async def test_no_path_leads_out_of_the_pages_files(hub: Attacked, path: bytes) -> None:
    found = await answered(hub, (FILE % b"").replace(b"app.js", path))
    assert found in ANSWERS
    assert found != b"HTTP/1.1 200" or path.partition(b"?")[0] == b""
    await hub.is_well()


@BOUNDED
@given(st.binary(max_size=200) | VALUES.map(text_of), st.sampled_from([TEXT, BINARY]))
async def test_any_first_message_is_refused(hub: Attacked, data: bytes, code: int) -> None:
    peer = await opened(hub)
    peer.write(frame(code, data))
    said = await peer.hear()
    assert said is None or said["type"] == "refused"
    await peer.close()
    await hub.is_well()


@settings(BOUNDED, max_examples=BOUNDED.max_examples // 5)  # each writes files
@given(st.lists(st.tuples(CALLS, FIELDS | VALUES), min_size=1, max_size=4))
async def test_any_call_is_answered_or_refused(hub: Attacked, tmp_path: Path, calls: list[tuple[Any, Any]]) -> None:
    _, key = LicenseBook(tmp_path / "state").issue("admin", "", time.time())
    peer = await opened(hub)
    peer.write(frame(TEXT, orjson.dumps({"type": "login", "key": key})))
    for number, (name, given_) in enumerate(calls):
        peer.write(frame(TEXT, text_of({"type": "call", "id": number, "name": name, "with": given_})))
    heard = []
    while len(heard) < len(calls):
        message = await peer.hear()
        assert message is not None
        if message["type"] == "refused":  # a text that is no Unicode makes the message invalid JSON
            assert message["code"] == "bad_message"
            break
        heard += [message["id"]] if message["type"] == "answer" else []
    assert heard == list(range(len(heard)))
    await peer.close()
    await hub.is_well()
