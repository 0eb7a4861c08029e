"""Our own depot: the worker's calls without an engine, and two calls of its hub alone."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import web

from wakestream.adapters.runtime.recent import Recent
from wakestream.adapters.worker.file_store import Stored
from wakestream.adapters.worker.http import auth, replies, requests
from wakestream.adapters.worker.http.server import AT, BY_CAPABILITY, WorkerCalls
from wakestream.operators.model.errors import WorkerRefused
from wakestream.operators.model.events import FileRef
from wakestream.streams.protocol import depot_messages as d

FEATURES = ("blake3", "range", "small_files", "tus", *BY_CAPABILITY, d.FEATURE)
"""What a depot announces to its callers."""

EXPECTED = 100_000
"""The most files that it expects; after a restart it expects those that are offered again."""


@dataclass(slots=True)
class DepotCalls(WorkerCalls):
    """The calls of a depot. Only `remove` removes a file.

    `expected` has the bytes of the files that the hub has announced, by license and BLAKE3.
    """

    expected: Recent[tuple[str, str], int] = field(default_factory=lambda: Recent(EXPECTED))

    def routes(self) -> list[web.RouteDef]:
        """The routes of all calls; the others of a worker are not found."""
        files = [route for route in self.of_files() if route.path != f"{AT}upload_file"]  # of any hash
        return [*files, web.post(f"{AT}look", self.look), web.post(f"{AT}remove", self.remove)]

    def expect(self, request: web.Request, file: FileRef | None, size: int | None) -> None:
        """Only the files that the hub has announced: it counts what each license has here."""
        expected = None if file is None else self.expected.get((auth.license_of(request), file.hash))
        if expected is None or size not in (None, expected):
            raise WorkerRefused("the hub has not announced this file: offer it there again", code="forbidden")

    async def health(self, _: web.Request) -> web.Response:
        """A depot can work while it runs."""
        return replies.health(initialized=True, msg="ok", features=FEATURES, gpu=self.gpu)

    async def look(self, request: web.Request) -> web.Response:
        """For the hub: the bytes of the license's files that are here, and the room for others, which it announces."""
        auth.check_hub(request)
        body, sizes = await requests.json_object(request), dict[str, int | None]()
        for name, file in requests.wanted(body):
            here = file is not None and self._here(request, file) and sizes.get(name, 0) is not None
            sizes[name] = self.store.path(file).stat().st_size if here and file is not None else None
        announced = body.get("expect")
        for name, size in announced.items() if isinstance(announced, dict) else ():
            self.expected[auth.license_of(request), name] = size
        room = await self.store.in_thread(self.uploads.room)
        return replies.ok({"sizes": sizes, "room": room, "size": self.store.size()})

    async def remove(self, request: web.Request) -> web.Response:
        """For the hub: the license no longer has these files. One that no license has is removed."""
        auth.check_hub(request)
        named = {file.hash for _, file in requests.wanted(await requests.json_object(request)) if file is not None}
        for digest in named:
            self.expected.pop((auth.license_of(request), digest), None)
        gone = await self.queue.hide(auth.license_of(request), named)
        await self.erase(gone)
        return replies.ok({"removed": len(gone)})

    async def erase(self, names: Collection[str]) -> None:
        """Remove those of these files (`HASH.EXT`) that no license has."""
        for name in names:
            path = self.store.root / "files" / name
            with suppress(FileNotFoundError):
                status = path.stat()
                if not self.queue.is_shown(name):
                    await self.store.remove(Stored(path, status.st_mtime, status.st_size))
