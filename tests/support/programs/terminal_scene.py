"""A command on a terminal of 80 columns."""

import asyncio
import codecs
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.support.programs.client_scene import WITHIN, User


class Terminal:
    """A terminal of 80 columns in which a command runs."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self.text = ""
        self.process = process
        self._master = master
        self._more = asyncio.Event()
        self._closed = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a read may end within a character
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        data = b""
        with suppress(OSError):  # the other side is closed
            data = os.read(self._master, 65536)
        if not data:
            self.close()
        self.text += self._decoder.decode(data, final=not data)
        self._more.set()

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def close(self) -> None:
        """Read no more."""
        self._closed = True
        asyncio.get_running_loop().remove_reader(self._master)

    async def ended(self) -> str:
        """All that the command has written, once it has ended and closed the terminal."""
        async with asyncio.timeout(WITHIN):
            await self.process.wait()
            while not self._closed:
                self._more.clear()
                await self._more.wait()
        return self.text

    async def shows(self, words: str) -> None:
        """Returns when these words have been on the screen."""
        async with asyncio.timeout(WITHIN):
            while words not in plain(self.text):
                self._more.clear()
                await self._more.wait()

    async def names(self, words: str) -> str:
        """The word that follows these, when the screen has shown the whole of it."""
        async with asyncio.timeout(WITHIN):
            while not (whole := re.search(rf"{re.escape(words)} (\S+)\s", plain(self.text))):
                self._more.clear()
                await self._more.wait()
        return whole[1]


@asynccontextmanager
async def terminal(user: User, *command: str, **environment: str) -> AsyncIterator[Terminal]:
    """The command, with the user's settings, on a terminal; killed if it still runs at the end of the block."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wakestream.adapters.cli", *command,
        stdin=slave, stdout=slave, stderr=slave, cwd=user.folder, start_new_session=True,
        env=user.surroundings() | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"} | environment,
    )  # fmt: skip
    os.close(slave)
    shown = Terminal(master, process)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        shown.close()
        os.close(master)


def plain(text: str) -> str:
    """The text without what moves the cursor and colours it."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
