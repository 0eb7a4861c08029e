"""The leader's side of fronts: one connection for each, with the frames of all of its connections in their order.

A front holds the sockets; what their frames mean is decided here only. It sends lists of `FromFront`, and gets lists of
`ToFront`, as msgpack in binary messages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from loguru import logger
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from wakestream.adapters.config.addresses import HUB_PATH
from wakestream.adapters.hub.admission import FRONTS, GuardedConnection
from wakestream.adapters.hub.licenses import key_mark
from wakestream.streams.hub import events as f

FORMAT = 1
"""The number of the protocol: to be raised with any change of the items."""

MOST = 64 * 1024 * 1024
"""Bytes that may wait for a slow front before it is cut."""


class _Item(msgspec.Struct, array_like=True, tag_field="of", frozen=True):
    """About the connection that the front calls `number`."""

    number: int


class Came(_Item, tag=0, frozen=True):
    """A caller at this address passed the handshake, with the key of its header, or none."""

    address: str
    key: str


class Said(_Item, tag=1, frozen=True):
    """A frame came. `size` are its bytes if it is too large; then it is left out."""

    frame: bytes
    size: int = 0


class Gone(_Item, tag=2, frozen=True):
    """The connection is closed."""


class Known(_Item, tag=1, frozen=True):
    """The connection showed a valid key, so it is no stranger."""


class Ended(_Item, tag=2, frozen=True):
    """The connection is to be closed, after what was sent to it before."""

    code: int
    reason: str


class Sent(msgspec.Struct, array_like=True, tag_field="of", tag=0):
    """A WebSocket frame for these connections; `given`: see `GuardedConnection`."""

    to: list[int]
    frame: bytes
    given: int = 0


FromFront = Came | Said | Gone
ToFront = Sent | Known | Ended

_FROM_FRONT: msgspec.msgpack.Decoder[list[FromFront]] = msgspec.msgpack.Decoder(list[FromFront])
TO_FRONT: msgspec.msgpack.Decoder[list[ToFront]] = msgspec.msgpack.Decoder(list[ToFront])


@dataclass(eq=False, slots=True)
class Front:
    """A connected front, and the items that it gets next."""

    socket: GuardedConnection
    key: str
    items: list[ToFront] = field(default_factory=list)
    fronted: dict[int, tuple[int, Fronted]] = field(default_factory=dict)
    given: int = 0

    def send(self, number: int, frame: bytes, given: int) -> None:
        """Send a frame; the same one for several connections is sent once."""
        last = self.items[-1] if self.items else None
        if type(last) is Sent and last.frame is frame:
            last.to.append(number)
        else:
            self.items.append(Sent([number], frame, given))
            self.given += given

    def take(self) -> tuple[bytes, int]:
        """The message with the items so far, and how many of its bytes are `given`."""
        taken = msgspec.msgpack.encode(self.items), self.given
        self.items, self.given = [], 0
        return taken


class Fronted:
    """A connection that a front holds, with what the server uses of a socket."""

    def __init__(self, front: Front, came: Came) -> None:
        self.front, self.number = front, came.number
        self.turned_away = False
        self.remote_address = (came.address,)
        self.request = Request(HUB_PATH, Headers({"Authorization": f"Bearer {came.key}"} if came.key else {}))
        self.transport = front.socket.transport


class FrontDesk:
    """Serves the fronts of a hub.

    Args:
        opened: Called with a new connection; returns its number at the hub.
        frame: Called with each frame, or the size of one that is too large.
        closed: Called with the number of a connection that is gone.
        room: Returns when the hub takes further events.
    """

    def __init__(
        self,
        opened: Callable[[Fronted], int],
        frame: Callable[[int, Fronted, bytes, int], None],
        closed: Callable[[int], None],
        room: Callable[[], Awaitable[None]],
    ) -> None:
        self._opened, self._frame, self._closed, self._room = opened, frame, closed, room
        self.open: set[Front] = set()

    def judge(self, path: str, known: f.License | None) -> tuple[bool, tuple[str, str] | None]:
        """Whether a front's handshake has a license, and why it is refused: a code and a sentence."""
        if known is None or known.role != "front" or known.revoked:
            why = "a front needs a valid key of the role front; `wakestream license issue --role front` makes one"
            return False, ("unauthorized", why)
        if path != f"{FRONTS}{FORMAT}":
            theirs = path.removeprefix(FRONTS)[:20]
            why = f"this hub has number {FORMAT} of the protocol for fronts, and the front has {theirs!r}"
            return True, ("front_version", f"{why}; install one version of wakestream on both")
        return True, None

    async def serve(self, socket: GuardedConnection, key: str) -> None:
        """Serve a front with this key until its connection ends; its connections end with it."""
        front = Front(socket, key_mark(key))
        socket.most = MOST
        self.open.add(front)
        logger.info("a front has connected from {}", socket.remote_address[0])
        try:
            while True:
                for item in _FROM_FRONT.decode(await socket.recv(decode=False)):
                    self._take(front, item)
                await self._room()
        except ConnectionClosed:
            logger.info("a front with {} connections is gone", len(front.fronted))
        except (msgspec.MsgspecError, KeyError) as error:
            logger.error("a front sent a message that cannot be read ({!r}); it is disconnected", error)
        finally:
            self.open.discard(front)
            for fd, _ in front.fronted.values():
                self._closed(fd)

    def _take(self, front: Front, item: FromFront) -> None:
        if isinstance(item, Came):
            fronted = Fronted(front, item)
            front.fronted[item.number] = self._opened(fronted), fronted
        elif isinstance(item, Gone):
            fd, _ = front.fronted.pop(item.number)
            self._closed(fd)
        else:
            fd, fronted = front.fronted[item.number]
            self._frame(fd, fronted, item.frame, item.size)

    def end_invalid(self, is_valid: Callable[[str], bool]) -> None:
        """Disconnect the fronts whose key is not valid any more."""
        for front in [*self.open]:
            if not is_valid(front.key):
                logger.warning("the key of a front is not valid any more; it is disconnected")
                front.socket.transport.abort()
