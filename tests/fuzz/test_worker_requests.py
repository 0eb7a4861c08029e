"""HTTP requests of every kind of wrongness at the worker's port, on every call that it has."""

import itertools
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import md5
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fuzz.attacked_worker import BEARER, Attacked, attacked, is_fit
from tests.support.fuzz.example_counts import BOUNDED
from tests.support.fuzz.hostile_values import TEXTS, VALUES, nested
from tests.support.fuzz.raw_http import request

# aiohttp says so where a form's header does not parse; outside of tests that is a line on standard error, once.
pytestmark = [
    pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionHeader"),
    pytest.mark.filterwarnings("ignore::aiohttp.BadContentDispositionParam"),
]

AT = "/api/heygem/"
NAMES = ("check_files", "upload_file", "submit", "upload", "progress", "download", "queue", "cancel")
TARGETS = [f"{AT}{name}" for name in NAMES]
TARGETS += ["/files/", f"/files/{'0' * 32}", "/", "*", "/nowhere"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"]
CLIMBING = (
    "../../../../../../tmp/wakestream-fuzz", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/x", "....//....//x",
    "/etc/passwd", "..\\..\\x", "C:\\x", "CON:", "x\0.mp4", "%00", "~root", "\\\\host\\share", "file:///etc/passwd",
    ". .", "x/./y", "", "..;/..;/", "%c0%ae%c0%ae/", "%252e%252e%252f", "0" * 32 + "/../" + "0" * 32, "0" * 5000,
    "\u202e4pm.x", "x\r\nX: y",
)  # fmt: skip


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Attacked]:
    async with attacked(tmp_path) as scene:
        yield scene


def clean(text: str) -> str:
    """The text as a header's value or a target may bear it: on one line."""
    return text.replace("\r", "").replace("\n", "")


BODIES = st.one_of(
    VALUES.map(json.dumps).map(str.encode),
    st.dictionaries(
        st.sampled_from(["files", "video_hash", "video_ext", "audio_hash", "audio_ext", "task_id", "job_id"]), VALUES
    ).map(lambda body: json.dumps(body).encode()),
    st.binary(max_size=50),
    st.integers(1, 5000).map(nested),
)


@BOUNDED
@given(st.sampled_from(METHODS), st.sampled_from(TARGETS), st.sampled_from(TEXTS) | st.text(max_size=10), BODIES)
async def test_any_call_is_answered_or_refused_in_words_and_counted(
    worker: Attacked, method: str, target: str, query: str, body: bytes
) -> None:
    before = worker.refused.total()
    reply = await worker.ask(request(method, f"{target}?task_id={quote(query, errors='replace')}", BEARER, body=body))
    assert is_fit(reply), reply
    assert worker.refused.total() - before == (1 if reply.status >= 400 else 0)
    await worker.is_well()


@pytest.mark.parametrize("climbing", CLIMBING)
async def test_no_name_leads_out_of_the_state_folder(worker: Attacked, climbing: str) -> None:
    raw = clean(climbing).replace(" ", "%20")
    for target in (f"{AT}download?task_id={raw}", f"{AT}progress?task_id={raw}", f"/files/{raw}", f"/{raw}", raw):
        for method in ("GET", "HEAD", "DELETE", "PATCH"):
            length = "Content-Type: application/offset+octet-stream"
            reply = await worker.ask(
                request(method, target, BEARER, "Tus-Resumable: 1.0.0", "Upload-Offset: 0", length, body=b"x")
            )
            assert reply.status >= 400 or reply.status == 0 or target == "/", (target, reply)
            assert b"root:" not in reply.body
    for file in ({"hash": climbing, "ext": ".mp4"}, {"hash": "0" * 32, "ext": climbing}):
        body = json.dumps({"files": [file]}).encode()
        reply = await worker.ask(request("POST", f"{AT}check_files", BEARER, body=body))
        assert reply.status == 400 or json.loads(reply.body)["data"] == {climbing: False}
    pair = {"video_hash": "0" * 32, "video_ext": climbing, "audio_hash": climbing, "audio_ext": ".wav"}
    body = json.dumps(pair).encode()
    assert (await worker.ask(request("POST", f"{AT}submit", BEARER, body=body))).status == 400
    for name in (climbing, f"{climbing}.mp4", f"x.{climbing}"):
        told = await worker.ask(creating(f"filename {b64encode(name.encode()).decode()}"))
        assert told.status in (201, 400), told
    reply = await worker.ask(form([("hash", "0" * 32), ("ext", climbing), ("file", "content")], climbing))
    assert reply.status == 400, reply
    reply = await worker.ask(form([("hash", climbing), ("ext", ".mp4"), ("file", "content")], climbing))
    assert (
        reply.status == 400
        or json.loads(reply.body)["data"]["hash"] == md5(b"content", usedforsecurity=False).hexdigest()
    )
    assert not Path("/tmp/wakestream-fuzz").exists()  # noqa: S108 - the address that the climbing names


