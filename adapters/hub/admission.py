"""What stands between the hub and a hostile socket: who may come in, how many of one address, and who is cut."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Protocol

from loguru import logger
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.protocol import State

from wakestream.adapters.config.addresses import HUB_PATH
from wakestream.adapters.hub.config import Leadership
from wakestream.adapters.hub.operator.operator import FOLDER
from wakestream.adapters.net import status_page
from wakestream.adapters.net.acceptor import Acceptor
from wakestream.adapters.net.connection_limits import ConnectionLimits, Place, Rate, Refusals
from wakestream.adapters.net.pairing import PATH
from wakestream.adapters.net.refusals import quiet_logger
from wakestream.adapters.net.tls import ServerTls
from wakestream.streams.protocol import wire

# The library closes a connection without an answer when a message exceeds its limit. Its limit is above the
# protocol's, so that the hub can answer most frames that are too large with an error.
_LIBRARY_LIMIT = 4 * wire.MAX_FRAME

_OPEN_WITHIN = 10.0

FRONTS = "/front/"
"""The path of the connections of fronts; the number of their protocol follows."""

MAX_BUFFER = 1024 * 1024
"""Bytes that may wait for one slow connection before it is cut; the work that a worker is given does not count."""

NEW_EVERY = 0.02
"""Seconds to the next new connection of an address that has just opened all it may have and `SPARE` more."""

SPARE = 100

TRIES = 20
"""Wrong keys that one address may show at once; then one more every `AGAIN` seconds."""

AGAIN = 10.0

BUSY = HTTPStatus.TOO_MANY_REQUESTS

_BROKEN: Mapping[int, str] = {1002: "bad_frame", 1007: "bad_frame", 1009: "huge_frame", 1011: "no_pong"}
"""Reasons for refusals, by the close codes of the library."""

_OF_JUDGE: Mapping[str, tuple[HTTPStatus, float]] = {
    "unauthorized": (HTTPStatus.UNAUTHORIZED, 0.0),
    "front_version": (HTTPStatus.UPGRADE_REQUIRED, 0.0),
    "wrong_path": (HTTPStatus.NOT_FOUND, 0.0),
}
"""Status and pause of refused handshakes, by the reason."""

_OF_OPERATOR: Mapping[int, str] = {
    HTTPStatus.FORBIDDEN: "foreign_origin",
    HTTPStatus.NOT_FOUND: "wrong_path",
    HTTPStatus.METHOD_NOT_ALLOWED: "wrong_path",
    HTTPStatus.MISDIRECTED_REQUEST: "foreign_host",
}
"""Reasons for refusals, by the status of an answer below the operator's page."""


class Caller(Protocol):
    """What is known of a connection's other end."""

    @property
    def request(self) -> Request | None:
        """Its handshake."""

    @property
    def remote_address(self) -> Any:
        """Its address, first in a tuple."""


