"""Programs that are ended, loops that listen, and clocks with a coarse step."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from as_on_windows_loops import FAIL_ACCEPTS, ProactorEventLoop
from as_on_windows_programs import NO_CONSOLE

from wakestream.adapters.cli import service as program
from wakestream.adapters.cli.service import Stop, run_program
from wakestream.adapters.power import ProcessPower

WAITS = "import sys; print('up', flush=True); sys.stdin.read()"
STAYS = "import signal, sys; signal.signal(signal.SIGUSR1, signal.SIG_IGN); print('up', flush=True); signal.pause()"


async def _until(power: ProcessPower, reading: str) -> None:
    while (await power.inspect()).state != reading:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("console", [True, False])
@pytest.mark.parametrize("code", [WAITS, STAYS], ids=["waits", "stays"])
async def test_a_program_stops_with_and_without_a_console(
    console: bool, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not console:
        monkeypatch.setenv(NO_CONSOLE, "1")
    power = ProcessPower([sys.executable, "-S", "-c", code], grace=0.5)
    await power.start()
    assert (await power.inspect()).state == "running"
    await power.stop()
    await _until(power, "stopped")
    await power.close()


def _serves(monkeypatch: pytest.MonkeyPatch, failures: int) -> tuple[bytes, list[str]]:
    """What the third caller of a server is answered after so many accepts failed, and what the loop complained of."""
    monkeypatch.setenv(FAIL_ACCEPTS, str(failures))
    answers: list[bytes] = []
    complaints: list[str] = []

    async def main(_: Stop) -> int:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "default_exception_handler", lambda context: complaints.append(context["message"]))

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        async with server:
            for _ in range(3):
                try:
                    reader, writer = await asyncio.open_connection(*address)
                    writer.write(b"hello\n")
                    answers.append(await reader.read())
                    writer.close()
                except ConnectionError:
                    answers.append(b"")
        return 0

    assert run_program(main) == 0
    return answers[-1], complaints


def test_a_server_survives_connections_closed_before_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _serves(monkeypatch, 2) == (b"hello\n", [])


def test_without_our_loop_such_a_caller_ends_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "loop_factory", lambda: ProactorEventLoop)
    answer, complaints = _serves(monkeypatch, 1)
    assert answer == b""
    assert "Accept failed on a socket" in complaints


async def test_a_program_of_ours_is_stopped_by_ctrl_break() -> None:
    code = (
        "import asyncio, sys\n"
        "from wakestream.adapters.cli.service import run_program\n"
        "async def main(stop):\n"
        "    print('up', flush=True)\n"
        "    await stop.wait()\n"
        "    print('down in order', flush=True)\n"
        "sys.exit(run_program(main))\n"
    )
    flags = {"creationflags": 0x200}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE, **flags)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"up\n"
    process.send_signal(1)
    assert await process.stdout.read() == b"down in order\n"
    assert await process.wait() == 0


def test_the_emulated_loop_lacks_the_same_methods() -> None:
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(NotImplementedError):
            loop.add_signal_handler(signal.SIGINT, print)
        with pytest.raises(NotImplementedError):
            loop.add_reader(0, print)
    finally:
        loop.close()


WORKER = """
import asyncio, sys
from wakestream.adapters.engines.run_process import run_program
async def main():
    code = "import os, time; print(os.getpid(), os.getpgrp(), flush=True); time.sleep(600)"
    async for line in run_program([sys.executable, "-S", "-c", code], limit=600):
        print(line, flush=True)
asyncio.run(main())
"""


async def test_a_killed_worker_takes_its_engine_with_it_which_no_ctrl_c_of_its_console_reaches() -> None:
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, stdout=PIPE)
    assert worker.stdout is not None
    engine, group = map(int, (await worker.stdout.readline()).split())
    assert group != os.getpgrp()
    worker.kill()
    await worker.wait()
    while _lives(engine):  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
