"""Send frames from the hub: a frame is built once for all receivers, and a connection's frames are written at once."""

from __future__ import annotations

from collections.abc import Iterable

from websockets.protocol import State

from wakestream.adapters.hub.admission import GuardedConnection, cut_if_slow
from wakestream.adapters.net.counters import Refusals

_TEXT = 0x81  # the last frame of a text message

_TOGETHER = 64
"""The most frames that are written at once, so that a slow connection is noticed in time."""


def text_frame(text: bytes) -> bytes:
    """A whole message of a server (RFC 6455, section 5.2): one unmasked frame."""
    size = len(text)
    if size < 126:
        return bytes((_TEXT, size)) + text
    width, code = (2, 126) if size < 1 << 16 else (8, 127)
    return bytes((_TEXT, code)) + size.to_bytes(width, "big") + text


class Outgoing:
    """Collects frames, to write them when the current events have been handled."""

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
        """Write all collected frames. Closing connections get nothing, slow ones are cut."""
        waiting, self._waiting = self._waiting, {}
        for socket, frames in waiting.items():
            self._write(socket, frames)

    def _write(self, socket: GuardedConnection, frames: list[bytes]) -> None:
        if socket.protocol.state is State.OPEN:
            socket.transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
            cut_if_slow(socket, self._refused)
