"""A front: it holds the sockets of peers, and passes their frames to the hub that leads and its frames to them.

It decides nothing and keeps no journal. When it loses the leader, its peers lose their connections, as with any hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from random import Random
from ssl import SSLContext
from typing import Any, Final

import msgspec
import orjson
from loguru import logger
from prometheus_client.metrics_core import Metric
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from wakestream.adapters.config.addresses import HUB_PATH, at_port
from wakestream.adapters.hub.admission import FRONTS, Admission, GuardedConnection, listening_at, path_of
from wakestream.adapters.hub.config import Leadership
from wakestream.adapters.hub.fronts import FORMAT, TO_FRONT, Came, Ended, FromFront, Gone, Said, Sent, ToFront
from wakestream.adapters.hub.license_watch import bearer
from wakestream.adapters.hub.outbound import Writer, text_frame
from wakestream.adapters.net.acceptor import accept_no_more
from wakestream.adapters.net.connection_limits import ConnectionLimits, Network, Proxies, Room
from wakestream.adapters.net.hub_link import connected, first_hub
from wakestream.adapters.net.pairing import PATH
from wakestream.adapters.net.refusals import noted
from wakestream.adapters.net.status_page import page, words_for
from wakestream.adapters.net.tls import ServerTls
from wakestream.adapters.runtime.tasks import supervised, tasks_of_block
from wakestream.adapters.telemetry import metric_families as ff
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import HubError
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

AGAIN = Backoff(initial=0.2, max_delay=2.0)
"""The pauses after an attempt to reach each of the hubs."""

BEAT: Final = {"ping_interval": 0.5, "ping_timeout": 3, "close_timeout": 0.3}
"""Seconds for a leader's answer: one that is paused or cut off is left soon, as another one may lead."""

WAITING: Final = 4 * 1024 * 1024
"""Bytes that may wait for the leader; with more, nothing is read from peers."""

_TOGETHER: Final = wire.MAX_FRAME // 2  # bytes of a message beside its last frame: the hub's loop turns in between
_ITEM: Final = 64  # bytes of an item beside its frame
_PONG: Final = text_frame(wire.octets(m.Pong()))
_LONGEST_PING: Final = 200


@dataclass(frozen=True, slots=True)
class FrontConfig:
    """The settings of a front.

    Attributes:
        hubs: The addresses of the hubs, one of which leads, separated by commas.
        key: Its license key.
        per_address: The most connections of one address.
        room: Limits the number of connections.
        host: The address to listen at.
        port: The port; 0 takes a free one.
        tls: The certificate; without it, connections are not encrypted.
        proxies: Networks whose forwarded client addresses it trusts.
        ca: Verifies hubs whose certificate the system does not trust.
    """

    hubs: str
    key: str
    per_address: int
    room: Room
    host: str = "127.0.0.1"
    port: int = 0
    tls: ServerTls | None = None
    proxies: Collection[Network] = ()
    ca: SSLContext | None = None


class _Role(Leadership):
    """A front lets peers in as if it led, while it is connected to the hub that leads."""

    @property
    def standing_by(self) -> str:
        """Why this front lets no one in."""
        return "this front has no connection to a hub that leads"


