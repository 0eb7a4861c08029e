"""Answers of stores that no store gives on demand: moto behind a proxy that injects them. Moto checks no signature."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from tests.support.depot.stores import CLOSED
from tests.support.power.stand_ins import moto, needs_clouds
from tests.support.programs.plain_server import answering
from wakestream.adapters.depot import s3
from wakestream.adapters.depot.bucket import Bucket
from wakestream.adapters.depot.s3 import MIB, S3Depot
from wakestream.operators.model.errors import DepotError
from wakestream.streams.protocol import depot_messages as d

pytestmark = needs_clouds()

FILE = d.DepotFile(name="video", blake3="a" * 64, ext=".mp4", size=12 * MIB)


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    with moto() as url:
        yield url


@dataclass
class Between:
    """Passes calls on to moto. The first `faults` calls that match `when` get the status and the error's code.

    A call that matches `late` sets `arrived` and waits for `go_on`.
    """

    target: str
    when: str = "never"
    faults: int = 0
    status: int = 503
    code: str = "SlowDown"
    late: str = "never"
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        call = f"{request.method} {request.path_qs}"
        self.asked.append(call)
        body = await request.read()
        if re.search(self.late, call):
            self.arrived.set()
            await self.go_on.wait()
        if re.search(self.when, call) and self.faults:
            self.faults -= 1
            text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{self.code}</Code></Error>'
            return web.Response(status=self.status, text="" if request.method == "HEAD" else text)
        headers = {name: value for name, value in request.headers.items() if name != "Transfer-Encoding"}
        async with (
            aiohttp.ClientSession() as http,
            http.request(
                request.method, f"{self.target}{request.path_qs}", data=BytesIO(body), headers=headers
            ) as response,
        ):
            passed = ("ETag", "Content-Type", "Last-Modified", *(("Content-Length",) * (request.method == "HEAD")))
            said = {name: response.headers[name] for name in passed if name in response.headers}
            return web.Response(status=response.status, headers=said, body=await response.read() or None)


@pytest.fixture
async def between(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Between]:
    for name, value in {**CLOSED, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)
    monkeypatch.setattr(s3, "WHOLE", 5 * MIB)
    monkeypatch.setattr(s3, "PART", 5 * MIB)
    async with aiohttp.ClientSession() as http:
        for method, path in (("POST", "moto-api/reset"), ("PUT", "films")):
            async with http.request(method, f"{moto_url}/{path}") as response:
                assert response.status == 200
    return Between(moto_url)


@asynccontextmanager
async def depot_behind(between: Between) -> AsyncIterator[S3Depot]:
    async with answering(between.answer) as url:
        depot = S3Depot(Bucket("films", "", url), {})
        yield depot
        await depot.close()


async def put_parts(depot: S3Depot, *numbers: int) -> None:
    """As a client does."""
    [place] = depot.sign([FILE], (), "me", "put", 0.0)
    async with aiohttp.ClientSession() as http:
        for number in numbers:
            length = min(place.part_size, FILE.size - (number - 1) * place.part_size)
            async with http.put(URL(place.parts[str(number)], encoded=True), data=BytesIO(bytes(length))) as response:
                assert response.status == 200


async def test_a_store_that_asks_to_slow_down_is_asked_again(between: Between) -> None:
    async with depot_behind(between) as depot:
        between.when, between.faults = "HEAD", 2
        assert await depot.open("me", [FILE]) == {}
        between.faults = 100
        with pytest.raises(DepotError) as raised:
            await depot.check("me", [FILE])
        assert raised.value.code == "down"


async def test_an_error_inside_of_a_success_does_not_complete_an_upload(between: Between) -> None:
    async with depot_behind(between) as depot:
        await depot.open("me", [FILE])
        await put_parts(depot, 1, 2, 3)
        between.when, between.status, between.code, between.faults = r"POST .*uploadId", 200, "InternalError", 100
        with pytest.raises(DepotError) as raised:
            await depot.check("me", [FILE])
        assert raised.value.code == "down"
        between.faults = 1
        assert await depot.check("me", [FILE]) == {FILE.blake3: FILE.size}


async def test_an_upload_without_one_of_its_parts_is_never_completed(between: Between) -> None:
    async with depot_behind(between) as depot:  # moto would complete it
        await depot.open("me", [FILE])
        await put_parts(depot, 1, 3)
        assert await depot.check("me", [FILE]) == {}
        assert not any(call.startswith("POST") and "uploadId" in call for call in between.asked)
        await depot.open("me", [FILE])
        [place] = depot.sign([FILE], (), "me", "put", 0.0)
        assert ([*place.parts], place.parted) == (["2"], 2)


async def test_parts_that_vanish_before_the_end_are_asked_for_again(between: Between) -> None:
    async with depot_behind(between) as depot:
        await depot.open("me", [FILE])
        await put_parts(depot, 1, 2, 3)
        between.when, between.status, between.code, between.faults = r"POST .*uploadId", 400, "InvalidPart", 1
        with pytest.raises(DepotError, match="InvalidPart"):
            await depot.check("me", [FILE])
        assert await depot.check("me", [FILE]) == {FILE.blake3: FILE.size}


async def test_a_sweep_leaves_an_upload_that_a_job_takes_up_meanwhile(between: Between) -> None:
    async with depot_behind(between) as depot:  # moto says of each upload that it began in 2010
        between.late = r"uploads&prefix=(&|$)"
        async with asyncio.timeout(100), asyncio.TaskGroup() as tasks:
            swept = tasks.create_task(depot.sweep())
            await between.arrived.wait()
            await depot.open("me", [FILE])
            between.go_on.set()
        assert swept.result() == 0
        await put_parts(depot, 1, 2, 3)


@pytest.mark.parametrize(
    ("status", "code", "ours"),
    [(403, "QuotaExceeded", "full"), (507, "XMinioStorageFull", "full"), (403, "AccessDenied", "denied"),
     (404, "NoSuchBucket", "denied"), (500, "InternalError", "down"), (301, "PermanentRedirect", "denied")],
)  # fmt: skip
async def test_a_refusal_of_the_store_has_our_word_for_it(between: Between, status: int, code: str, ours: str) -> None:
    async with depot_behind(between) as depot:
        between.when, between.status, between.code, between.faults = r"POST .*uploads", status, code, 100
        with pytest.raises(DepotError) as raised:
            await depot.open("me", [FILE])
        assert raised.value.code == ours


async def test_a_store_without_lists_of_uploads_or_parts_gets_whole_files(between: Between) -> None:
    async with depot_behind(between) as depot:
        between.when, between.status, between.code, between.faults = r"GET .*upload", 501, "NotImplemented", 100
        huge = d.DepotFile(name="video", blake3="b" * 64, size=s3.MOST_WHOLE + 1)
        with pytest.raises(DepotError) as raised:
            await depot.open("me", [huge])
        assert raised.value.code == "too_large"
        await depot.open("me", [FILE])
        [place] = depot.sign([FILE], (), "me", "put", 0.0)
        assert place.url
        assert not place.parts
