"""Our client proves that it has a file which another license sent, instead of sending it a second time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs.capability_scene import Scene, scene
from tests.support.programs.our_peers import SECRET, Place, until
from wakestream.adapters.client import worker as client_proof
from wakestream.adapters.client.worker import HttpWorker, HttpWorkers
from wakestream.adapters.client.worker_calls import Wallet
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.operators.model.events import FileRef, Fingerprint, Job
from wakestream.operators.model.ports import Resumed
from wakestream.streams.protocol import messages as m

FILM = bytes(range(256)) * 8000


@asynccontextmanager
async def client(here: Scene, license_: str, secret: str | None = None) -> AsyncGenerator[HttpWorker, None]:
    """The worker as a job of this license sees it."""
    workers, wallet = HttpWorkers(here.worker.address, secret), Wallet()
    if secret is None:
        wallet.feed(m.Ack(request_id="j", capability=here.token("j", license_), capability_expires=2**40))
    bound = workers.of_job("j", wallet).at(None)
    assert isinstance(bound, HttpWorker)
    await bound.health()
    yield bound
    await workers.close()


@pytest.fixture
async def film(tmp_path: Path) -> tuple[Fingerprint, FileRef]:
    path = tmp_path / "film.mp4"
    path.write_bytes(FILM)
    disk = DiskFiles()
    file = await disk.fingerprint(path, ["blake3"])
    await disk.close()
    return file, FileRef(file.digests["blake3"], ".mp4")


async def sent(worker: HttpWorker, file: Fingerprint, ref: FileRef) -> list[int | Resumed]:
    items = [item async for item in worker.upload(file, ref)]
    assert items[-1] == file.size
    assert (await worker.check([ref]))[ref.hash]
    return items


async def test_a_file_of_another_license_is_proved_and_not_sent(
    place: Place, film: tuple[Fingerprint, FileRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, ref = film
    async with scene(place) as here, client(here, "one") as one, client(here, "two") as two:
        assert Resumed(file.size) not in await sent(one, file, ref)
        assert not (await two.check([ref]))[ref.hash]
        before = here.worker.store.path(ref).stat()
        assert Resumed(file.size) in await sent(two, file, ref)
        assert here.worker.store.path(ref).stat().st_ino == before.st_ino  # the very file that was there
        assert await sent(one, file, ref)  # it has it still
        job = Job.lipsync("j", file.path, file.path, file.path.with_name("out.mp4"))
        task = await two.submit(job, {"video": ref, "audio": ref})
        await until(lambda: here.worker.queue.state.tasks[task.task_id].status == "done")
        assert (await two.report(task.task_id)).status == "done"


async def test_small_files_and_workers_without_proofs_get_an_upload(
    place: Place, film: tuple[Fingerprint, FileRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, ref = film
    async with scene(place) as here, client(here, "one") as one, client(here, "two") as two:
        await sent(one, file, ref)
        monkeypatch.setattr(client_proof, "LEAST_PROVED", file.size + 1)
        assert Resumed(file.size) not in await sent(two, file, ref)
        monkeypatch.undo()
        async with client(here, "three") as three:
            three.features -= {"proof"}
            assert Resumed(file.size) not in await sent(three, file, ref)


async def silent(*_: object, **__: object) -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_failed_or_slow_proof_ends_in_an_upload(
    place: Place, film: tuple[Fingerprint, FileRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, ref = film
    async with scene(place) as here, client(here, "one") as one, client(here, "two") as two:
        await sent(one, file, ref)
        proofs = here.worker.server.calls.proofs
        monkeypatch.setattr(proofs, "_hash", lambda *_: "0" * 64)
        assert Resumed(file.size) not in await sent(two, file, ref)
        async with client(here, "three") as three:
            monkeypatch.setattr(three, "call", silent)
            monkeypatch.setattr(three.session, "idle", 0.02)
            assert not await client_proof.proved(three, file, ref)


async def test_the_secret_uses_existing_files_without_a_proof(place: Place, film: tuple[Fingerprint, FileRef]) -> None:
    file, ref = film
    async with scene(place) as here, client(here, "one") as one, client(here, "", SECRET) as everyone:
        await sent(one, file, ref)
        assert (await everyone.check([ref]))[ref.hash]
