"""Paths and URLs that are not valid, and files that cannot be opened."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console import copies
from wakestream.adapters.daemon.console.copies import SOURCE_MOST, find_source, open_source

LONG = "https://example.org/" + "a" * SOURCE_MOST


async def opened(text: str) -> None:
    async with open_source(text):
        pass


@pytest.mark.parametrize("look", [find_source, opened])
@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("http://[", "source_url"),
        ("http://[::1/a.mp4", "source_url"),
        ("file://[a/b.mp4", "source_url"),
        ("file:///tmp/a%00.mp4", "source_url"),
        (LONG, "source_source"),
        ("https://example.org/a\u202e.mp4", "source_source"),
        ('""', "source_source"),
        (" ", "source_source"),
        ('"' * SOURCE_MOST + "/a.mp4", "source_source"),
    ],
)
async def test_what_is_no_path_and_no_url_is_refused(
    look: Callable[[str], Awaitable[object]], source: str, code: str
) -> None:
    with pytest.raises(ApiError) as refused:
        await look(source)
    assert (refused.value.status, refused.value.code) == (400, code)


async def test_a_url_may_have_quotes_around_it() -> None:
    assert await find_source('"https://example.org/my%20clip.mp4?x=1"') == ("my clip.mp4", 0)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[BinaryIO]:
    """The files that were opened, `a.mp4` among them."""
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    files, opens = list[BinaryIO](), copies._opened
    monkeypatch.setattr(copies, "_opened", lambda path: files.append(opens(path)) or files[0])
    return files


async def test_a_file_that_was_being_opened_when_its_copy_was_cancelled_is_closed(
    tmp_path: Path, files: list[BinaryIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, opens = threading.Event(), threading.Event(), copies._opened

    def slow(path: Path) -> BinaryIO:
        begun.set()
        go_on.wait()
        return opens(path)

    monkeypatch.setattr(copies, "_opened", slow)
    opening = asyncio.ensure_future(opened(str(tmp_path / "a.mp4")))
    await asyncio.to_thread(begun.wait)
    opening.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert [file.closed for file in files] == [True]


async def test_a_file_is_closed_also_if_the_end_of_its_copy_is_cancelled_while_all_threads_are_busy(
    tmp_path: Path, files: list[BinaryIO]
) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    copying, go_on = asyncio.Event(), threading.Event()

    async def copies_it() -> None:
        async with open_source(str(tmp_path / "a.mp4")):
            copying.set()
            await asyncio.Event().wait()

    copy = asyncio.ensure_future(copies_it())
    await copying.wait()
    busy = asyncio.ensure_future(asyncio.to_thread(go_on.wait))
    copy.cancel()
    await asyncio.sleep(0)
    copy.cancel()
    await asyncio.wait((copy,))
    go_on.set()
    await busy
    assert files[0].closed
