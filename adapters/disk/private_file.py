"""Small files that only we may read, written as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from wakestream.adapters.disk.patience import put
from wakestream.adapters.disk.sync_folder import sync_folder


def write_private(path: Path, text: bytes) -> None:
    """Replace the file; name and content are on the disk when it returns. `OSError` where that fails."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        put(Path(name), path)
        with contextlib.suppress(OSError):  # not every folder on a network can be synced
            sync_folder(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
