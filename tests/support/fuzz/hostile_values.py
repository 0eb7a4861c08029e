"""Values that have broken programs before, and ways to break what is whole."""

import json
from typing import Any

import msgspec
from hypothesis import strategies as st

from wakestream.streams.protocol import wire

TEXTS = (
    "", " ", "\0", "a\0b", "../../../../etc/passwd", "..\\..\\x", "/etc/passwd", "C:\\CON", "NUL", "file:///etc/passwd",
    "%2e%2e%2f", "%00", "%s%s%n", "{0.__class__}", "${jndi:x}", "'; DROP TABLE facts;--", "<script>alert(1)</script>",
    "\u202e\u202dabc", "אבג\u200f", "👩‍👩‍👧‍👦" * 9, "\ufeff", "\u2028\u2029", "Ⅷ", "ａ", "İi", "\ud800", "\udfff\ud800",
    "\x1b[2J\x1b]0;x\x07",
    "\r\nX: y", "\n", "-1", "1e309", "NaN", "null", "true", "[]", "gpu_task", "https://x", "x" * 201, "é" * 3000, ".",
    "a" * 32, "A" * 64, "0" * 31, "http://[::1", "javascript:1",
)  # fmt: skip
NUMBERS = (0, -1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, -0.0, 5e-324)
"""Those that JSON can say; its writer says NaN and infinity too, though no reader must take them."""

LEAVES = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.floats(), st.integers(), st.sampled_from(TEXTS),
    st.text(max_size=20),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(TEXTS), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def nested(levels: int) -> bytes:
    """Lists in lists."""
    return b"[" * levels + b"]" * levels


def _examples() -> list[dict[str, Any]]:
    ids = {"request_id": "fuzz", "task_id": "fuzz", "gpu": "gpu", "state": "off", "status": "ok", "url": "http://w:1"}
    ids |= {"role": "worker", "key": "k", "token": "t", "active_count": 1, "has_recent_active": False, "fd": 1}
    ids |= {"payload": {"video_hash": "0" * 32}, "jobs": [], "features": ["done"], "license": "x", "expires": 1}
    found = []
    for kind in wire.KNOWN:
        fields = {one.name: ids[one.name] for one in msgspec.structs.fields(kind) if one.name in ids}
        found.append({"type": kind.TYPE, **fields, "data": {"status": "online", "gpu": "gpu", "msg": "m"}})
        if kind.OLD:
            found.append({**found[-1], "type": kind.OLD})
    return found


WHOLE = st.sampled_from(_examples())
"""A message of every kind, as it should be."""


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A whole message with something wrong: fields gone, of other types, added, twice, or bytes changed."""
    message = dict(draw(WHOLE))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(sorted(message)) | st.sampled_from(TEXTS))
        if draw(st.booleans()):
            message[name] = draw(VALUES)
        else:
            message.pop(name, None)
        if not message:
            break
    text = json.dumps(message).encode()
    how = draw(st.integers(0, 7))
    if how == 0:
        text = text[: draw(st.integers(0, len(text)))]
    elif how == 1:
        text = b'{"type":"ping",' + text[1:]
    elif how == 2:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.binary(min_size=1, max_size=4)) + text[at:]
    return text


FRAMES = st.one_of(
    mutated(),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.integers(1, 5000).map(nested),
    st.sampled_from(
        [b'{"type":', b"\xff\xfe", b"\xed\xa0\x80", b'"\xed\xa0\x80"', b'{"type":"ping"}' * 2, b"http://x"]
    ),
)
"""The payloads of text frames."""
