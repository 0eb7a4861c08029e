"""What one license's capability can do to another's work at the same worker: nothing of it."""

import asyncio
import base64
import os
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import orjson
import pytest
from blake3 import blake3

from tests.support.programs.capability_scene import AUDIO, PAIR, VIDEO, Caller, Scene, pair, scene
from tests.support.programs.our_peers import SECRET, Place, until
from wakestream.adapters.worker import resumable_uploads as uploads
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.http import auth as callers
from wakestream.adapters.worker.http import possession

TUS = {"Tus-Resumable": "1.0.0"}
FILM = VIDEO * 2000


@pytest.fixture
async def here(place: Place) -> AsyncIterator[Scene]:
    async with scene(place) as here:
        yield here


@pytest.fixture
def victim(here: Scene) -> Caller:
    return here.job("mine", "victim")


@pytest.fixture
def attacker(here: Scene) -> Caller:
    return here.job("theirs", "attacker")


def announced(content: bytes, length: int | None = None) -> dict[str, str]:
    said = {"filename": "film.mp4", "blake3": blake3(content).hexdigest()}
    metadata = ",".join(f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in said.items())
    return {**TUS, "Upload-Length": str(length or len(content)), "Upload-Metadata": metadata}


async def create(caller: Caller, content: bytes, length: int | None = None) -> tuple[int, str, int]:
    """Status, path and offset of an upload that begins."""
    headers = caller.headers | announced(content, length)
    async with caller.session.post(f"{caller.address}/files/", headers=headers) as response:
        path = f"/files/{response.headers.get('Location', '')}"
        return response.status, path, int(response.headers.get("Upload-Offset", -1))


async def send(caller: Caller, path: str, content: bytes, offset: int = 0) -> int:
    headers = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
    return (await caller("PATCH", path, data=content, headers=headers))[0]


async def finished(here: Scene, caller: Caller, video: bytes = VIDEO, audio: bytes = AUDIO) -> str:
    """A task of these, rendered."""
    await caller.upload(video, audio)
    task = await caller.submit(**pair(video, audio))
    await until(lambda: here.worker.queue.state.tasks[task].status == "done")
    return task


