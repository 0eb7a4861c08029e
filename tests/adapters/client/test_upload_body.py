"""The body of an upload: how much of the file goes at a time."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
from aiohttp.abc import AbstractStreamWriter
from blake3 import blake3

from wakestream.adapters.client import upload as module
from wakestream.adapters.client.upload import LEAST, MOST, FilePart, Meter, reported
from wakestream.operators.model.events import Fingerprint
from wakestream.operators.model.ports import Resumed

CONTENT = blake3(b"a film about a clock").digest(length=5 * MOST + 123)


class Taker:
    """Takes all at once, and keeps the blocks."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    async def write(self, block: bytes) -> None:
        self.blocks.append(block)

    @property
    def sizes(self) -> list[int]:
        return [len(block) for block in self.blocks]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def sent(folder: Path, pool: ThreadPoolExecutor) -> Taker:
    """What came of the file."""
    path = folder / "film.mp4"
    path.write_bytes(CONTENT)
    file = Fingerprint(path, len(CONTENT), path.stat().st_mtime_ns, {})
    taker, counted = Taker(), list[int]()
    await FilePart(file, pool, 20.0, counted.append).write(cast("AbstractStreamWriter", taker))
    assert counted == taker.sizes
    assert b"".join(taker.blocks) == CONTENT
    return taker


async def test_a_fast_receiver_gets_larger_pieces(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUICK", math.inf)
    sizes = (await sent(tmp_path, pool)).sizes
    assert sizes[0] == LEAST
    assert sizes[-2] == max(sizes) == MOST


async def test_a_slow_receiver_gets_small_pieces_again(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUICK", -1.0)
    monkeypatch.setattr(module, "SLOW", 0.0)
    began = FilePart.__init__

    def large(self: FilePart, *arguments: object) -> None:
        began(self, *arguments)  # type: ignore[arg-type]
        self._block = MOST

    monkeypatch.setattr(FilePart, "__init__", large)
    sizes = (await sent(tmp_path, pool)).sizes
    assert sizes[0] == MOST
    assert sizes[-2] == min(sizes[:-1]) == LEAST


async def test_where_an_upload_goes_on_is_told_although_all_was_sent_before_anyone_looked() -> None:
    async def send(meter: Meter) -> None:
        meter.resume(75)
        meter.add(225)

    assert [step async for step in reported(Meter(), send, "upload")] == [Resumed(75), 300]
