"""Count file transfers. They are a use of the GPU, so that its machine is not stopped during one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.typedefs import Handler

from wakestream.adapters.worker.http import auth, tus

_CALLS = frozenset(f"/api/heygem/{call}" for call in ("upload_file", "upload_files", "upload", "download"))


LEAST = 1024
"""Bytes that an upload must get further between two looks at it to count as moving."""

DOWNLOAD = 3600.0
"""Seconds for which a download counts as moving: how many bytes the system has sent is not known here."""


class Transfers:
    """Counts running transfers (`open`); `on_first` is called when the first one begins."""

    def __init__(self) -> None:
        self._moving: list[Callable[[], bool]] = []
        self.on_first: Callable[[], object] = lambda: None

    @property
    def open(self) -> int:
        """The number of running transfers."""
        return len(self._moving)

    def moving(self) -> bool:
        """Whether a transfer that is allowed now got further since the last look."""
        return sum(moves() for moves in self._moving) > 0  # not `any`: each of them notes how far it is

    @contextmanager
    def running(self, moves: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Wraps a transfer; `moves` is asked at each look whether it got further."""
        self._moving.append(moves)
        if self.open == 1:
            self.on_first()
        try:
            yield
        finally:
            self._moving.remove(moves)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Counts transfers; comes after the check of the secret."""
        if request.path not in _CALLS and not request.path.startswith(tus.AT):
            return await handler(request)
        with self.running(Progress(request)):
            return await handler(request)


class Progress:
    """Whether a transfer moves, for the dead-man switch: whoever may not send any more cannot keep the machine on."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._clock = asyncio.get_running_loop().time
        self._began, self._seen = self._clock(), 0

    def __call__(self) -> bool:
        """Look at the transfer."""
        if not auth.is_still_allowed(self._request):
            return False
        if self._request.method == "GET":
            return self._clock() - self._began < DOWNLOAD
        before, self._seen = self._seen, self._request.content.total_bytes
        return self._seen - before >= LEAST
