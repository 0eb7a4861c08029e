"""Real I/O is noticed and refused where none may be, and nowhere else."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
import reactivex as rx

from wakestream.adapters.testing.io_guard import no_real_io
from wakestream.adapters.testing.virtual_loop import RealWorldTouched


def bind() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))


def connect() -> None:
    with socket.socket() as one:
        one.connect_ex(("127.0.0.1", 9))


TOUCHES: dict[str, Callable[[], object]] = {
    "socket.bind": bind,
    "socket.connect": connect,
    "socket.getaddrinfo": lambda: socket.getaddrinfo("localhost", 80),
    "thread": lambda: threading.Thread(target=int).start(),
    "os.system": lambda: os.system("true"),  # noqa: S605, S607
    "subprocess.Popen": lambda: subprocess.run([sys.executable, "-c", "pass"], check=True),
}


@pytest.mark.parametrize("event", TOUCHES)
def test_sockets_names_and_processes_are_refused_within_the_block_only(event: str) -> None:
    TOUCHES[event]()
    with no_real_io() as tried, pytest.raises(RealWorldTouched, match=event):
        TOUCHES[event]()
    assert [what.split()[0] for what in tried] == [event]
    TOUCHES[event]()


def test_io_in_a_thread_is_detected() -> None:
    def touch() -> None:
        with contextlib.suppress(RealWorldTouched):
            bind()

    began = threading.Event()
    thread = threading.Thread(target=lambda: began.wait(100) and touch())
    thread.start()
    with no_real_io() as tried:
        began.set()
        thread.join()
    assert tried == ["socket.bind ('127.0.0.1', 0)"]


def test_an_event_loop_may_be_made_within_the_block() -> None:
    with no_real_io() as tried, asyncio.Runner() as runner:
        runner.run(asyncio.sleep(0))
    assert tried == []


@pytest.mark.virtual
async def test_a_timer_of_the_library_is_refused_and_told_what_it_lacks() -> None:
    with no_real_io() as tried, pytest.raises(RealWorldTouched, match=r"no scheduler was given"):
        rx.timer(0.01).subscribe()
    assert len(tried) == 1


@pytest.mark.virtual
async def test_a_refusal_of_the_virtual_loop_is_noticed_although_it_is_caught() -> None:
    with no_real_io() as tried:
        with contextlib.suppress(RealWorldTouched):
            await asyncio.open_connection("127.0.0.1", 9)
        with contextlib.suppress(RealWorldTouched):
            await asyncio.to_thread(bind)
    first, second = tried
    assert first.startswith("create_connection needs a socket")
    assert "needs a thread" in second


def test_blocks_may_stand_within_each_other() -> None:
    with no_real_io() as outer:
        with no_real_io() as inner, contextlib.suppress(RealWorldTouched):
            bind()
        with contextlib.suppress(RealWorldTouched):
            bind()
    assert (len(inner), len(outer)) == (1, 1)
