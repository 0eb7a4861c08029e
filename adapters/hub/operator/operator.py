"""The operator's page as the hub's server needs it: answers to handshakes, and its WebSocket."""

from __future__ import annotations

from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Final

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.operator.access import Access, Caller, is_same_origin
from wakestream.adapters.hub.operator.actions import Actions
from wakestream.adapters.hub.operator.desk import Gate, OperatorDesk
from wakestream.adapters.net.connection_limits import Proxies
from wakestream.adapters.net.static_files import SAFE, files_of, tag_of, type_of
from wakestream.adapters.telemetry.logs import RecentLog
from wakestream.streams.hub.state import HubState

_FOREIGN_HOST = (
    "this hub does not answer to that name: use its address, a name in its certificate, or 127.0.0.1 on its machine; "
    "name a reverse proxy with --behind-proxy"
)
_FOREIGN_ORIGIN = "a web page of another origin may not use this address"


class Operator:
    """The page of one hub.

    Args:
        state: The hub's state; it is read only.
        actions: What the page can do.
        config: The hub's settings.
        gate: What it needs of the server.
        proxies: The proxies whose forwarded headers count.
    """

    def __init__(self, state: HubState, actions: Actions, config: HubConfig, gate: Gate, proxies: Proxies) -> None:
        tls = config.tls
        self._access = Access(proxies, lambda: tls.names if tls is not None else None)
        self._page, self._log = OperatorPage(), RecentLog()
        self._desk = OperatorDesk(state, actions, self._log, config.clock, gate)

    def answer(self, socket: ServerConnection, request: Request) -> Response | None:
        """The answer to a handshake below `/operator`; None accepts the page's WebSocket."""
        caller = self._caller(socket, request)
        if caller is None:
            return plain(HTTPStatus.MISDIRECTED_REQUEST, _FOREIGN_HOST)
        path = request.path.partition("?")[0]
        if path != LIVE:
            return self._page.answer(path, request)
        return None if is_same_origin(caller, request) else plain(HTTPStatus.FORBIDDEN, _FOREIGN_ORIGIN)

    async def serve(self, socket: ServerConnection) -> None:
        """Serve the WebSocket of a page."""
        caller = self._caller(socket, socket.request) if socket.request is not None else None
        if caller is not None:
            await self._desk.serve(socket, caller)

    def logging(self) -> AbstractContextManager[None]:
        """Keep the hub's log lines while the block runs."""
        return self._log.kept()

    def _caller(self, socket: ServerConnection, request: Request) -> Caller | None:
        return self._access.caller(str((socket.remote_address or ("",))[0]), request)


# Serves the files of the operator's page in answers to handshakes: the hub's server has no other HTTP.

FOLDER: Final = "/operator/"
"""The path below which the page is."""

LIVE: Final = f"{FOLDER}live"
"""The path of its WebSocket."""

_INDEX = "index.html"


class OperatorPage:
    """The files."""

    def __init__(self) -> None:
        self._files = files_of("wakestream.adapters.hub.operator")
        self._tags = {name: tag_of(body) for name, body in self._files.items()}

    def answer(self, path: str, request: Request) -> Response:
        """The file at this path, or why there is none. Paths are compared as a whole, so that none leads elsewhere."""
        if getattr(request, "method", "GET") != "GET":  # websockets 15 accepts no other
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "this address answers to GET only")
        if path == FOLDER.rstrip("/"):
            return _response(HTTPStatus.PERMANENT_REDIRECT, {"Location": FOLDER})
        name = path.removeprefix(FOLDER) or _INDEX
        if name not in self._files:
            return plain(HTTPStatus.NOT_FOUND, f"the operator's page is at {FOLDER}")
        headers = {"ETag": self._tags[name], "Cache-Control": "no-cache"}
        if request.headers.get_all("If-None-Match") == [self._tags[name]]:
            return _response(HTTPStatus.NOT_MODIFIED, headers)
        headers["Content-Type"] = f"{type_of(name)}; charset=utf-8"
        return _response(HTTPStatus.OK, headers, self._files[name])


def plain(status: HTTPStatus, text: str) -> Response:
    """A refusal in one line."""
    return _response(status, {"Content-Type": "text/plain; charset=utf-8"}, f"{text}\n".encode())


def _response(status: HTTPStatus, headers: dict[str, str], body: bytes = b"") -> Response:
    length = {} if status is HTTPStatus.NOT_MODIFIED else {"Content-Length": str(len(body))}
    sent = Headers({**SAFE, **headers, **length, "Connection": "close"})
    return Response(status.value, status.phrase, sent, body)
