"""An engine's output, which appears under its name only when it is whole, and is then there for good."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from wakestream.adapters.disk.patience import put
from wakestream.operators.model.errors import TaskFailed


@asynccontextmanager
async def whole(output: Path) -> AsyncIterator[Path]:
    """Give a path beside `output` to write to; synced and renamed at a good end, removed at any other.

    `TaskFailed` when nothing was written there, or it cannot be renamed.
    """
    # A name of its own: where a killed worker's engine lives on, it may still be writing to the former one.
    with scratch(output, output.suffix) as partial:
        yield partial
        await asyncio.to_thread(_rename, partial, output)


@contextmanager
def scratch(output: Path, suffix: str) -> Iterator[Path]:
    """A path beside `output` for what is needed on the way; removed at the end."""
    path = output.with_name(f"{output.stem}.{uuid.uuid4().hex[:8]}.part{suffix}")
    try:
        yield path
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Away with it, whatever an engine has made of it; what cannot go yet is left to the next sweep."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # Windows, while what the engine left running writes to it
            path.unlink(missing_ok=True)


def _rename(partial: Path, output: Path) -> None:
    if not partial.is_file() or not partial.stat().st_size:
        raise TaskFailed("the engine ended well but wrote no output: its command must write to {output}")
    try:
        # Before it gets its name: after a power cut a name without its bytes would pass for a result.
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        put(partial, output)
    except OSError as error:
        raise TaskFailed(f"cannot write the result: {error.strerror}") from error
