"""Paths and URLs that are not valid, and files that cannot be opened."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.console import copies
from wakestream.adapters.daemon.console.copies import SOURCE_MOST, find_source, open_source

LONG = "https://example.org/" + "a" * SOURCE_MOST


@pytest.mark.parametrize("look", [find_source, open_source])
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
async def test_what_is_no_path_and_no_url_is_refused(look: type[find_source], source: str, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        await look(source)
    assert (refused.value.status, refused.value.code) == (400, code)


async def test_a_url_may_have_quotes_around_it() -> None:
    assert await find_source('"https://example.org/my%20clip.mp4?x=1"') == ("my clip.mp4", 0)


async def test_a_file_that_was_being_opened_when_its_copy_was_cancelled_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on, closed = threading.Event(), threading.Event(), list[str]()

    async def close() -> None:
        closed.append("a.mp4")

    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    def slow(_: str) -> copies.Source:
        begun.set()
        go_on.wait()
        return copies.Source("a.mp4", 1, nothing(), close)

    monkeypatch.setattr(copies, "_open_path", slow)
    opening = asyncio.ensure_future(copies.open_source("/a.mp4"))
    await asyncio.to_thread(begun.wait)
    opening.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert closed == ["a.mp4"]


async def test_a_file_is_closed_also_if_the_end_of_its_copy_is_cancelled_while_all_threads_are_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    opened, opens = list[BinaryIO](), copies._opened
    monkeypatch.setattr(copies, "_opened", lambda path: opened.append(opens(path)) or opened[0])
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    source = await open_source(str(tmp_path / "a.mp4"))
    go_on = threading.Event()
    busy = asyncio.ensure_future(asyncio.to_thread(go_on.wait))
    closing = asyncio.ensure_future(source.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait((closing,))
    go_on.set()
    await busy
    assert opened[0].closed
