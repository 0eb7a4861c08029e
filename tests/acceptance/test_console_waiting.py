"""Jobs of the console that are started while their files are still copied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.acceptance.test_console import Caller, calling
from tests.support.programs.our_peers import until
from wakestream.adapters.daemon.console import uploads, waiting
from wakestream.adapters.daemon.console.waiting import WaitingJobs
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.streams.outbox.facts import Answer, Submitting

VIDEO, AUDIO = b"v" * 300_000, b"a" * 100_000


@pytest.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    """One who calls."""
    async with calling(tmp_path) as one:
        yield one


async def announce(caller: Caller, kind: str, data: bytes, name: str = "") -> str:
    """A file's id, before it is sent."""
    asked = {"kind": kind, "name": name or f"clip.{'mp4' if kind == 'video' else 'wav'}", "size": len(data)}
    status, plain = await caller.ask("POST", "/console/uploads", asked)
    assert status == 201, plain
    return str(plain["id"])


async def send(caller: Caller, id_: str, data: bytes) -> int:
    """The status of an upload."""
    return (await caller.ask("PUT", f"/console/uploads/{id_}", data))[0]


async def ask_for(caller: Caller, video: str, audio: str, job: str = "ws-1") -> int:
    """The status of a job's start."""
    return (await caller.ask("POST", "/console/jobs", {"id": job, "video": video, "audio": audio}))[0]


async def state(caller: Caller) -> dict[str, Any]:
    """The whole state, as a page that opens gets it."""
    async with caller.session.get(f"{caller.home.url}/console/live?once", headers=caller.bearer) as answer:
        text = (await answer.read()).decode()
    found: dict[str, Any] = orjson.loads(text.split("data: ", 1)[1].split("\n")[0])
    return found