async def test_unfinished_uploads_take_no_space_from_others(
    here: Scene, victim: Caller, attacker: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_OF_LICENSE", 8)
    monkeypatch.setattr(uploads, "MAX_UPLOADS", 8)
    disk = 64 * 1024 * 1024
    monkeypatch.setattr(FileStore, "free", lambda _: disk)
    begun = [await create(attacker, b"%d" % number, disk) for number in range(12)]
    assert [status for status, _, _ in begun] == [201] * 8 + [503] * 4
    for caller, film in ((victim, FILM), (here.bearer(SECRET), FILM[:-1])):
        status, path, _ = await create(caller, film)
        assert status == 201
        assert await send(caller, path, film) == 204


async def test_an_upload_reserves_only_received_bytes(here: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    content = os.urandom(1024 * 1024)
    caller = here.job("mine", "victim")
    _, path, _ = await create(caller, content)
    assert await send(caller, path, content[:300_000]) == 204
    calls = here.worker.server.calls.uploads
    monkeypatch.setattr(FileStore, "free", lambda _: 400_000)
    assert calls.room() == 100_000
    assert await send(caller, path, content[300_000:], 300_000) == 507
    monkeypatch.undo()
    (upload,) = calls._unfinished()
    assert upload.offset >= 300_000
    assert await send(caller, path, content[upload.offset :], upload.offset) == 204


async def test_endless_calls_of_one_license_do_not_block_others(
    here: Scene, victim: Caller, attacker: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "MAX_CALLS", 3)
    hanging = [asyncio.create_task(attacker("POST", "check_files", data=endless())) for _ in range(3)]
    await until(lambda: len(here.worker.server.callers._inside.get("attacker", ())) == 3)
    status, body = await attacker("GET", "queue")
    assert (status, body["error"]) == (429, "too_many")
    assert (await victim("GET", "queue"))[0] == 200
    for one in hanging:
        one.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


async def endless() -> AsyncGenerator[bytes, None]:
    yield b"{"
    await asyncio.Event().wait()


@pytest.mark.parametrize("forget", ["restart", "flood"])
async def test_the_id_of_an_ended_job_gives_another_license_no_access(place: Place, forget: str) -> None:
    async with scene(place) as here:
        task = await finished(here, here.job("job-A", "victim"))
        if forget == "flood":
            for number in range(60):
                await here.job(f"own-{number}", "attacker").data("GET", "queue")
            await takes_nothing(here, task)
    if forget == "restart":
        async with scene(place) as here:
            await takes_nothing(here, task)
            victim = here.job("job-A", "victim")
            assert (await victim("GET", f"download?task_id={task}"))[1]["bytes"] == VIDEO + AUDIO


async def takes_nothing(here: Scene, task: str) -> None:
    attacker = here.job("job-A", "attacker")
    assert (await attacker.data("GET", "queue"))["tasks"] == []
    for name in (task, "job-A"):
        assert (await attacker("GET", f"progress?task_id={name}"))[0] == 404
        assert (await attacker("GET", f"download?task_id={name}"))[0] == 404
        assert (await attacker("POST", "cancel", json={"task_id": name}))[0] == 404
    assert (await attacker("POST", "submit", json=PAIR))[0] == 404


async def test_a_hash_gives_access_to_file_and_result_only_with_the_secret(
    here: Scene, victim: Caller, attacker: Caller
) -> None:
    task, everyone = await finished(here, victim), here.bearer(SECRET)
    asked = {"files": [{"hash": PAIR["video_hash"], "ext": ".mp4"}]}
    assert await attacker.data("POST", "check_files", json=asked) == {PAIR["video_hash"]: False}
    for caller in (victim, everyone):
        assert await caller.data("POST", "check_files", json=asked) == {PAIR["video_hash"]: True}
    assert (await attacker("POST", "submit", json=PAIR))[0] == 404
    await attacker.upload(b"own", AUDIO)
    assert (await attacker("POST", "submit", json=PAIR))[0] == 404  # one of the two is not theirs
    mixed = {**pair(b"own", AUDIO), "video_hash": PAIR["video_hash"]}
    assert (await attacker("POST", "submit", json=mixed))[0] == 404
    assert await everyone.submit() == task
    assert (await everyone("GET", f"download?task_id={task}"))[0] == 200


async def test_the_progress_socket_opens_to_no_capability(here: Scene) -> None:
    task = await finished(here, here.job("mine", "victim"))
    for owner in ("victim", "attacker"):  # our clients poll; the others have the secret
        address = f"{here.worker.address}/ws/progress/{task}?token={here.token('mine', owner)}"
        async with here.session.ws_connect(address) as socket:
            assert (await socket.receive_json())["code"] == 401


async def test_a_job_with_hashes_of_another_license_gets_its_end_and_no_result(place: Place) -> None:
    async with scene(place) as here, here.client() as client:
        task = await finished(here, here.job("mine", "victim"))
        attacker = await client.granted("theirs", PAIR)
        assert (await client.result())["result"] == {"task_id": task, "status": "done"}
        assert (await attacker("GET", f"download?task_id={task}"))[0] == 403
        assert (await attacker("GET", "download?task_id=theirs"))[0] == 404
        assert (await attacker.data("GET", "queue"))["tasks"] == []


async def test_a_hash_and_a_length_do_not_join_another_licenses_upload(
    here: Scene, victim: Caller, attacker: Caller
) -> None:
    _, path, _ = await create(victim, FILM)
    assert await send(victim, path, FILM[:1000]) == 204
    status, other, offset = await create(attacker, FILM)
    assert (status, offset) == (201, 0)
    assert other != path
    assert await send(attacker, path, b"x" * 10, 1000) == 404
    assert (await attacker("HEAD", path, headers=TUS))[0] == 404
    assert await send(attacker, other, b"x" * len(FILM)) == 460
    assert await send(victim, path, FILM[1000:], 1000) == 204
    assert (await create(victim, FILM))[2] == len(FILM)
    assert (await create(attacker, FILM))[2] == 0  # it is here, and still not theirs


async def test_a_file_is_proved_by_the_hash_of_its_content_under_a_key_of_the_license_s_own(place: Place) -> None:
    named = {"hash": blake3(FILM).hexdigest(), "ext": ".mp4"}
    async with scene(place) as here:
        victim, other, attacker = (here.job("j", name) for name in ("victim", "other", "attacker"))
        assert (await other("POST", "prove", json=named))[0] == 404
        _, path, _ = await create(victim, FILM)
        assert await send(victim, path, FILM) == 204
        assert await victim.data("POST", "prove", json=named) == {"here": True}
        keys = [(await one.data("POST", "prove", json=named))["challenge"] for one in (other, attacker)]
        assert keys[0] != keys[1]
        proof = blake3(FILM, key=bytes.fromhex(keys[0])).hexdigest()
        wrong = [named["hash"], blake3(FILM[:-1], key=bytes.fromhex(keys[1])).hexdigest(), proof]
        for guess in wrong:
            status, body = await attacker("POST", "prove", json={**named, "proof": guess})
            assert (status, body["error"]) == (422, "not_proved")
        assert await other.data("POST", "prove", json={**named, "proof": proof}) == {"here": True}
        asked = {"files": [named]}
        for caller, has in ((other, True), (attacker, False)):
            assert await caller.data("POST", "check_files", json=asked) == {named["hash"]: has}
    async with scene(place) as here:  # what was sent or proved is so after a restart
        assert await here.job("j", "other").data("POST", "check_files", json=asked) == {named["hash"]: True}


async def test_wrong_proofs_are_limited_per_license(here: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"hash": blake3(FILM).hexdigest(), "ext": ".mp4"}
    victim, other, attacker = (here.job("j", name) for name in ("victim", "other", "attacker"))
    _, path, _ = await create(victim, FILM)
    await send(victim, path, FILM)
    proofs = here.worker.server.calls.proofs
    reads, read = [], proofs._hash

    def counted(*of: Any) -> str:
        reads.append(of)
        return read(*of)

    monkeypatch.setattr(proofs, "_hash", counted)
    wrong = {**named, "proof": "0" * 64}
    tries = await asyncio.gather(*(attacker("POST", "prove", json=wrong) for _ in range(50)))
    assert {(status, body["error"]) for status, body in tries} == {(422, "not_proved")}
    assert len(reads) == possession.WRONG
    key = (await other.data("POST", "prove", json=named))["challenge"]
    proof = blake3(FILM, key=bytes.fromhex(key)).hexdigest()
    right = await asyncio.gather(*(other("POST", "prove", json={**named, "proof": proof}) for _ in range(5)))
    assert [status for status, _ in right] == [200] * 5
    assert len(reads) == possession.WRONG + 1


def ended(here: Scene) -> list[str]:
    """The jobs that the worker takes for over."""
    verifier = here.worker.server.calls.verifier
    assert verifier is not None
    return [job for jobs in verifier.ended._ended.values() for job in jobs]


async def slow(body: dict[str, str], gate: asyncio.Event) -> AsyncGenerator[bytes, None]:
    text = orjson.dumps(body)
    yield text[:9]
    await gate.wait()
    yield text[9:]


async def test_after_done_a_capability_only_downloads(place: Place) -> None:
    async with scene(place) as here, here.client() as client:
        mine, later = await client.granted("mine"), await client.granted("later")
        task = await finished(here, mine)
        await mine.upload(b"next", AUDIO)
        hanging = asyncio.create_task(mine("POST", "submit", data=slow(pair(b"next", AUDIO), gate := asyncio.Event())))
        await client.over("mine")
        await until(lambda: ended(here) == ["mine"])
        gate.set()
        tries = [
            await hanging,  # a call that began before is no way around it
            await mine("POST", "submit", json=pair(b"next", AUDIO)),
            await mine("POST", "submit", json=PAIR),
            await mine("POST", "upload_file", data={"hash": "0" * 32}),
            await mine("POST", "prove", json={"hash": "0" * 32, "ext": ".mp4"}),
        ]
        assert [(status, body["error"]) for status, body in tries] == [(503, "not_ready")] * len(tries)
        assert (await create(mine, b"more"))[0] == 503
        assert (await mine("GET", f"download?task_id={task}"))[0] == 200
        assert (await later.data("POST", "submit", json=pair(b"next", AUDIO)))["task_id"]
        again = await client.granted("mine")  # it has a GPU again
        await until(lambda: not ended(here))
        assert (await again("POST", "submit", json=pair(b"next", AUDIO)))[0] == 200
        await client.over("mine", "gpu.job.cancel")
        await until(lambda: ended(here) == ["mine"])
        assert (await again("POST", "submit", json=PAIR))[0] == 503
