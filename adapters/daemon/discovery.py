"""The address of a running daemon, in `daemon.json` in its folder, which only its user can read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import orjson

from wakestream.adapters.disk.atomic import retry_in_use, write_atomic
from wakestream.adapters.disk.path_key import data_folder
from wakestream.operators.model.errors import FileUnusable

FILE: Final = "daemon.json"
VARIABLE: Final = "WAKESTREAM_DAEMON"


@dataclass(frozen=True, slots=True)
class Address:
    """The daemon's URL, the token for its API, and its process id."""

    url: str
    token: str
    pid: int

    def __repr__(self) -> str:
        return f"Address({self.url!r}, pid={self.pid})"


def folder(given: Path | str | None) -> Path:
    """The daemon's folder: as given, else `WAKESTREAM_DAEMON`, else in the user's data folder. Absolute."""
    named = given or os.environ.get(VARIABLE)
    return Path(named).expanduser().absolute() if named else data_folder("daemon")


@contextlib.contextmanager
def told(state: Path, address: Address) -> Iterator[None]:
    """Write `state/daemon.json` while the block runs. `FileUnusable` when it cannot be written."""
    path = state / FILE
    try:
        write_atomic(path, orjson.dumps(address))
    except OSError as error:
        raise FileUnusable(f"{path} cannot be written: {error.strerror or error}; choose another --state") from error
    try:
        yield
    finally:
        found = read(state)
        if found is not None and found.token == address.token:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def read(state: Path) -> Address | None:
    """The address in `state/daemon.json`; None if it cannot be read. The daemon may have ended since."""
    try:
        found = msgspec.json.decode(retry_in_use((state / FILE).read_bytes), type=Address)
    except (OSError, ValueError):
        return None
    return found if found.url.startswith("http://") else None