async def seen(caller: Caller, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The state as soon as this holds of it; it is asked for again after each event of the page."""
    async with (
        asyncio.timeout(100),
        caller.session.get(f"{caller.home.url}/console/live", headers=caller.bearer) as live,
    ):
        async for line in live.content:
            if line.startswith(b"data: ") and holds(found := await state(caller)):
                return found
    raise AssertionError("the page's events ended")


@asynccontextmanager
async def half_sent(caller: Caller, id_: str, data: bytes) -> AsyncIterator[None]:
    """A running upload, which breaks at the end of the block."""
    url = caller.home.url.removeprefix("http://")
    host, _, port = url.partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT /console/uploads/{id_} HTTP/1.1\r\nHost: {url}\r\nContent-Length: {len(data)}\r\n"
    writer.write(f"{head}Authorization: {caller.bearer['Authorization']}\r\n\r\n".encode() + data[: len(data) // 2])
    await writer.drain()
    known = caller.home.daemon.console.holdings.uploads
    upload = known.get(id_, complete=False)
    await until(lambda: upload.busy)
    yield
    writer.close()
    await until(lambda: not known.knows(upload))


async def test_a_job_starts_by_itself_when_its_files_are_there(caller: Caller) -> None:
    video, audio = await announce(caller, "video", VIDEO), await announce(caller, "audio", AUDIO)
    assert await ask_for(caller, video, audio) == 202
    assert await ask_for(caller, video, audio) == 202  # a page asks again if it got no answer
    assert await send(caller, video, VIDEO) == 200
    found = await state(caller)
    (job,) = found["waiting"]
    assert [(one["name"], one["file"], one["state"]) for one in job["inputs"]] == [
        ("video", "clip.mp4", "here"),
        ("audio", "clip.wav", "coming"),
    ]
    assert (found["jobs"], found["uploads"]) == ([], [])  # a new page must not take its file for another job
    assert await send(caller, audio, AUDIO) == 200
    found = await state(caller)
    assert (found["waiting"], [job["id"] for job in found["jobs"]]) == ([], ["ws-1"])
    assert await ask_for(caller, video, audio) == 200


async def test_one_file_serves_several_jobs(caller: Caller) -> None:
    video = await announce(caller, "video", VIDEO)
    audios = [await announce(caller, "audio", AUDIO, f"{at}.wav") for at in range(3)]
    for at, audio in enumerate(audios):
        assert await ask_for(caller, video, audio, f"ws-{at}") == 202
    assert await send(caller, audios[0], AUDIO) == 200
    assert len((await state(caller))["waiting"]) == 3
    assert await send(caller, video, VIDEO) == 200
    assert [job["id"] for job in (await state(caller))["waiting"]] == ["ws-1", "ws-2"]
    for audio in audios[1:]:
        assert await send(caller, audio, AUDIO) == 200
    assert sorted(job["id"] for job in (await state(caller))["jobs"]) == ["ws-0", "ws-1", "ws-2"]


async def test_a_copy_that_breaks_is_named_and_can_be_replaced(caller: Caller) -> None:
    video, audio = await announce(caller, "video", VIDEO), await announce(caller, "audio", AUDIO)
    assert await ask_for(caller, video, audio) == 202
    assert await send(caller, audio, AUDIO) == 200
    async with half_sent(caller, video, VIDEO):
        pass
    (job,) = (await state(caller))["waiting"]
    assert [one["state"] for one in job["inputs"]] == ["lost", "here"]
    again = await announce(caller, "video", VIDEO)
    assert await ask_for(caller, again, audio) == 202
    assert await send(caller, again, VIDEO) == 200
    assert [job["id"] for job in (await state(caller))["jobs"]] == ["ws-1"]


async def test_a_job_that_waits_for_its_files_can_be_dropped_with_them(caller: Caller) -> None:
    video, audio = await announce(caller, "video", VIDEO), await announce(caller, "audio", AUDIO)
    shared = await announce(caller, "audio", AUDIO)
    assert await ask_for(caller, video, audio, "ws-1") == 202
    assert await ask_for(caller, video, shared, "ws-2") == 202
    assert await send(caller, audio, AUDIO) == 200
    assert (await caller.ask("DELETE", "/console/jobs/ws-1"))[0] == 200
    assert caller.kept == []
    assert await send(caller, video, VIDEO) == 200  # the other job needs it
    status, plain = await caller.ask("DELETE", "/console/jobs/ws-1")
    assert (status, plain["code"]) == (404, "not_waiting")
    assert (await caller.ask("DELETE", f"/console/uploads/{video}"))[0] == 409


async def test_files_that_wait_for_their_turn_stay_announced_while_others_are_copied(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "BEGIN_WITHIN", -1.0)  # everything is late
    video, audio = await announce(caller, "video", VIDEO), await announce(caller, "audio", AUDIO)
    status, plain = await caller.ask("POST", "/console/jobs", {"id": "ws-1", "video": video, "audio": audio})
    assert (status, plain["code"]) == (404, "unknown_upload")  # the second announcement removed the first file
    monkeypatch.setattr(uploads, "BEGIN_WITHIN", 120.0)
    video, audio = await announce(caller, "video", VIDEO), await announce(caller, "audio", AUDIO)
    assert await ask_for(caller, video, audio) == 202
    async with half_sent(caller, audio, AUDIO):
        monkeypatch.setattr(uploads, "BEGIN_WITHIN", -1.0)
        await announce(caller, "audio", AUDIO)
        (job,) = (await state(caller))["waiting"]
        assert [one["state"] for one in job["inputs"]] == ["coming", "coming"]
    await announce(caller, "audio", AUDIO)  # no file is copied any more: the page is gone
    (job,) = (await state(caller))["waiting"]
    assert [one["state"] for one in job["inputs"]] == ["lost", "lost"]


async def test_a_refusal_after_the_copy_is_shown_and_can_be_tried_again(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, audio = await announce(caller, "video", VIDEO), await announce(caller, "audio", AUDIO)
    assert await ask_for(caller, video, audio) == 202
    assert await send(caller, video, VIDEO) == 200
    box = caller.home.daemon.outbox.state
    monkeypatch.setattr(box, "open_most", 0)
    assert await send(caller, audio, AUDIO) == 200
    (job,) = (await state(caller))["waiting"]
    assert job["refused"]["code"] == "queue_full"
    monkeypatch.setattr(box, "open_most", 10)
    assert await ask_for(caller, video, audio) == 201
    assert (await state(caller))["waiting"] == []


async def test_a_job_that_is_cancelled_while_it_is_submitted_is_cancelled(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, audio = await announce(caller, "video", VIDEO), await announce(caller, "audio", AUDIO)
    assert await ask_for(caller, video, audio) == 202
    assert await send(caller, video, VIDEO) == 200
    begun, go_on, submit = asyncio.Event(), asyncio.Event(), Outbox.submit

    async def slow(box: Outbox, job: Submitting) -> Answer:
        begun.set()
        await go_on.wait()
        return await submit(box, job)

    came, settled = asyncio.Event(), WaitingJobs.settled

    async def noticed(jobs: WaitingJobs, job: str) -> None:
        came.set()
        await settled(jobs, job)

    monkeypatch.setattr(Outbox, "submit", slow)
    monkeypatch.setattr(WaitingJobs, "settled", noticed)
    sent = asyncio.create_task(send(caller, audio, AUDIO))
    await begun.wait()
    asked = asyncio.create_task(caller.ask("POST", "/console/act", {"act": "cancel", "jobs": ["ws-1"]}))
    await came.wait()
    go_on.set()
    assert (await sent, await asked) == (200, (200, {"refused": []}))
    assert await caller.outcome("ws-1") == "cancelled"


async def test_many_jobs_are_cancelled_in_one_call_and_a_wrong_one_is_told_what_to_send(caller: Caller) -> None:
    video, audio = await announce(caller, "video", VIDEO), await announce(caller, "audio", AUDIO)
    for at in range(3):
        assert await ask_for(caller, video, audio, f"ws-{at}") == 202
    assert await send(caller, video, VIDEO) == 200
    assert await send(caller, audio, AUDIO) == 200
    late = await announce(caller, "audio", AUDIO)
    assert await ask_for(caller, video, late, "ws-late") == 202
    status, found = await caller.ask("GET", "/console/ids")
    assert (status, found) == (200, {"open": ["ws-late", "ws-0", "ws-1", "ws-2"], "failed": [], "results": []})
    status, answer = await caller.ask("POST", "/console/act", {"act": "cancel", "jobs": [*found["open"], "ws-none"]})
    assert (status, [(one["id"], one["code"]) for one in answer["refused"]]) == (200, [("ws-none", "unknown_job")])
    for at in range(3):
        assert await caller.outcome(f"ws-{at}") == "cancelled"
    assert (await state(caller))["waiting"] == []
    assert (await caller.ask("GET", "/console/ids"))[1]["failed"] == ["ws-0", "ws-1", "ws-2"]
    status, answer = await caller.ask("POST", "/console/act", {"act": "remove", "jobs": ["ws-0"]})
    assert (status, answer["refused"][0]["code"]) == (200, "no_result")
    for body in ({}, {"act": "retry", "jobs": []}, {"act": "cancel"}, {"act": "cancel", "jobs": ["x"] * 1001}):
        status, answer = await caller.ask("POST", "/console/act", body)
        wanted = 'send "act" (cancel or remove) and "jobs", a list of at most 1000 ids'
        assert (status, answer["error"]) == (400, wanted)


async def test_a_batch_counts_the_jobs_that_the_daemon_has_forgotten(caller: Caller) -> None:
    caller.home.daemon.outbox.state.ended_most = 2
    video, audio = await announce(caller, "video", VIDEO), await announce(caller, "audio", AUDIO)
    for id_, data in ((video, VIDEO), (audio, AUDIO)):
        assert await send(caller, id_, data) == 200
    for at in range(4):
        wanted = {"id": f"ws-{at}", "video": video, "audio": audio, "batch": "rows.csv"}
        assert (await caller.ask("POST", "/console/jobs", wanted))[0] == 201
        assert (await caller.ask("POST", "/console/act", {"act": "cancel", "jobs": [f"ws-{at}"]}))[0] == 200
        assert await caller.outcome(f"ws-{at}") == "cancelled"
        (line,) = (await caller.ask("GET", "/console/batches"))[1]["batches"]
        assert (line["jobs"], line["done"]) == (at + 1, 0)


async def test_a_job_may_replace_itself_when_as_many_as_possible_wait(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MOST", 1)
    video, audio = await announce(caller, "video", VIDEO), await announce(caller, "audio", AUDIO)
    for _ in range(2):
        assert await ask_for(caller, video, audio) == 202
    assert await ask_for(caller, video, audio, "ws-2") == 429
