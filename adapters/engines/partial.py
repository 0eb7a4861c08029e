"""An engine's output, which appears under its name only when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wakestream.operators.errors import TaskFailed


@contextmanager
def whole(output: Path) -> Iterator[Path]:
    """Give a path beside `output` to write to; renamed at a good end, removed at any other.

    `TaskFailed` when nothing was written there, or it cannot be renamed.
    """
    partial = output.with_name(f"{output.stem}.part{output.suffix}")
    try:
        yield partial
        _rename(partial, output)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Away with it, whatever an engine has made of it; nothing happens when it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _rename(partial: Path, output: Path) -> None:
    if not partial.is_file() or not partial.stat().st_size:
        raise TaskFailed("the engine ended well but wrote no output: its command must write to {output}")
    try:
        partial.replace(output)
    except OSError as error:
        raise TaskFailed(f"cannot write the result: {error.strerror}") from error
