"""Files to and from a bucket by signed links. The server here makes the faults; real stores are in acceptance/depot."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from blake3 import blake3

from tests.support.log_lines import logged
from tests.support.programs.plain_server import answering
from wakestream.adapters.client import links, upload
from wakestream.adapters.client.links import get, put
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.operators.model.depot import DepotFile, Place
from wakestream.operators.model.errors import Corrupt, DepotError, FileChanged, LinkExpired, is_retryable
from wakestream.operators.model.events import Fingerprint
from wakestream.operators.model.ports import Resumed

SIGNED = "X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-Signature=5ec7e7"
CONTENT = os.urandom(700_001)
PART = 250_000

Answer = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


@pytest.fixture
async def session(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpWorkers]:
    monkeypatch.setattr(links, "AGAIN", replace(links.AGAIN, initial=0.001))
    workers = HttpWorkers(idle=20.0)
    yield workers
    await workers.close()


@pytest.fixture
def film(tmp_path: Path) -> Fingerprint:
    path = tmp_path / "film.mp4"
    path.write_bytes(CONTENT)
    status = path.stat()
    return Fingerprint(path, status.st_size, status.st_mtime_ns, {"blake3": blake3(CONTENT).hexdigest()})


class Bucket:
    """Keeps what is put; `faults` answers requests before it does."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.faults: list[Answer] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append((request.path, request.headers.get("Range")))
        if self.faults:
            return await self.faults.pop(0)(request, body)
        if request.method == "PUT":
            assert request.headers["Content-Length"] == str(len(body))
            assert request.query_string == SIGNED
            self.kept[request.path] = body
            return web.Response()
        start = int((request.headers.get("Range") or "bytes=0-")[6:-1])
        whole = self.kept[request.path]
        if not start:
            return web.Response(body=whole)
        ranged = {"Content-Range": f"bytes {start}-{len(whole) - 1}/{len(whole)}", "ETag": '"of-a-part"'}
        return web.Response(status=206, body=whole[start:], headers=ranged)


def place(base: str, film: Fingerprint, **changes: Any) -> Place:
    file = DepotFile("video", film.digests["blake3"], ".mp4", film.size)
    return Place(file, **{"url": f"{base}/whole?{SIGNED}", **changes})


def in_parts(url: str, film: Fingerprint, *numbers: int, **changes: Any) -> Place:
    parts = {number: f"{url}/{number}?{SIGNED}" for number in numbers}
    return place(url, film, **{"url": "", "parts": parts, "part_size": PART, **changes})


def saying(status: int, code: str, **headers: str) -> Answer:
    async def answer(request: web.Request, _: bytes) -> web.StreamResponse:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Resource>{request.path_qs}</Resource></Error>"
        return web.Response(status=status, text=text, headers=headers)

    return answer


async def sent(session: HttpWorkers, film: Fingerprint, where: Place) -> list[int | Resumed]:
    async with aclosing(put(session, film, where)) as totals:
        return [total async for total in totals]


async def fetched(session: HttpWorkers, where: Place, output: Path) -> Path:
    partial = session.partial(where.file.blake3, output)
    async with aclosing(get(session, where, partial)) as steps:
        async for _ in steps:
            pass
    return partial.output


async def test_a_file_is_put_whole_and_comes_back(session: HttpWorkers, film: Fingerprint, tmp_path: Path) -> None:
    bucket = Bucket()
    async with answering(bucket.answer) as url:
        assert (await sent(session, film, place(url, film)))[-1] == film.size
        assert bucket.kept == {"/whole": CONTENT}
        output = await fetched(session, place(url, film), tmp_path / "back.mp4")
    assert output.read_bytes() == CONTENT


async def test_parts_have_their_bytes_and_count_beside_those_that_are_there(
    session: HttpWorkers, film: Fingerprint
) -> None:
    bucket = Bucket()
    async with answering(bucket.answer) as url:
        totals = await sent(session, film, in_parts(url, film, 2, 3, parted=1))
    assert bucket.kept == {"/2": CONTENT[PART : 2 * PART], "/3": CONTENT[2 * PART :]}
    assert totals[0] == Resumed(PART)
    assert totals[-1] == film.size


async def test_only_the_part_that_failed_is_sent_again(session: HttpWorkers, film: Fingerprint) -> None:
    bucket = Bucket()
    bucket.faults = [saying(503, "SlowDown", **{"Retry-After": "0"}), saying(400, "RequestTimeout")]
    async with answering(bucket.answer) as url:
        assert (await sent(session, film, in_parts(url, film, 1, 2, 3)))[-1] == film.size
    assert len(bucket.asked) == 5
    assert b"".join(bucket.kept[f"/{number}"] for number in (1, 2, 3)) == CONTENT


