"""Count file transfers. They are a use of the GPU, so that its machine is not stopped during one."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from wakestream.adapters.worker.http import tus

_CALLS = frozenset(f"/api/heygem/{call}" for call in ("upload_file", "upload", "download"))


class Transfers:
    """Counts running transfers (`open`); `on_first` is called when the first one begins."""

    def __init__(self) -> None:
        self.open = 0
        self.on_first: Callable[[], object] = lambda: None

    def begin(self) -> None:
        """A transfer begins."""
        self.open += 1
        if self.open == 1:
            self.on_first()

    def end(self) -> None:
        """A transfer has ended or failed."""
        self.open -= 1

    def middleware(self) -> Middleware:
        """The middleware that counts, after the check of the secret."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path not in _CALLS and not request.path.startswith(tus.AT):
                return await handler(request)
            self.begin()
            try:
                return await handler(request)
            finally:
                self.end()

        return count
