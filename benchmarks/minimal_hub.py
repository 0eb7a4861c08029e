"""The yardstick of a durable hub: the same parts and nothing else. Knows `register` and `submit`, and answers them.

A submit is put into a dict and into SQLite (WAL, FULL, one thread, group commit), and acked after the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sys
import threading
from pathlib import Path
from typing import Any

import apsw
import orjson
from websockets.asyncio.connection import broadcast
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

Waiting = tuple[str, bytes, ServerConnection]


class Minimal:
    """Its state."""

    def __init__(self, path: Path) -> None:
        self.jobs: dict[str, bytes] = {}
        self._loop = asyncio.get_running_loop()
        self._work: queue.SimpleQueue[Waiting] = queue.SimpleQueue()
        threading.Thread(target=self._write, args=(path,), daemon=True).start()

    async def serve(self, socket: ServerConnection) -> None:
        """One connection."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._take(orjson.loads(await socket.recv(decode=False)), socket)

    def _take(self, frame: dict[str, Any], socket: ServerConnection) -> None:
        if frame["type"] == "register":
            broadcast((socket,), '{"type":"registered"}')
            return
        id_ = frame["request_id"]
        self.jobs[id_] = orjson.dumps(frame["payload"])
        self._work.put((id_, self.jobs[id_], socket))

    def _write(self, path: Path) -> None:
        db = apsw.Connection(str(path))
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        assert db.execute("PRAGMA journal_mode = WAL").get == "wal"
        db.execute("PRAGMA synchronous = FULL; CREATE TABLE jobs (id TEXT, payload BLOB)")
        while True:
            batch = [self._work.get()]
            while not self._work.empty():
                batch.append(self._work.get())
            with db:
                db.executemany("INSERT INTO jobs VALUES (?, ?)", [one[:2] for one in batch])
            self._loop.call_soon_threadsafe(_ack, batch)


def _ack(batch: list[Waiting]) -> None:
    for id_, _, socket in batch:
        broadcast((socket,), orjson.dumps({"type": "ack", "request_id": id_}).decode())


async def main(path: Path) -> None:
    """Say the port, serve until standard input ends."""
    hub = Minimal(path)
    async with serve(hub.serve, "127.0.0.1", 0, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
