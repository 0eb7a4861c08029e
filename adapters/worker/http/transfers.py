"""Files on their way in or out. They are a use of the GPU: its machine is not to be stopped in the middle of one."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from wakestream.adapters.worker.http import tus

_CALLS = frozenset(f"/api/heygem/{call}" for call in ("upload_file", "upload", "download"))


class Transfers:
    """Counts them (`open`); `on_first` is called when one begins while no other is under way."""

    def __init__(self) -> None:
        self.open = 0
        self.on_first: Callable[[], object] = lambda: None

    def begin(self) -> None:
        """One more is under way."""
        self.open += 1
        if self.open == 1:
            self.on_first()

    def end(self) -> None:
        """One has ended, whatever became of it."""
        self.open -= 1

    def middleware(self) -> Middleware:
        """What stands before the calls, behind the check of the secret."""

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
