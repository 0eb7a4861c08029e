"""Frames on their way out of the hub: each is built once for all who get it, and one connection's go in one write."""

from __future__ import annotations

from collections.abc import Iterable

from websockets.protocol import State

from wakestream.adapters.hub.admission import GuardedConnection, cut_if_slow
from wakestream.adapters.net.counters import Refusals

_TEXT = 0x81  # the last frame of a text message

_TOGETHER = 64
"""Frames of one connection that are written together at most, so that a slow one is noticed in time."""


def text_frame(text: bytes) -> bytes:
    """A whole message as a server sends it (RFC 6455, section 5.2): one frame, unmasked."""
    size = len(text)
    if size < 126:
        return bytes((_TEXT, size)) + text
    width, code = (2, 126) if size < 1 << 16 else (8, 127)
    return bytes((_TEXT, code)) + size.to_bytes(width, "big") + text


class Outgoing:
    """What is to be written once the events at hand are dealt with."""

    def __init__(self, refused: Refusals) -> None:
        self._refused = refused
        self._waiting: dict[GuardedConnection, list[bytes]] = {}

    def put(self, sockets: Iterable[GuardedConnection], frame: bytes) -> None:
        """Send `frame` to each of them at the next `flush`."""
        waiting = self._waiting
        for socket in sockets:
            frames = waiting.setdefault(socket, [])
            frames.append(frame)
            if len(frames) == _TOGETHER:
                self._write(socket, waiting.pop(socket))

    def flush(self) -> None:
        """Write all that waits. Connections that are closing get nothing, slow ones are cut."""
        waiting, self._waiting = self._waiting, {}
        for socket, frames in waiting.items():
            self._write(socket, frames)

    def _write(self, socket: GuardedConnection, frames: list[bytes]) -> None:
        if socket.protocol.state is State.OPEN:
            socket.transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
            cut_if_slow(socket, self._refused)
