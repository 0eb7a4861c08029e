"""Bytes into a file in a thread, as they come."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path

import pytest
from blake3 import blake3

from wakestream.adapters.disk import hashing_writer as at_work
from wakestream.adapters.disk.hashing_writer import AHEAD, BATCH, LATEST, HashingWriter, hash_of


@pytest.fixture
def file(tmp_path: Path) -> Iterator[FileIO]:
    with FileIO(tmp_path / "file", "wb") as file:
        yield file


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def test_a_buffer_can_be_reused_after_the_documented_point(
    tmp_path: Path, file: FileIO, pool: ThreadPoolExecutor
) -> None:
    hasher = blake3()
    buffers = [bytearray(1000) for _ in range(AHEAD + 1)]
    expected = b""
    sink = HashingWriter(file, [hasher], pool)
    for number in range(20):
        buffer = buffers[number % len(buffers)]
        buffer[:] = bytes([number]) * 1000
        expected += buffer
        await sink.add(memoryview(buffer))
    await sink.flush()
    assert (tmp_path / "file").read_bytes() == expected
    assert hasher.hexdigest() == blake3(expected).hexdigest()
    assert (sink.size, sink.written) == (20_000, 20_000)


class Step:
    """A hasher that takes one block each time that it may."""

    def __init__(self) -> None:
        self.may = threading.Semaphore(0)

    def update(self, data: bytes | memoryview, /) -> None:
        assert self.may.acquire(timeout=100)

    def digest(self) -> bytes:
        return b""

    def hexdigest(self) -> str:
        return ""


async def test_a_stalled_disk_blocks_the_writer_and_not_the_loop(file: FileIO, pool: ThreadPoolExecutor) -> None:
    step = Step()
    sink = HashingWriter(file, [step], pool)
    for _ in range(AHEAD):
        await sink.add(bytes(BATCH))
    one_more = asyncio.create_task(sink.add(bytes(BATCH)))
    await asyncio.sleep(0)
    held = not one_more.done()
    step.may.release(AHEAD + 1)
    assert held
    await one_more
    await sink.flush()
    assert sink.written == (AHEAD + 1) * BATCH


async def test_small_writes_are_collected_for_a_short_time(
    file: FileIO, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = HashingWriter(file, [], pool)
    await sink.add(b"few")
    assert (sink.size, sink._batched) == (3, 3)
    monkeypatch.setattr(sink, "_handed", sink._handed - LATEST)
    await sink.add(b"more")
    assert sink._batched == 0
    await sink.flush()
    assert sink.written == 7


async def test_an_error_of_the_disk_is_raised_and_what_was_written_is_known(
    file: FileIO, pool: ThreadPoolExecutor
) -> None:
    sink = HashingWriter(file, [], pool)
    await sink.add(bytes(BATCH))
    await sink.flush()
    file.close()
    await sink.add(bytes(BATCH))
    with pytest.raises(ValueError, match="closed"):
        await sink.flush()
    assert sink.written == BATCH


async def test_after_an_error_nothing_more_is_written(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    class FullForAMoment(FileIO):
        full = False

        def write(self, data: bytes | memoryview, /) -> int:
            if self.full:
                self.full = False
                raise OSError(28, "No space left on device")
            return super().write(data)

    with FullForAMoment(tmp_path / "file", "wb") as file:
        hasher = blake3()
        sink = HashingWriter(file, [hasher], pool)
        await sink.add(b"a" * BATCH)
        await sink.flush()
        file.full = True
        await sink.add(b"b" * BATCH)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                await sink.flush()
            with pytest.raises(OSError, match="No space"):
                await sink.add(b"c" * BATCH)
        assert sink.written == BATCH
    assert (tmp_path / "file").read_bytes() == b"a" * BATCH
    assert hasher.digest() == blake3(b"a" * BATCH).digest()


async def test_a_flush_that_is_cancelled_does_not_lose_the_batch(file: FileIO, pool: ThreadPoolExecutor) -> None:
    sink = HashingWriter(file, [], pool)
    await sink.add(bytes(BATCH))
    flushing = asyncio.create_task(sink.flush())
    await asyncio.sleep(0)
    flushing.cancel()
    await asyncio.wait((flushing,))
    await sink.flush()
    assert sink.written == BATCH


def test_the_hash_of_a_beginning_can_be_gone_on_with(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    found = hash_of(tmp_path / "file", 1_234_567)
    assert found.hexdigest() == blake3(content[:1_234_567]).hexdigest()
    found.update(content[1_234_567:])
    assert found.hexdigest() == blake3(content).hexdigest()


async def test_a_file_whose_bytes_never_pause_leaves_the_thread_to_others_in_between(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_work, "TURN", 0.0)
    step, over = Step(), asyncio.Event()

    async def never_pausing(sink: HashingWriter) -> None:
        await sink.add(bytes(BATCH))
        while not over.is_set():
            await sink.add(bytes(BATCH))  # and only then the one before may be written: there is always one more
            step.may.release()
        step.may.release()
        await sink.flush()

    with (tmp_path / "long").open("wb", buffering=0) as long, (tmp_path / "short").open("wb", buffering=0) as short:
        busy = asyncio.create_task(never_pausing(HashingWriter(long, [step], pool)))
        await asyncio.sleep(0)  # it has the thread
        other = HashingWriter(short, [], pool)
        try:
            await other.add(bytes(BATCH))
            await other.flush()
        finally:
            over.set()
            await busy
        assert other.written == BATCH
    assert (tmp_path / "long").stat().st_size > BATCH


async def test_a_closed_pool_raises_instead_of_waiting(file: FileIO) -> None:
    with ThreadPoolExecutor(1) as closed:
        pass
    sink = HashingWriter(file, [], closed)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="after shutdown"):
            await sink.add(bytes(BATCH))
        with pytest.raises(RuntimeError, match="after shutdown"):
            await sink.flush()


async def test_a_pending_write_in_a_closed_pool_raises(file: FileIO) -> None:
    gate, pool = threading.Event(), ThreadPoolExecutor(1)
    pool.submit(gate.wait, 100)
    sink = HashingWriter(file, [], pool)
    await sink.add(bytes(BATCH))
    pool.shutdown(wait=False, cancel_futures=True)
    gate.set()
    with pytest.raises(RuntimeError, match="pool"):
        await sink.flush()
