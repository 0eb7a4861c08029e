"""Engines that try what they may not do, in the box that this system can build."""

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from tests.support.programs.machine_scene import alive, died
from wakestream.adapters.engines.run_process import Box, Deadline, run_program
from wakestream.operators.model.errors import TaskFailed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have limits for a process")

ALONE = Box(network=False)
walled = pytest.mark.skipif(ALONE.missing() is not None, reason=str(ALONE.missing()))

CALL = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5).close()
except OSError:
    print("no way out")
else:
    print("connected")
"""
TAKE = "print(len(bytearray(2 * 1024**3)))"
BURN = "while True: pass"
OPEN = """
from resource import RLIMIT_CORE, RLIMIT_NOFILE, getrlimit
print(getrlimit(RLIMIT_NOFILE)[0], getrlimit(RLIMIT_CORE)[0])
"""
SERVE = """
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname())
print("ok")
"""
CHILD = """
import subprocess, sys, threading
wait = "import threading; threading.Event().wait()"
print(subprocess.Popen([sys.executable, "-S", "-c", wait]).pid, flush=True)
threading.Event().wait()
"""
GAIN = "print(next(line for line in open('/proc/self/status') if line.startswith('NoNewPrivs')).split()[1])"


async def lines(box: Box | None, code: str, *arguments: str, limit: float | Deadline = 60.0) -> Sequence[str]:
    argv = [sys.executable, "-S", "-c", code, *arguments]
    async with aclosing(run_program(argv, limit=limit, box=box)) as said:
        return [line async for line in said]


@walled
async def test_an_engine_reaches_no_network_unless_it_may() -> None:
    with socket.create_server(("127.0.0.1", 0)) as here:
        port = str(here.getsockname()[1])
        assert await lines(ALONE, CALL, port) == ["no way out"]
        assert await lines(Box(network=True), CALL, port) == ["connected"]


@walled
async def test_an_engine_may_serve_itself_on_loopback() -> None:
    if "bwrap" not in ALONE.around(()):
        pytest.skip("only bubblewrap brings loopback up")
    assert await lines(ALONE, SERVE) == ["ok"]


async def test_an_engine_that_takes_more_memory_than_it_may_fails_alone() -> None:
    with pytest.raises(TaskFailed, match="MemoryError"):
        await lines(Box(memory=1024**3), TAKE)
    assert await lines(Box(), "print(1)") == ["1"]


async def test_an_engine_that_burns_its_processor_time_is_ended() -> None:
    with pytest.raises(TaskFailed, match=r"(ended with|was killed \()code -?\d+"):
        await lines(Box(seconds=0.01), BURN)


async def test_an_engine_has_a_limit_on_open_files_and_leaves_no_core_dump() -> None:
    assert await lines(Box(), OPEN) == ["4096 0"]


@pytest.mark.skipif(sys.platform != "linux", reason="a promise of Linux")
async def test_an_engine_gains_no_privileges() -> None:
    assert await lines(Box(), GAIN) == ["1"]


@pytest.mark.parametrize("box", [None, ALONE])
async def test_a_missing_program_is_reported_by_name(box: Box | None) -> None:
    with pytest.raises(TaskFailed, match=r"cannot start 'no-such-engine'.*: install it"):
        await anext(run_program(["no-such-engine"], limit=5, box=box))


@pytest.mark.parametrize("box", [None, Box(), ALONE])
async def test_children_of_an_engine_end_with_it(box: Box | None) -> None:
    async with aclosing(run_program([sys.executable, "-S", "-c", CHILD], limit=60, box=box)) as said:
        child = int(await anext(said))
        assert alive(child)
    await died(child)


async def test_all_runs_of_a_task_end_by_one_deadline() -> None:
    deadline = Deadline(3600)
    assert await lines(None, "print(1)", limit=deadline) == ["1"]
    deadline.at = 0.0
    with pytest.raises(TaskFailed, match="longer than the limit of 3600 s"):
        await lines(None, "print(2)", limit=deadline)
