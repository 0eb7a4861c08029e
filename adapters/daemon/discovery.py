"""The address of a running daemon, in `daemon.json` in its folder, which only its user can read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from wakestream.adapters.disk.atomic import remove, retry_in_use, write_atomic
from wakestream.adapters.disk.path_key import data_folder
from wakestream.operators.model.errors import FileUnusable

FILE: Final = "daemon.json"
PORT_FILE: Final = "console.json"
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
def announced(state: Path, address: Address) -> Iterator[None]:
    """Write `state/daemon.json` while the block runs. `FileUnusable` when it cannot be written."""
    path = state / FILE
    _write(path, address)
    try:
        yield
    finally:
        current = read(state)
        if current is not None and current.token == address.token:
            remove(path)


def read(state: Path) -> Address | None:
    """The address in `state/daemon.json`; None if it cannot be read. The daemon may have ended since."""
    try:
        address = msgspec.json.decode(retry_in_use((state / FILE).read_bytes), type=Address)
    except (OSError, ValueError):
        return None
    return address if address.url.startswith("http://") else None


def _write(path: Path, content: object, *, sync: bool = True) -> None:
    try:
        write_atomic(path, orjson.dumps(content), sync=sync)
    except OSError as error:
        raise FileUnusable(f"{path} cannot be written: {error.strerror or error}; choose another --state") from error


def last_port(state: Path) -> int:
    """The port of the last run; 0 if unknown."""
    try:
        port = msgspec.json.decode((state / PORT_FILE).read_bytes(), type=dict[str, Any]).get("port")
    except (OSError, ValueError):
        return 0
    return port if type(port) is int and 0 < port < 65536 else 0


def keep_port(state: Path, port: int) -> None:
    """Store the port for the next run. `FileUnusable` when the file cannot be written."""
    _write(state / PORT_FILE, {"port": port}, sync=False)