class Admission:
    """Counts the connections from their first byte on, and refuses invalid handshakes.

    `judge` returns whether a handshake has the key of a license, and the reason if it is refused nevertheless; `page`
    returns the status page in one of these languages. `operator` answers what is below the operator's page; None lets
    its WebSocket in. A hub that does not lead lets no one in.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        judge: Callable[[Request], tuple[bool, tuple[str, str] | None]],
        page: Callable[[str], bytes],
        operator: Callable[[GuardedConnection, Request], Response | None],
        leadership: Leadership,
    ) -> None:
        self._limits, self._per_address, self.refused = limits, limits.per_address, limits.refused
        self.acceptor = Acceptor(limits)
        self._judge, self._status, self._operator, self.leadership = judge, page, operator, leadership
        self._inside: set[GuardedConnection] = set()
        self._new = Rate(limits.per_address + SPARE, NEW_EVERY)
        self._wrong = Rate(TRIES, AGAIN)

    def connection(self, *arguments: Any, **options: Any) -> GuardedConnection:
        """Make a connection; the WebSocket library calls this."""
        return GuardedConnection(self, *arguments, **options)

    def enter(self, socket: GuardedConnection) -> None:
        """Handle an accepted socket."""
        self._inside.add(socket)
        socket.place = self.acceptor.place(socket.transport, socket.transport.abort)
        if socket.place is None:
            socket.transport.abort()  # without a reply, since it has not sent anything

    def leave(self, socket: GuardedConnection) -> None:
        """Handle a closed socket."""
        self._inside.discard(socket)
        if socket.place is not None:
            self._limits.free(socket.place)

    def registered(self, socket: GuardedConnection) -> None:
        """The peer has shown a valid key."""
        if socket.place is not None:
            self._limits.let_in(socket.place)

    def wrong_key(self, socket: Caller) -> float:
        """Count an unknown key; return the seconds that its address must wait before the next try."""
        assert socket.request is not None  # noqa: S101 - its handshake has ended
        address = self._caller(socket, socket.request)
        if (wait := self._wrong.wait(address)) > 0:
            self.refused.count("wrong_keys")
        else:
            self._wrong.count(address)
        return wait

    def admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """The response that refuses a handshake; None accepts it."""
        assert isinstance(socket, GuardedConnection)  # noqa: S101 - made here
        path = path_of(request)
        for_operator = is_for_operator(path)
        if path not in (HUB_PATH, PATH, "/") and not for_operator and not path.startswith(FRONTS):
            return self._refuse(socket, "wrong_path", HTTPStatus.NOT_FOUND, f"this hub is at {HUB_PATH}")
        address = self._caller(socket, request)
        if socket.place is not None:
            self._limits.speaks_for(socket.place, address)
        if not self.leadership.answers:
            why = self.leadership.standing_by
            response = self._refuse(socket, "standby", HTTPStatus.SERVICE_UNAVAILABLE, why, 1.0)
            response.headers.update(self.leadership.headers)
            # A leader that is not sure to lead any more has old news, and does not know who leads now.
            return self._page(response, request) if path == "/" and not self.leadership.leads else response
        ours, refusal = self._judge(request) if path != PATH and not for_operator else (False, None)
        refused = self._no_room(socket, address) or (None if ours else self._too_fast(socket, address))
        if refused is None and for_operator:
            return self._counted(self._operator(socket, request))
        if refused is None and path == "/":
            return self._page(socket.respond(HTTPStatus.OK, ""), request)
        if refused is None and refusal is not None:
            status, after = _OF_JUDGE.get(refusal[0], (BUSY, 5.0))
            refused = self._refuse(socket, refusal[0], status, refusal[1], after)
        if ours and refused is None:
            self.registered(socket)
        return refused

    def _page(self, response: Response, request: Request) -> Response:
        """The response, with the status page as its body."""
        response.body = self._status(",".join(request.headers.get_all("Accept-Language")))
        for name in ("Content-Type", "Content-Length"):
            del response.headers[name]
        size = {"Content-Length": str(len(response.body))}
        response.headers.update({**status_page.HEADERS, **size, **self.leadership.headers})
        return response

    def _counted(self, response: Response | None) -> Response | None:
        """Count the answer if it refuses."""
        if response is not None and (reason := _OF_OPERATOR.get(response.status_code)) is not None:
            self.refused.count(reason)
        return response

    def _no_room(self, socket: ServerConnection, address: str) -> Response | None:
        if self._limits.is_full:
            why = "too many connections, try again later"
            return self._refuse(socket, "full", HTTPStatus.SERVICE_UNAVAILABLE, why, 5.0)
        if self._limits.is_crowded(address):
            why = f"too many connections from one address, {self._per_address} at most"
            return self._refuse(
                socket, "crowded_address", BUSY, f"{why}; close some, or raise --per-address at the hub", 5.0
            )
        return None

    def _too_fast(self, socket: ServerConnection, address: str) -> Response | None:
        if (wait := self._new.wait(address)) > 0:
            return self._refuse(socket, "too_fast", BUSY, "this address connects too often", wait)
        self._new.count(address)
        return None

    def _refuse(
        self, socket: ServerConnection, reason: str, status: HTTPStatus, text: str, after: float = 0.0
    ) -> Response:
        """Count and answer; `after` are the seconds until a new try makes sense."""
        self.refused.count(reason)
        seconds = math.ceil(after)
        response = socket.respond(status, f"{text}{f': try again in {seconds} s' if after else ''}\n")
        if after:
            response.headers["Retry-After"] = str(seconds)
        return response

    def address_of(self, socket: Caller | None) -> str:
        """The address of the peer; empty if it is unknown."""
        return self._caller(socket, socket.request) if socket is not None and socket.request is not None else ""

    def _caller(self, socket: Caller, request: Request) -> str:
        forwarded = ",".join(request.headers.get_all("X-Forwarded-For"))
        return self._limits.proxies.caller(str((socket.remote_address or ("",))[0]), forwarded)

    def cut_handshakes(self) -> None:
        """Cut the connections that are still in the handshake: a stopping hub does not wait for them."""
        for socket in list(self._inside):
            if socket.protocol.state is State.CONNECTING:
                socket.transport.abort()


@contextlib.asynccontextmanager
async def listening_at(
    host: str, port: int, tls: ServerTls | None, gate: Admission, handle: Callable[[ServerConnection], Awaitable[None]]
) -> AsyncIterator[Sequence[Server]]:
    """Listen at the addresses of `host` until the block ends; `handle` serves the connections that `gate` lets in."""
    async with contextlib.AsyncExitStack() as stack:
        servers: list[Server] = []
        for bound in await gate.acceptor.bind(host, port, gate.leadership.kept):
            stack.callback(bound.close)
            served = serve(handle, sock=bound, **_options(gate, tls))
            servers.append(await stack.enter_async_context(served))
        yield servers


def _options(gate: Admission, tls: ServerTls | None) -> dict[str, Any]:
    options: dict[str, Any] = {
        "compression": None,
        "ping_interval": 20,
        "ping_timeout": 20,
        "close_timeout": 5,
        "open_timeout": _OPEN_WITHIN,
        "create_connection": gate.connection,
        "process_request": gate.admit,
        "max_size": _LIBRARY_LIMIT,
        "logger": quiet_logger("hub.websockets", logging.CRITICAL),
        "server_header": f"wakestream/{version('wakestream')}",
    }
    if tls is not None:
        options |= {"ssl": tls.context, "ssl_handshake_timeout": _OPEN_WITHIN, "ssl_shutdown_timeout": _OPEN_WITHIN / 2}
    return options


def is_for_operator(path: str) -> bool:
    """Whether this path belongs to the operator's page."""
    return path.startswith(FOLDER) or path == FOLDER.rstrip("/")


