"""The operator's page as the hub's server needs it: answers to handshakes, and its WebSocket."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from wakestream.adapters.hub.operator.access import Access, Caller, Sessions, is_same_origin
from wakestream.adapters.hub.operator.actions import Actions
from wakestream.adapters.hub.operator.desk import OperatorDesk
from wakestream.adapters.hub.operator.page import LIVE, OperatorPage, plain
from wakestream.adapters.net.rate_limit import Proxies
from wakestream.adapters.net.tls import ServerTls
from wakestream.adapters.telemetry.logs import RecentLog
from wakestream.streams.hub.state import HubState

_FOREIGN_HOST = (
    "this hub does not answer to that name: use its address, a name in its certificate, or 127.0.0.1 on its machine; "
    "name a reverse proxy with --behind-proxy"
)
_FOREIGN_ORIGIN = "a web page of another origin may not use this address"


@dataclass(frozen=True, slots=True)
class Gate:
    """What the operator's page needs of the server.

    Attributes:
        look: Makes the hub notice changed licenses now.
        wrong_key: Counts a wrong key of a connection; returns the seconds that its address must wait.
        let_in: Tells that a connection has shown a valid key or session of this license.
        refused: Counts the pages that were refused, by the reason.
    """

    look: Callable[[], None]
    wrong_key: Callable[[ServerConnection], float]
    let_in: Callable[[ServerConnection, str], None]
    refused: Callable[[str], object]


class Operator:
    """The page of one hub.

    Args:
        state: The hub's state; it is read only.
        actions: What the page can do.
        clock: Gives UNIX seconds.
        gate: What it needs of the server.
        proxies: The proxies whose forwarded headers count.
        tls: The hub's certificate, if it has one.
    """

    def __init__(
        self,
        state: HubState,
        actions: Actions,
        clock: Callable[[], float],
        gate: Gate,
        proxies: Proxies,
        tls: ServerTls | None,
    ) -> None:
        self._access = Access(proxies, lambda: tls.names if tls is not None else None)
        self._page, self._log = OperatorPage(), RecentLog()
        desk = OperatorDesk(state, actions, self._log, Sessions(clock), clock, gate.look, gate.refused)
        self._desk, self._gate = desk, gate

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
            await self._desk.serve(socket, caller, self._gate.wrong_key, self._gate.let_in)

    def logging(self) -> AbstractContextManager[None]:
        """Keep the hub's log lines while the block runs."""
        return self._log.kept()

    def _caller(self, socket: ServerConnection, request: Request) -> Caller | None:
        return self._access.caller(str((socket.remote_address or ("",))[0]), request)
