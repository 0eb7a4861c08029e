"""Our frames are those of the library, whatever their length."""

import pytest
from websockets.frames import Frame, Opcode

from wakestream.adapters.hub.outbound import text_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_a_text_frame_is_what_the_library_would_send(size: int) -> None:
    text = b"x" * size
    assert text_frame(text) == Frame(Opcode.TEXT, text).serialize(mask=False)
