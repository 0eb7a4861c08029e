"""Bodies that lie, that never end, that are too much or too slow; requests that two servers would read differently."""

import asyncio
import gzip
import re
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest

from tests.support.fuzz.attacked_worker import BEARER, Attacked, attacked
from tests.support.fuzz.raw_http import RawHttp, request
from tests.support.programs.our_peers import until
from wakestream.adapters.net import silent_callers
from wakestream.adapters.worker.http import requests
from wakestream.adapters.worker.http import server as worker_server

CHECK, UPLOAD = "/api/heygem/check_files", "/api/heygem/upload_file"
FORM = "Content-Type: multipart/form-data; boundary=b"
CHUNKED = "Transfer-Encoding: chunked"
LIMIT = 16 * 1024 * 1024
"""Bytes of Python's memory that no attack of one connection may cost."""


@pytest.fixture
async def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Attacked]:
    monkeypatch.setattr(worker_server, "_GRACE", 0.2)
    async with attacked(tmp_path) as scene:
        yield scene


@pytest.fixture
def memory() -> Iterator[None]:
    """The test's peak, which must stay below the limit."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < LIMIT
    finally:
        tracemalloc.stop()


HEALTH = "GET /api/heygem/health HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLING = {
    "two lengths": request("POST", CHECK, BEARER, "Content-Length: 0", f"Content-Length: {len(HEALTH)}", length=False),
    "two lengths in one": request("POST", CHECK, BEARER, f"Content-Length: 0, {len(HEALTH)}", length=False),
    "a length and chunks": request("POST", CHECK, BEARER, "Content-Length: 5", CHUNKED, length=False) + b"0\r\n\r\n",
    "chunks and a length": request("POST", CHECK, BEARER, CHUNKED, "Content-Length: 5", length=False) + b"0\r\n\r\n",
    "chunked and more": request("POST", CHECK, BEARER, "Transfer-Encoding: chunked, identity", length=False),
    "chunked in disguise": request("POST", CHECK, BEARER, "Transfer-Encoding: xchunked", length=False),
    "chunked behind a tab": request("POST", CHECK, BEARER, "Transfer-Encoding:\tchunked\x0b", length=False),
    "a space before the colon": request("POST", CHECK, BEARER, "Content-Length : 5", length=False),
    "a signed length": request("POST", CHECK, BEARER, "Content-Length: +5", length=False),
    "a negative length": request("POST", CHECK, BEARER, "Content-Length: -1", length=False),
    "a length in other digits": request("POST", CHECK, BEARER, "Content-Length: 0x5", length=False),
    "a length beyond all numbers": request("POST", CHECK, BEARER, f"Content-Length: {'9' * 40}", length=False),
    "a length with underscores": request("POST", CHECK, BEARER, "Content-Length: 1_0", length=False),
    "a folded length": request("POST", CHECK, BEARER, "Content-Length:\r\n 5", length=False),
    "a bare line feed": request("POST", CHECK, BEARER).replace(b"\r\n", b"\n", 1),
    "a chunk size with a sign": request("POST", CHECK, BEARER, CHUNKED, length=False) + b"+5\r\nhello\r\n0\r\n\r\n",
    "a chunk size beyond all": request("POST", CHECK, BEARER, CHUNKED, length=False) + b"f" * 40 + b"\r\n",
    "an invalid chunk size": request("POST", CHECK, BEARER, CHUNKED, length=False) + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk without its end": request("POST", CHECK, BEARER, CHUNKED, length=False) + b"1\r\n{}\r\n0\r\n\r\n",
    "NUL in a header": request("POST", CHECK, BEARER, "X: a\0b"),
    "a header without a name": request("POST", CHECK, BEARER, ": x"),
    "another version": request("POST", CHECK, BEARER).replace(b"HTTP/1.1", b"HTTP/9.9", 1),
    "no version": b"GET /api/heygem/health\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLING.values(), ids=list(SMUGGLING))
async def test_ambiguous_requests_are_refused_with_everything_after_them(worker: Attacked, data: bytes) -> None:
    caller = await worker.connect()
    before = worker.refused.total()
    caller.write(data + HEALTH.encode())
    said = await caller.ended()
    assert b"initialized" not in said
    answers = len(re.findall(rb"HTTP/1\.[01] \d\d\d ", said))
    assert answers <= 1
    assert said == b"" or said.split()[1].startswith(b"4"), said[:200]
    await caller.close()
    assert worker.refused.total() - before == answers
    await worker.is_well()


TARGETS = {
    "http://x/api/heygem/health": 200, "http://evil/api/heygem/health": 200, "//x/api/heygem/health": 404,
    "/api/heygem/../../etc/passwd": 404, "/api/heygem/health?" + "x" * 7000: 200, "/" + "x" * 20_000: 400, "*": 404,
    "/api/heygem/health#x": 200, "x:443": 400, "/\ud800": 400, "/%": 404, "http://[::1": 400,
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
async def test_any_form_of_a_target_gets_one_answer(worker: Attacked, target: str) -> None:
    reply = await worker.ask(request("GET", target, BEARER))
    assert reply.status in (TARGETS[target], 400, 404), reply
    await worker.is_well()


HUGE = {
    "one header of ten million bytes": (b"GET / HTTP/1.1\r\nX: ", b"x" * 100_000, 100),
    "a hundred thousand headers": (b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 10_000, 100),
    "a target without end": (b"GET /", b"x" * 100_000, 100),
    "a method without end": (b"", b"G" * 100_000, 100),
}


@pytest.mark.parametrize("way", HUGE.values(), ids=list(HUGE))
async def test_a_head_without_end_is_cut_early(worker: Attacked, memory: None, way: tuple[bytes, bytes, int]) -> None:
    begin, more, times = way
    caller = await worker.connect()
    caller.write(begin)
    for _ in range(times):
        if not await caller.sent(more):
            break
    assert (await caller.reply()).status in (0, 400, 431)
    await caller.close()
    await worker.is_well()


async def poured(caller: RawHttp, head: bytes, block: bytes, times: int) -> int:
    """How often the block was taken before the other side hung up."""
    await caller.sent(head)
    for count in range(times):
        if not await caller.sent(block):
            return count
    return times


async def test_a_json_body_without_end_is_refused_at_its_limit(worker: Attacked, memory: None) -> None:
    for head in (request("POST", CHECK, BEARER, CHUNKED, length=False), request("POST", CHECK, CHUNKED, length=False)):
        caller = await worker.connect()
        reply = asyncio.create_task(caller.reply())
        taken = await poured(caller, head, b"10000\r\n" + b"x" * 0x10000 + b"\r\n", 1_000_000)
        assert (await reply).status in (401, 413)
        assert taken < 1_000_000
        await caller.close()
    assert worker.refused["http_413"] == worker.refused["unauthorized"] == 1
    await worker.is_well()


BOMB = gzip.compress(bytes(50_000_000))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "gzip, gzip", "br", "zstd", "x"])
@pytest.mark.parametrize("call", [CHECK, UPLOAD])
async def test_a_compressed_body_is_refused_unread(worker: Attacked, memory: None, call: str, coding: str) -> None:
    reply = await worker.ask(request("POST", call, BEARER, FORM, f"Content-Encoding: {coding}", body=BOMB))
    assert reply.status == 415
    assert worker.refused["unsupported_media"] == 1
    await worker.is_well()


PART = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n'
FORMS = {
    "a hundred thousand parts": b"".join(PART % b"x%d" % n + b"\r\n" for n in range(100_000)),
    "the same part again and again": (PART % b"x" + b"\r\n") * 1000,
    "no end": PART % b"x" + b"y" * 500,
    "no beginning": b"x" * 5_000_000,
    "a field of ten million bytes": PART % b"hash" + b"0" * 10_000_000 + b"\r\n--b--\r\n",
    "a part's header of ten million bytes": b"--b\r\nX: " + b"y" * 10_000_000 + b"\r\n\r\n\r\n--b--\r\n",
    "a hundred thousand headers of a part": b"--b\r\n" + b"X: y\r\n" * 100_000 + b"\r\n\r\n--b--\r\n",
    "forms within forms": b"".join(
        b"--b\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % n for n in range(900)
    ),
    "a part without a header": b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n",
    "a field _charset_": PART % b"_charset_" + b"n" * 40 + b"\r\n--b--\r\n",
    "no part": b"--b--\r\n",
    "a boundary alone": b"--b",
    "nothing": b"",
}


@pytest.mark.parametrize("body", FORMS.values(), ids=list(FORMS))
async def test_a_form_that_is_a_trap_is_refused(worker: Attacked, body: bytes) -> None:
    caller = await worker.connect()
    reply = asyncio.create_task(caller.reply())
    await caller.sent(request("POST", UPLOAD, BEARER, FORM, body=body))
    said = orjson.loads((await reply).body)
    assert (said["code"], len(said["msg"]) > 20) == (400, True)
    await caller.close()
    assert worker.refused["bad_request"] == 1
    await worker.is_well()


@pytest.mark.parametrize("boundary", ["", '""', "x" * 71, "x" * 5000, "\u202e", '"b', "b b", "-" * 70])
async def test_an_invalid_boundary_is_refused(worker: Attacked, boundary: str) -> None:
    kind = f"Content-Type: multipart/form-data; boundary={boundary}"
    reply = await worker.ask(request("POST", UPLOAD, BEARER, kind, body=PART % b"x" + b"\r\n--b--\r\n"))
    assert reply.status == 400
    await worker.is_well()


@pytest.mark.parametrize("said", [10, 1000, 2**40, 2**62])
async def test_a_short_body_is_detected_when_its_sender_disconnects(worker: Attacked, said: int) -> None:
    caller = await worker.connect()
    body = PART % b"file" + b"content"
    caller.write(request("POST", UPLOAD, BEARER, FORM, f"Content-Length: {said}", length=False) + body)
    await worker.is_well()
    await caller.close()
    await worker.is_well()


@pytest.mark.parametrize(
    "data", [b"GET /api/heygem/health HTTP/1.1\r\nX: " + b"y" * 5000, b"\x16\x03\x01" * 9, b" ", b""]
)
async def test_a_slow_request_head_times_out(worker: Attacked, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    await until(lambda: worker.server.limits.open == 0)
    with monkeypatch.context() as for_this_caller:
        for_this_caller.setattr(silent_callers, "HEAD_WITHIN", 0.2)
        caller = await worker.connect()
        await until(lambda: worker.server.limits.open == 1)
    for byte in data:
        if caller.reader.at_eof():
            break
        caller.write(bytes((byte,)))
        await worker.is_well()  # one byte to each answers of a healthy client
    assert (await caller.reply()).status in (0, 400)
    await caller.close()
    assert worker.refused["silent"] + worker.refused["http_400"] == 1


@pytest.mark.parametrize(
    ("call", "header", "body"),
    [(CHECK, "X: y", b'{"files":' + b" " * 5000), (UPLOAD, FORM, b"--b\r\n"), (UPLOAD, FORM, PART % b"file" + b"x")],
)
async def test_a_stalled_body_times_out(
    worker: Attacked, monkeypatch: pytest.MonkeyPatch, call: str, header: str, body: bytes
) -> None:
    monkeypatch.setattr(requests, "SILENCE", 0.2)
    caller = await worker.connect()
    caller.write(request("POST", call, BEARER, header, "Content-Length: 100000", length=False))
    for byte in body:  # no matter how slowly it began
        caller.write(bytes((byte,)))
    assert (await caller.reply()).status == 408
    assert await caller.ended() == b""
    await caller.close()
    assert worker.refused["timeout"] == 1


async def test_a_slow_json_body_times_out(worker: Attacked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "SILENCE", 0.2)
    caller = await worker.connect()
    caller.write(request("POST", CHECK, BEARER, "Content-Length: 100000", length=False))
    reply = asyncio.create_task(caller.reply())
    while not reply.done():
        caller.write(b" ")
        await worker.is_well()
    assert (await reply).status == 408
    await caller.close()


async def test_unauthenticated_connections_are_not_kept_alive(worker: Attacked) -> None:
    caller = await worker.connect()
    caller.write(request("GET", "/api/heygem/queue") * 50)
    assert (await caller.reply()).status == 401
    assert await caller.ended() == b""
    await caller.close()
    assert worker.refused["unauthorized"] == 1


async def test_a_flood_of_connections_is_limited_and_frees_its_places(worker: Attacked) -> None:
    known = await worker.connect()
    known.write(request("GET", "/api/heygem/queue", BEARER))
    assert (await known.reply()).status == 200
    most = silent_callers.PER_ADDRESS // 4
    flood = [await worker.connect() for _ in range(most + 100)]
    await until(lambda: worker.refused["crowded_address"] + worker.refused["evicted"] == 100)
    known.write(request("GET", "/api/heygem/queue", BEARER))
    assert (await known.reply()).status == 200
    await asyncio.gather(*(caller.close() for caller in (*flood, known)))
    await until(lambda: worker.server.limits.open == 0)
    await worker.is_well()


async def test_requests_in_a_pipe_are_answered_in_order_and_bounded(worker: Attacked, memory: None) -> None:
    caller = await worker.connect()
    await caller.sent(request("GET", "/api/heygem/health") * 2000)
    for _ in range(2000):
        assert (await caller.reply()).status == 200
    await caller.close()
