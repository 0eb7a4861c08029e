"""The picture that a program writes while it works: shown when it is new and complete, and never anything else."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.browser.studio import png
from wakestream.adapters.runtime.tasks import end
from wakestream.adapters.worker import preview_file
from wakestream.operators.model.engine import MAX_PREVIEW, Preview

JPEG = b"\xff\xd8\xff\xe0 first \xff\xd9"
WEBP = b"RIFF\x08\0\0\0WEBPlast"
GOOD = Preview("image/jpeg", JPEG)


class Shown(asyncio.Queue[Preview]):
    """The previews of the file `preview.jpg`, which is looked at all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = asyncio.Semaphore(0)

    async def looked(self) -> None:
        """Returns when all looks that have begun before were judged."""
        while not self.looks.locked():
            await self.looks.acquire()
        for _ in range(3):
            await self.looks.acquire()


@pytest.fixture
async def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shown]:
    found, read, loop = Shown(), preview_file._read, asyncio.get_running_loop()

    def look(path: Path, seen: preview_file.FileState | None) -> tuple[preview_file.FileState, bytes]:
        loop.call_soon_threadsafe(found.looks.release)
        return read(path, seen)

    monkeypatch.setattr(preview_file, "EVERY", 0.0)
    monkeypatch.setattr(preview_file, "_read", look)
    watching = asyncio.create_task(preview_file.watch_preview(tmp_path / "preview.jpg", found.put_nowait))
    yield found
    assert not watching.done(), "it never fails"
    await end(watching)


async def test_each_new_picture_is_shown_once(shown: Shown, tmp_path: Path) -> None:
    for media, data in (("image/jpeg", JPEG), ("image/png", png()), ("image/webp", WEBP), ("image/jpeg", JPEG)):
        (tmp_path / "preview.jpg").write_bytes(data)
        assert await shown.get() == Preview(media, data)
    await shown.looked()
    assert shown.empty()


def link(path: Path) -> None:
    (path.parent / "other.jpg").write_bytes(JPEG)
    path.symlink_to(path.parent / "other.jpg")


BAD: dict[str, Callable[[Path], object]] = {
    "a part of a JPEG": lambda path: path.write_bytes(JPEG[:-1]),
    "a part of a PNG": lambda path: path.write_bytes(png()[:-1]),
    "a part of a WebP": lambda path: path.write_bytes(WEBP[:-1]),
    "no picture": lambda path: path.write_bytes(b"<svg/>"),
    "one that is too large": lambda path: path.write_bytes(JPEG[:-2].ljust(MAX_PREVIEW - 1, b"x") + JPEG[-2:]),
    "a folder": lambda path: path.mkdir(),
    "a link to another file": link,
    "a pipe": lambda path: os.mkfifo(path) if sys.platform != "win32" else path.touch(),
}


@pytest.mark.parametrize("made", BAD.values(), ids=BAD)
async def test_what_is_no_complete_picture_is_not_shown(
    shown: Shown, tmp_path: Path, made: Callable[[Path], object]
) -> None:
    path = tmp_path / "preview.jpg"
    made(path)
    await shown.looked()
    assert shown.empty()
    path.rename(tmp_path / "aside")
    path.write_bytes(JPEG)
    assert await shown.get() == GOOD


async def test_a_picture_that_is_replaced_while_it_is_read_is_read_again(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, states = tmp_path / "preview.jpg", iter([(1, 1, 1), (1, 1, 2)])
    state = preview_file._state
    monkeypatch.setattr(preview_file, "_state", lambda status: next(states, None) or state(status))
    path.write_bytes(JPEG)
    assert await shown.get() == GOOD
    assert next(states, None) is None
    await shown.looked()
    assert shown.empty(), "it was shown once"