def creating(metadata: str, length: str = "5", *more: str) -> bytes:
    """The request that begins a resumable upload."""
    said = (f"Upload-Length: {clean(length)}", f"Upload-Metadata: {clean(metadata)}")
    return request("POST", "/files/", BEARER, "Tus-Resumable: 1.0.0", *said, *map(clean, more))


def form(fields: list[tuple[str, Any]], filename: str = "x.mp4", target: str = f"{AT}upload_file") -> bytes:
    """A form with these fields; those called file, audio and video are files."""
    parts = b""
    for name, value in fields:
        file = f'; filename="{clean(filename)}"' if name in ("file", "audio", "video") else ""
        head = f'--b\r\nContent-Disposition: form-data; name="{clean(name)}"{file}\r\n\r\n{value}\r\n'
        parts += head.encode(errors="surrogatepass")
    kind = "Content-Type: multipart/form-data; boundary=b"
    return request("POST", target, BEARER, kind, body=parts + b"--b--\r\n")


WORDS = st.sampled_from(TEXTS) | st.sampled_from(CLIMBING) | st.text(max_size=10)


@BOUNDED
@given(WORDS, WORDS, st.sampled_from(["", "-1", "1e9", "9" * 30, "0", "5", "٣", "+5", "5 5", "0x5"]), WORDS)
async def test_any_announcement_of_a_resumable_upload_is_taken_or_refused(
    worker: Attacked, name: str, value: str, length: str, checksum: str
) -> None:
    coded = b64encode(value.encode(errors="surrogatepass")).decode()
    for metadata in (f"{name} {value}", f"{name} {coded}", f"filename {coded},blake3 {coded}", "filename eC5tcDQ="):
        reply = await worker.ask(creating(metadata, length, f"Upload-Checksum: {checksum}"))
        assert is_fit(reply), reply
        if reply.status == 201:
            target, empty = reply.headers["location"], "Content-Type: application/offset+octet-stream"
            for offset, digest in ((length, checksum), ("0", f"sha1 {coded}"), (value, f"{name} {coded}")):
                said = (f"Upload-Offset: {clean(offset)}", f"Upload-Checksum: {clean(digest)}")
                data = request("PATCH", target, BEARER, "Tus-Resumable: 1.0.0", *said, empty, body=b"x")
                assert is_fit(await worker.ask(data))
    await worker.is_well()


@BOUNDED
@given(
    st.lists(st.tuples(st.sampled_from(["file", "hash", "ext", "audio", "video"]) | WORDS, WORDS), max_size=5), WORDS
)
async def test_any_form_is_taken_or_refused(worker: Attacked, fields: list[tuple[str, str]], filename: str) -> None:
    for target in (f"{AT}upload_file", f"{AT}upload"):
        reply = await worker.ask(form(fields, filename, target))
        assert is_fit(reply), reply
    await worker.is_well()


@BOUNDED
@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda data: b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n"))
async def test_the_worker_survives_any_bytes(worker: Attacked, data: bytes) -> None:
    caller = await worker.connect()
    caller.write(data)
    await caller.close()
    await worker.is_well()


async def test_without_the_secret_the_reply_only_asks_for_it(worker: Attacked) -> None:
    for text, target in zip(TEXTS, itertools.cycle(TARGETS), strict=False):
        reply = await worker.ask(request("GET", target, f"Authorization: Bearer {clean(text)}"))
        assert reply.status in (0, 400, 401, 429) or target == "/", reply
        assert reply.status not in (401, 429) or reply.headers["connection"] == "close"