class _Leader:
    """The connection to the leader. What is `put` while a message is sent goes with the next one."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._items: deque[FromFront] = deque()
        self._size, self._over = 0, False
        self._came, self._room = asyncio.Event(), asyncio.Event()

    def put(self, item: FromFront) -> None:
        """Send this."""
        self._items.append(item)
        self._size += _size(item)
        self._came.set()

    async def room(self) -> None:
        """Return when not too much waits for the leader."""
        while self._size >= WAITING and not self._over:
            self._room.clear()
            await self._room.wait()

    async def write(self) -> None:
        """Send what is `put`, in messages that are not too long, until the connection ends."""
        try:
            while True:
                await self._came.wait()
                items, size = list[FromFront](), 0
                while self._items and size < _TOGETHER:
                    items.append(item := self._items.popleft())
                    size += _size(item)
                if not self._items:
                    self._came.clear()
                await self._socket.send(msgspec.msgpack.encode(items))
                self._size -= size
                self._room.set()
        finally:
            self._over = True
            self._room.set()


def _size(item: FromFront) -> int:
    if isinstance(item, Came):  # the key is any text of a stranger
        return _ITEM + len(item.address) + len(item.key.encode())
    return _ITEM + (len(item.frame) if isinstance(item, Said) else 0)


def _is_ping(data: bytes) -> bool:
    with contextlib.suppress(wire.Malformed):
        return len(data) <= _LONGEST_PING and b'"ping"' in data and type(wire.decode(data)) is m.Ping
    return False


class Front:
    """A running front. Created by `open_front`.

    Attributes:
        url: Its address.
        refused: Counts refusals by reason.
        connected: Set while it is connected to the hub that leads.
    """

    def __init__(self, config: FrontConfig) -> None:
        self._config = config
        self.url = ""
        self.refused = noted("front")
        self.connected = asyncio.Event()
        self._leader: _Leader | None = None
        self._sockets: dict[int, GuardedConnection] = {}
        self._numbers = itertools.count(1)
        self._writer = Writer(self.refused)
        self._role = _Role(leads=False)
        places = ConnectionLimits(config.room, config.per_address, self.refused, Proxies(config.proxies))
        self._gate = Admission(places, self._judge, self._page, self._elsewhere, self._role)

    def metrics(self) -> Iterator[Metric]:
        """The families of the front."""
        yield ff.build("front")
        yield ff.gauge("wakestream_front_connections", "Open connections of peers.", len(self._sockets))
        yield ff.gauge("wakestream_front_up", "1 while the front is connected to the leader.", self.connected.is_set())
        yield ff.refusals("front", self.refused)

    # Handshakes

    def _judge(self, request: Request) -> tuple[bool, tuple[str, str] | None]:
        """Let everyone in as a stranger, since the leader judges keys. A front has no fronts."""
        is_front = path_of(request).startswith(FRONTS)
        return False, ("wrong_path", f"this is a front; connect to a hub: {self._config.hubs}") if is_front else None

    def _elsewhere(self, socket: GuardedConnection, request: Request) -> Response:
        self.refused.count("wrong_path")
        return socket.respond(
            HTTPStatus.NOT_FOUND, f"this is a front; the operator's page is at the hub: {self._config.hubs}\n"
        )

    def _page(self, languages: str) -> bytes:
        words = words_for(languages)
        return page(words, "wakestream front", words["front"], [(words["open"], str(len(self._sockets)))])

    # Peers

    async def serve_connection(self, socket: ServerConnection) -> None:
        """Serve one connection until it closes."""
        assert isinstance(socket, GuardedConnection)  # noqa: S101 - the gate made it
        leader = self._leader
        if leader is None:  # it was lost during the handshake
            socket.transport.abort()
            return
        if socket.request is not None and path_of(socket.request) == PATH:
            why = f"this is a front; use the code with the address of a hub: {self._config.hubs}"
            await socket.send(orjson.dumps({"type": "pair.refused", "code": "pairing", "msg": why}).decode())
            return
        number = next(self._numbers)
        self._sockets[number] = socket
        leader.put(Came(number, self._gate.address_of(socket), bearer(socket.request) or ""))
        is_idle = False
        try:
            while True:
                data = await socket.recv(decode=False)
                was_idle, is_idle = is_idle, _is_ping(data)
                if was_idle and is_idle:  # otherwise the pong could overtake an answer to an earlier frame
                    self._writer.put((socket,), _PONG)
                    self._writer.flush()
                else:
                    leader.put(Said(number, data) if len(data) <= wire.MAX_FRAME else Said(number, b"", len(data)))
                    await leader.room()
        except ConnectionClosed:
            logger.debug("connection {} is gone", number)
        finally:
            del self._sockets[number]
            leader.put(Gone(number))

    # The leader

    async def keep_connected(self) -> None:
        """Connect to the hub that leads, again and again."""
        hubs, said, failures = deque(self._config.hubs.split(",")), "", 0
        while True:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    socket = await first_hub(hubs, stack, self._enter)
                    said, failures = "", 0
                    logger.info("connected to {}", hubs[0])
                    await self._session(socket)
                hubs.rotate(-1)  # the one that was lost may accept and not answer
            except HubError as error:
                if (news := str(error)) != said:
                    logger.error("no hub takes this front; it tries again. Hub {}: {}", hubs[0], news)
                    said = news
            failures += 1
            await asyncio.sleep(AGAIN.delay(failures, Random()))

    async def _enter(
        self, attempt: contextlib.AsyncExitStack, hub: str, options: Mapping[str, Any]
    ) -> ClientConnection:
        url, key = hub.removesuffix(HUB_PATH) + f"{FRONTS}{FORMAT}", {"Authorization": f"Bearer {self._config.key}"}
        ours = {"max_size": None, "additional_headers": key, **BEAT}
        return await attempt.enter_async_context(connected(url, self._config.ca, {**options, **ours}))

    async def _session(self, socket: ClientConnection) -> None:
        """Pass frames on until the connection to the leader ends; then disconnect the peers."""
        leader = self._leader = _Leader(socket)
        self._role.leads = True
        self.connected.set()
        try:
            async with tasks_of_block() as start:
                start(leader.write())
                while True:
                    for item in TO_FRONT.decode(await socket.recv(decode=False)):
                        self._execute(item)
                    self._writer.flush()
        except (ConnectionClosed, msgspec.MsgspecError) as error:
            logger.error("the connection to the hub ended ({}); {} peers are disconnected", error, len(self._sockets))
            for peer in self._sockets.values():
                peer.transport.abort()
        finally:
            self._leader, self._role.leads = None, False
            self.connected.clear()

    def _execute(self, item: ToFront) -> None:
        if isinstance(item, Sent):
            self._writer.put(filter(None, map(self._sockets.get, item.to)), item.frame, item.given)
        elif (socket := self._sockets.get(item.number)) is not None:
            if isinstance(item, Ended):
                self._writer.end(socket, item.code, item.reason)
            else:
                self._gate.registered(socket)


@contextlib.asynccontextmanager
async def open_front(config: FrontConfig) -> AsyncIterator[Front]:
    """Run a front until the block ends.

    Args:
        config: Its settings.

    Yields:
        The running front.

    Raises:
        OSError: It cannot listen at this address.

    Example:
        >>> async with open_front(FrontConfig("ws://10.0.0.1:8765/dsp", key, 500, Room(10_000, 500))) as front:
        ...     print(front.url)
    """
    front = Front(config)
    async with contextlib.AsyncExitStack() as stack:
        listening = listening_at(config.host, config.port, config.tls, front._gate, front.serve_connection)
        servers = await stack.enter_async_context(listening)
        stack.callback(front._gate.cut_handshakes)
        for server in servers:
            stack.push_async_callback(accept_no_more, server)
        at, port = servers[0].sockets[0].getsockname()[:2]
        front.url = f"{'wss' if config.tls else 'ws'}://{at_port(at, port)}{HUB_PATH}"
        tasks = await stack.enter_async_context(supervised("the front"))
        tasks.needs("the connection to the hub", front.keep_connected)
        if config.tls is not None:
            tasks.keeps("the watch of the certificate", config.tls.watch)
        yield front
