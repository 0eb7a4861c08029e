"""What a power cut or a stranger did to half an upload: it ends with the right file or starts again."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from blake3 import blake3

from tests.support.engines.pair import idle_engine
from tests.support.programs.tus_scene import tus
from wakestream.adapters.client.worker import HttpWorker, HttpWorkers
from wakestream.adapters.worker.config import WorkerConfig
from wakestream.adapters.worker.program import running_worker
from wakestream.adapters.worker.resumable_uploads import Uploads
from wakestream.adapters.worker.upload_records import Upload
from wakestream.operators.model.errors import Corrupt, FileChanged
from wakestream.operators.model.events import FileRef, Fingerprint
from wakestream.operators.model.ports import Resumed

SECRET = "swordfish-0123456789"
CONTENT = blake3(b"a film about a power cut").digest(length=300_000)
HALF = len(CONTENT) // 2
REF = FileRef(blake3(CONTENT).hexdigest(), ".mp4")

Damage = Callable[[Path], object]


DAMAGED: dict[str, tuple[Damage, int]] = {
    "its tail is lost": (lambda part: os.truncate(part, HALF // 2), HALF // 2),
    "all but its name is lost": (lambda part: part.write_bytes(b""), 0),
    "its name is lost, too": (Path.unlink, 0),
    "its length outlasted its tail": (lambda part: part.write_bytes(CONTENT[: HALF // 2] + bytes(HALF - HALF // 2)), 0),
    "rubbish in its middle": (lambda part: part.write_bytes(CONTENT[:1000] + b"rubbish" + CONTENT[1007:HALF]), 0),
    "longer than all": (lambda part: part.write_bytes(CONTENT[:HALF] + bytes(len(CONTENT))), 0),
    "it looks whole": (lambda part: part.write_bytes(CONTENT[:-1] + b"?"), 0),
    "its record is lost": (lambda part: part.with_suffix(".json").write_bytes(b""), 0),
    "half of its record is lost": (lambda part: os.truncate(part.with_suffix(".json"), 20), 0),
    "all came, and the worker could not say so": (lambda part: part.write_bytes(CONTENT), len(CONTENT)),
    "all came, and rubbish is behind it": (lambda part: part.write_bytes(CONTENT + b"rubbish"), len(CONTENT)),
}
"""What can become of the half that came, and at which byte the upload goes on then."""


@pytest.fixture
def film(tmp_path: Path) -> Fingerprint:
    path = tmp_path / "film.mp4"
    path.write_bytes(CONTENT)
    status = path.stat()
    return Fingerprint(path, status.st_size, status.st_mtime_ns, {"blake3": REF.hash})


@asynccontextmanager
async def at_work(state: Path) -> AsyncIterator[tuple[HttpWorker, str]]:
    """A worker, as a client knows it who has met it, and its address."""
    async with running_worker(WorkerConfig(state, idle_engine(), SECRET, port=0)) as running:
        workers = HttpWorkers(running.address, SECRET)
        try:
            worker = workers.at(None)
            await worker.health()
            yield worker, running.address
        finally:
            await workers.close()


async def half_sent(address: str, state: Path) -> Path:
    """The partial of an upload of which the half came."""
    async with tus(address, SECRET) as caller:
        path = await caller.created(CONTENT)
        assert (await caller.patch(path, 0, CONTENT[:HALF])).status == 204
    return state / "uploads" / f"{path.rpartition('/')[2]}.part"


async def comes_through(worker: HttpWorker, film: Fingerprint, state: Path) -> int | Resumed:
    """Send until it is there, as a job does; returns at which byte the attempt that succeeded began."""
    for _ in range(3):
        try:
            async with aclosing(worker.upload(film, REF)) as steps:
                first, *_rest = [step async for step in steps]
        except Corrupt:
            assert not await there(worker), "refused data must not be reported as stored"
            continue
        break
    else:
        raise AssertionError("it does not come through")
    assert await there(worker)
    assert {path.name: path.read_bytes() for path in (state / "files").iterdir()} == {f"{REF.hash}.mp4": CONTENT}
    assert not list((state / "uploads").glob("*.part"))
    return first


async def there(worker: HttpWorker) -> bool:
    return (await worker.check([REF]))[REF.hash]


@pytest.mark.parametrize(("damage", "goes_on_at"), DAMAGED.values(), ids=DAMAGED)
async def test_files_damaged_by_a_power_cut_are_repaired(
    tmp_path: Path, film: Fingerprint, damage: Damage, goes_on_at: int
) -> None:
    state = tmp_path / "state"
    async with at_work(state) as (_, address):
        part = await half_sent(address, state)
    damage(part)
    async with at_work(state) as (worker, _):
        first = await comes_through(worker, film, state)
    assert (first.bytes if isinstance(first, Resumed) else 0) == goes_on_at


@pytest.mark.parametrize(("damage", "goes_on_at"), [*DAMAGED.values()][:3], ids=[*DAMAGED][:3])
async def test_files_removed_from_the_workers_disk_are_sent_again(
    tmp_path: Path, film: Fingerprint, damage: Damage, goes_on_at: int
) -> None:
    state = tmp_path / "state"
    async with at_work(state) as (worker, address):
        damage(await half_sent(address, state))
        first = await comes_through(worker, film, state)
    assert (first.bytes if isinstance(first, Resumed) else 0) == goes_on_at


@pytest.mark.parametrize("change", ["dated back", "gone"])
async def test_a_changed_file_is_not_sent_again_and_again(
    tmp_path: Path, film: Fingerprint, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with film.path.open("r+b") as file:
        file.write(b"changed")
    os.utime(film.path, ns=(film.mtime_ns, film.mtime_ns))
    if change == "gone":  # after it was sent
        finish = Uploads.finish

        async def and_gone(self: Uploads, upload: Upload) -> None:
            film.path.unlink()
            await finish(self, upload)

        monkeypatch.setattr(Uploads, "finish", and_gone)
    async with at_work(tmp_path / "state") as (worker, _):
        with pytest.raises(FileChanged):
            _ = [step async for step in worker.upload(film, REF)]
        assert not await there(worker)
