"""Count file transfers. They are a use of the GPU, so that its machine is not stopped during one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.typedefs import Handler

from wakestream.adapters.worker.http import tus

_CALLS = frozenset(f"/api/heygem/{call}" for call in ("upload_file", "upload_files", "upload", "download"))


class Transfers:
    """Counts running transfers (`open`); `on_first` is called when the first one begins."""

    def __init__(self) -> None:
        self.open = 0
        self.on_first: Callable[[], object] = lambda: None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Wraps a transfer."""
        self.open += 1
        if self.open == 1:
            self.on_first()
        try:
            yield
        finally:
            self.open -= 1

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Counts transfers; comes after the check of the secret."""
        if request.path not in _CALLS and not request.path.startswith(tus.AT):
            return await handler(request)
        with self.running():
            return await handler(request)
