"""What a person sees of a job: on a terminal, in a pipe, and what a program reads with --json."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from client_scene import WITHIN, User, clean_environment
from field_peers import field

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="terminals are made differently there")


class Terminal:
    """A terminal of 80 columns in which a command runs."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self.text = ""
        self.process = process
        self._master = master
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        data = b""
        with suppress(OSError):  # the other side is closed
            data = os.read(self._master, 65536)
        if not data:
            self.close()
        self.text += data.decode(errors="replace")
        self._more.set()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)

    async def shows(self, words: str) -> None:
        """Returns when these words have been on the screen."""
        async with asyncio.timeout(WITHIN):
            while words not in plain(self.text):
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def terminal(user: User, **environment: str) -> AsyncIterator[Terminal]:
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wakestream.adapters.cli", *(part for part in user.command() if part != "--json"),
        stdin=slave, stdout=slave, stderr=slave, cwd=user.folder, start_new_session=True,
        env=clean_environment() | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"} | environment,
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


async def test_on_a_terminal_the_stages_are_ticked_off_in_one_line(user: User) -> None:
    async with field(user, online=False) as (hub, _), terminal(user) as shown:
        await shown.shows("▸ wake")
        await hub.go_online()
        assert await asyncio.wait_for(shown.process.wait(), WITHIN) == 0
        await shown.shows("done: out.mp4 (7.5 kB)")
        last = plain(shown.text).splitlines()
    without_times = [re.sub(r" \d+(\.\d)? s\b", "", line).strip() for line in last]
    assert "✓ submit  ✓ wake  ✓ check  ✓ upload  ✓ render  ✓ download" in without_times
    assert all(len(line) <= 80 for line in last)
    assert shown.text.count("\x1b[?25l") == shown.text.count("\x1b[?25h") > 0  # the cursor is given back


async def test_without_colours_and_without_utf_8_it_still_can_be_read(user: User) -> None:
    async with field(user), terminal(user, NO_COLOR="1", PYTHONIOENCODING="ascii") as shown:
        await shown.shows("done: out.mp4")
        await shown.process.wait()
    assert "+ submit" in plain(shown.text)
    assert "?" not in plain(shown.text).replace("[?25", "")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown.text)


async def test_a_terminal_that_cannot_draw_gets_plain_lines(user: User) -> None:
    async with field(user), terminal(user, TERM="dumb") as shown:
        await shown.shows("done: out.mp4")
        await shown.process.wait()
    assert "\x1b" not in shown.text
    assert " s  worker ready at " in shown.text


async def test_log_lines_stand_above_the_display_and_the_cursor_comes_back_after_ctrl_c(user: User) -> None:
    async with field(user, online=False) as (hub, _), terminal(user) as shown:
        await shown.shows("▸ wake")
        await hub.tell({"type": "error", "message": "maintenance at noon"})
        await shown.shows("the hub says: maintenance at noon")
        shown.process.send_signal(2)
        assert await asyncio.wait_for(shown.process.wait(), WITHIN) == 130
        await shown.shows("cancelled by the user")
        await shown.shows("✗ wake")
    assert shown.text.count("\x1b[?25l") == shown.text.count("\x1b[?25h") > 0


async def test_in_a_pipe_there_are_plain_lines_with_times_and_no_flood(user: User) -> None:
    async with field(user):
        ran = await user.run("submit", "clip.mp4", "speech.wav", "-o", "out.mp4", "--poll-every", "0.05")
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert all(re.match(r" *\d+\.\d s  \S", line) for line in lines)
    assert lines[-1].endswith("done: out.mp4 (7.5 kB)")
    assert len([line for line in lines if "downloading" in line]) == 1
    assert "\x1b" not in ran.out + ran.err


async def test_json_lines_all_parse_and_the_last_is_the_outcome(user: User) -> None:
    async with field(user):
        ran = await user.submit("--job-id", "job-1")
    assert {event["job"] for event in ran.events} == {"job-1"}
    assert [event["t"] for event in ran.events] == sorted(event["t"] for event in ran.events)
    kinds = list(dict.fromkeys(event["event"] for event in ran.events))
    assert kinds == [
        "waking", "granted", "online", "fingerprinted", "checked", "uploading", "uploaded", "submitted", "running",
        "rendered", "downloading", "done",
    ]  # fmt: skip
    assert ran.last == {**ran.last, "path": "out.mp4", "size": 7509}
