"""Our frames are those of the library, whatever their length, and go to open connections only."""

import asyncio
from unittest.mock import Mock

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from wakestream.adapters.hub.admission import GuardedConnection
from wakestream.adapters.hub.outbound import Writer, text_frame
from wakestream.adapters.net.connection_limits import Refusals


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_a_text_frame_is_what_the_library_would_send(size: int) -> None:
    text = b"x" * size
    assert text_frame(text) == Frame(Opcode.TEXT, text).serialize(mask=False)


def test_a_connection_that_was_cut_or_of_a_former_leader_is_not_written_to() -> None:
    transport = Mock(spec=asyncio.Transport)
    socket = Mock(spec=GuardedConnection, transport=transport, protocol=Mock(state=State.OPEN), given=0, most=1000)
    transport.get_write_buffer_size.return_value = 0
    writer = Writer(Refusals())
    for closing, socket.outdated in ((False, False), (True, False), (False, True)):
        transport.is_closing.return_value = closing
        writer.put((socket,), b"frame")
        writer.flush()
    transport.write.assert_called_once_with(b"frame")