@pytest.mark.parametrize(
    ("status", "word", "kind", "code"),
    [
        (403, "AccessDenied", LinkExpired, "link_expired"),
        (403, "RequestTimeTooSkewed", LinkExpired, "link_expired"),
        (400, "ExpiredToken", LinkExpired, "link_expired"),
        (403, "QuotaExceeded", DepotError, "full"),
        (507, "XMinioStorageFull", DepotError, "full"),
        (413, "", DepotError, "full"),
        (400, "EntityTooLarge", DepotError, "too_large"),
        (404, "NoSuchUpload", DepotError, "lost"),
        (503, "SlowDown", DepotError, "down"),
        (307, "TemporaryRedirect", DepotError, "http_307"),
    ],
)
async def test_a_refusal_has_its_code_and_never_the_link(
    session: HttpWorkers, film: Fingerprint, tmp_path: Path, status: int, word: str, kind: type[DepotError], code: str
) -> None:
    bucket = Bucket()
    with logged("TRACE") as lines:
        async with answering(bucket.answer) as url:
            for move in (sent(session, film, place(url, film)), fetched(session, place(url, film), tmp_path / "out")):
                bucket.faults = [saying(status, word, Location=f"{url}/else") for _ in range(9)]
                with pytest.raises(kind) as raised:
                    await move
                assert raised.value.code == code
                assert is_retryable(raised.value)
                assert "5ec7e7" not in f"{raised.value!r}{raised.value.__cause__!r}"
    assert not any("5ec7e7" in line for line in lines)
    assert len({path for path, _ in bucket.asked}) == 1


async def test_a_connection_that_breaks_is_tried_again_and_is_no_refusal(
    session: HttpWorkers, film: Fingerprint
) -> None:
    async def hang_up(request: web.Request, _: bytes) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    bucket = Bucket()
    async with answering(bucket.answer) as url:
        bucket.faults = [hang_up] * 3
        assert (await sent(session, film, place(url, film)))[-1] == film.size
        bucket.faults = [hang_up] * 20
        with pytest.raises(DepotError, match="the connection broke") as raised:
            await sent(session, film, place(url, film))
        assert raised.value.code == "down"  # although this machine's clock is past the end of the link


async def test_a_fetch_goes_on_where_it_broke_and_asks_for_the_rest(
    session: HttpWorkers, film: Fingerprint, tmp_path: Path
) -> None:
    async def cut(request: web.Request, _: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
        await response.prepare(request)
        await response.write(CONTENT[:300_000])
        assert request.transport is not None
        request.transport.abort()
        return response

    bucket = Bucket()
    async with answering(bucket.answer) as url:
        bucket.kept["/whole"] = CONTENT
        bucket.faults = [cut]
        with pytest.raises(Corrupt):
            await fetched(session, place(url, film), tmp_path / "out.mp4")
        again = HttpWorkers(idle=20.0)  # as after a kill
        assert (await fetched(again, place(url, film), tmp_path / "out.mp4")).read_bytes() == CONTENT
        await again.close()
    first, rest = bucket.asked
    assert first[1] is None
    assert rest[1] is not None
    assert 0 < int(rest[1][6:-1]) <= 300_000


async def test_wrong_bytes_of_the_depot_never_become_a_file(
    session: HttpWorkers, film: Fingerprint, tmp_path: Path
) -> None:
    bucket = Bucket()
    async with answering(bucket.answer) as url:
        for wrong in (bytes(len(CONTENT)), CONTENT[:-1], CONTENT + b"!"):
            bucket.kept["/whole"] = wrong
            with pytest.raises(Corrupt) as raised:
                await fetched(session, place(url, film), tmp_path / "out.mp4")
            assert raised.value.code == "damaged"
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


async def test_a_file_that_changed_after_it_was_hashed_is_not_put(session: HttpWorkers, film: Fingerprint) -> None:
    bucket = Bucket()
    film.path.write_bytes(CONTENT[::-1])
    os.utime(film.path, ns=(1, 1))
    async with answering(bucket.answer) as url:
        with pytest.raises(FileChanged):
            await sent(session, film, in_parts(url, film, 1, 2, 3))
    assert not bucket.kept


async def never(request: web.Request) -> web.StreamResponse:
    with suppress(TimeoutError):
        async with asyncio.timeout(30):
            await request.content.read(-1 if request.method == "PUT" and request.content_length == len(CONTENT) else 0)
            await asyncio.Event().wait()
    return web.Response()


async def test_a_depot_that_takes_no_byte_is_given_up(film: Fingerprint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "ATTEMPTS", 1)
    session = HttpWorkers(idle=0.2)
    async with answering(never) as url:
        with pytest.raises(DepotError, match="no byte for too long"):
            await sent(session, film, place(url, film))
    await session.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system does not tell what it has sent")
async def test_bytes_that_wait_in_this_machine_do_not_count_as_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "ATTEMPTS", 1)
    monkeypatch.setattr(upload, "INTERVAL", 0.0)
    session, path, most = HttpWorkers(idle=0.5), tmp_path / "long.mp4", 0
    with path.open("wb") as file:
        file.truncate(32_000_000)
    long = Fingerprint(path, 32_000_000, path.stat().st_mtime_ns, {"blake3": "0" * 64})
    async with answering(never) as url:
        with suppress(DepotError):
            async for count in put(session, long, place(url, long)):
                most = max(most, count if isinstance(count, int) else 0)
    await session.close()
    assert 0 < most < 3_000_000
