"""Send frames from the hub: a frame is built once for all receivers, and a connection's frames are written at once.

A connection of a front gets its frames through the front, which gets a broadcast once for all of its connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

from loguru import logger
from msgspec.structs import replace
from websockets.protocol import State

from wakestream.adapters.hub.admission import GuardedConnection, cut_if_slow
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.fronts import Ended, Front, Fronted, ToFront
from wakestream.adapters.net.connection_limits import Refusals
from wakestream.adapters.runtime.tasks import background
from wakestream.streams.hub import events as f
from wakestream.streams.hub.rows import sent_row
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.recording import untapped

_OPEN = State.OPEN
_TEXT, _BINARY = 0x81, 0x82  # the last frame of a message

_TOGETHER = 64
"""The most frames that are written at once, so that a slow connection is noticed in time."""


def text_frame(text: bytes, kind: int = _TEXT) -> bytes:
    """A whole message of a server (RFC 6455, section 5.2): one unmasked frame."""
    size = len(text)
    if size < 126:
        return bytes((kind, size)) + text
    width, code = (2, 126) if size < 1 << 16 else (8, 127)
    return bytes((kind, code)) + size.to_bytes(width, "big") + text


class Writer:
    """Writes frames to connections and closes them.

    Args:
        refused: Counts slow connections, which are cut.
    """

    def __init__(self, refused: Refusals) -> None:
        self._refused = refused
        self._waiting: dict[GuardedConnection, list[bytes]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def put(self, sockets: Iterable[GuardedConnection], frame: bytes, given: int = 0) -> None:
        """Send a frame to each; it is written by the next `flush`. `given`: see `GuardedConnection`."""
        waiting = self._waiting
        for socket in sockets:
            if given:
                socket.given += given
            if (frames := waiting.get(socket)) is None:
                waiting[socket] = [frame]
                continue
            frames.append(frame)
            if len(frames) == _TOGETHER:
                self._write(socket, waiting.pop(socket))

    def end(self, socket: GuardedConnection, code: int, reason: str) -> None:
        """Close a connection after what was sent to it before."""
        # A close frame's reason has 123 bytes at most.
        task = background("the end of a connection", socket.close(code, reason[:120]))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def flush(self) -> None:
        """Write all collected frames. Closing connections get nothing, slow ones are cut."""
        waiting, self._waiting = self._waiting, {}
        for socket, frames in waiting.items():
            self._write(socket, frames)

    def _write(self, socket: GuardedConnection, frames: list[bytes]) -> None:
        transport = socket.transport
        # A connection that was cut has frames to read for a moment; asyncio would log each answer.
        if socket.protocol.state is _OPEN and not transport.is_closing() and not socket.outdated:
            transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
            if socket.given or transport.get_write_buffer_size():
                cut_if_slow(socket, self._refused)


class Outbound(Writer):
    """Executes the commands of the hub's decider: it sends frames and closes connections.

    Args:
        sockets: The open connections.
        refused: Counts the errors that are sent.
        config: The hub's settings.
        with_links: Returns a message with links to the depot.
    """

    def __init__(
        self,
        sockets: Mapping[int, GuardedConnection | Fronted],
        refused: Refusals,
        config: HubConfig,
        with_links: Callable[[m.Message, f.Links], m.Message],
    ) -> None:
        super().__init__(refused)
        self._with_links, self._sockets = with_links, sockets
        self._tap, self._signer, self._clock = config.tap, config.signer, config.clock
        self._leadership = config.leadership
        self._fronts: dict[Front, None] = {}

    def execute(self, command: f.Command) -> None:
        """Execute a command. Its frames are written by the next `flush`."""
        match command:
            case f.Send():
                self._send((command.fd,), command.message, command.old, command.seal)
            case f.Broadcast():
                self._send(command.to, command.message, command.old)
            case f.Close():
                self.close(command)

    def _send(self, to: Collection[int], message: m.Message, old: bool, seal: f.Seal | f.Links | None = None) -> None:
        if isinstance(message, m.Error):
            self._refused.count(message.code or "refused")
        if self._tap is not untapped:
            here, gone = ([fd for fd in to if (fd in self._sockets) is still] for still in (True, False))
            self._tap.row(*sent_row(here, message, old, gone))
        # After recording: capabilities and links must not be in a log, and what is said of the cluster is no decision.
        message = self._with_cluster(message)
        if isinstance(seal, f.Seal):
            message = self._signer.sealed(message, seal, self._clock())
        elif seal is not None:
            message = self._with_links(message, seal)
        sockets = [socket for fd in to if (socket := self._sockets.get(fd)) is not None]
        text = wire.octets(message)
        self._put(sockets, message, text, len(text) if isinstance(message, m.DispatchBatch) else 0)
        if old and (alias := wire.encode_old(message)) is not None:
            self._put(sockets, message, alias.encode())

    def _with_cluster(self, message: m.Message) -> m.Message:
        role = self._leadership
        if isinstance(message, m.Registered) and role.cluster:
            return replace(message, cluster=role.cluster)
        if isinstance(message, m.HubStatus) and role.epoch is not None:
            return replace(message, leader={"name": role.leader, "epoch": role.epoch})
        return message

    def _put(
        self, sockets: Iterable[GuardedConnection | Fronted], message: m.Message, text: bytes, given: int = 0
    ) -> None:
        if len(text) > wire.MAX_FRAME:  # the receiver would close the connection
            logger.warning("a {} was not forwarded: it is too large", message.TYPE)
            return
        frame = text_frame(text)
        ours = []
        for socket in sockets:
            if isinstance(socket, Fronted):
                socket.front.send(socket.number, frame, given)
                self._fronts[socket.front] = None
            else:
                ours.append(socket)
        self.put(ours, frame, given)

    def tell(self, front: Front, item: ToFront) -> None:
        """Send this to a front with the next `flush`."""
        front.items.append(item)
        self._fronts[front] = None

    def close(self, command: f.Close) -> None:
        """Close a connection."""
        socket = self._sockets.get(command.fd)
        if isinstance(socket, Fronted):
            self.tell(socket.front, Ended(socket.number, command.code, command.reason[:120]))
        elif socket is not None:
            self.end(socket, command.code, command.reason)

    def flush(self) -> None:
        """See `Writer.flush`."""
        fronts, self._fronts = self._fronts, {}
        for front in fronts:
            items, given = front.take()
            self.put((front.socket,), text_frame(items, _BINARY), given)
        super().flush()