def path_of(request: Request) -> str:
    """The path of a handshake, without its query."""
    return request.path.partition("?")[0]


class GuardedConnection(ServerConnection):
    """A connection that is cut if its peer does not read what the hub sends, such as answers to pings.

    `given` are the unsent bytes of assigned jobs. They do not count: all jobs that wait for a GPU are sent at once, and
    the worker needs time to read them. `most` are the bytes that may wait.
    """

    def __init__(self, admission: Admission, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._admission = admission
        self._counted = False
        self.turned_away = False
        self.place: Place | None = None
        self.given, self.most = 0, MAX_BUFFER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._admission.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._admission.leave(self)
        self.count(_reason(self))
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`; the library answers pings in this call."""
        super().data_received(data)
        cut_if_slow(self, self._admission.refused)
        if self.protocol.close_sent is not None:  # a peer that broke the protocol may not disconnect soon
            self.count(_reason(self))

    def send_data(self) -> None:
        """See `websockets.asyncio.connection.Connection`: all that the library writes. A former leader cuts instead."""
        if self.outdated:
            self.transport.abort()
        super().send_data()

    @property
    def outdated(self) -> bool:
        """Whether this hub let the peer in and leads no more."""
        ended = self.response is None or self.response.status_code >= 300 or self.protocol.state is State.CLOSING
        return not ended and not self._admission.leadership.answers

    def count(self, reason: str | None) -> None:
        """Count the reason for which the hub ends the connection; further reasons are ignored."""
        if reason is not None and not self._counted:
            self._counted = True
            self._admission.refused.count(reason)


def _reason(socket: ServerConnection) -> str | None:
    """The reason for which the library ended a lost connection; None if it did not."""
    if socket.request is None or socket.protocol.handshake_exc is not None:
        return "bad_handshake"  # or no handshake in time, as from port scanners
    sent = socket.protocol.close_sent
    return _BROKEN.get(sent.code) if sent is not None and not socket.protocol.close_rcvd_then_sent else None


def cut_if_slow(socket: GuardedConnection, refused: Refusals) -> None:
    """Cut a connection that has too many unsent bytes."""
    transport = socket.transport
    waits = transport.get_write_buffer_size()
    socket.given = min(socket.given, waits)
    if waits - socket.given > socket.most and not transport.is_closing():
        logger.warning("a connection does not read what it is sent; it is cut")
        refused.count("slow_reader")
        transport.abort()
