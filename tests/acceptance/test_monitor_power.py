"""Both power providers over real programs."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from loguru import logger

from tests.support.programs.our_peers import until
from wakestream.adapters.monitor.runner import MonitorProgram
from wakestream.adapters.power import CommandPower, ProcessPower
from wakestream.adapters.power import command as power_command
from wakestream.adapters.power import process as power_process
from wakestream.adapters.testing.fakes import FakeLink
from wakestream.adapters.testing.power_watch import no_health
from wakestream.operators.model.errors import NoCapacity, PowerError
from wakestream.operators.model.ports import Reading
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.monitor.power_machine import PowerPolicy
from wakestream.streams.protocol import messages as m

Start = Callable[..., ProcessPower]

WAITS = "import sys; print('up', flush=True); sys.stdin.read()"
STUBBORN = """
import signal, time
for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
print("up", flush=True)
while True:
    time.sleep(60)
"""


def python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *arguments)


class Log:
    """Lines of the log, and the moment one comes."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._event = asyncio.Event()

    def write(self, line: Any) -> None:
        self.lines.append(str(line))
        self._event.set()

    async def has(self, text: str) -> None:
        while not any(text in line for line in self.lines):
            self._event.clear()
            await self._event.wait()


@pytest.fixture
async def log() -> AsyncIterator[Log]:
    kept = Log()
    sink = logger.add(kept.write, level="DEBUG", format="{message}")
    yield kept
    logger.remove(sink)


@pytest.fixture
async def process() -> AsyncIterator[Start]:
    opened: list[ProcessPower] = []

    def make(code: str, **settings: Any) -> ProcessPower:
        opened.append(ProcessPower(python(code), **settings))
        return opened[-1]

    yield make
    for power in opened:
        await power.close()


async def test_a_program_is_started_seen_running_and_stopped(process: Start, log: Log) -> None:
    power = process(WAITS)
    assert (await power.inspect()).state == "stopped"
    await power.start()
    await power.start()
    await log.has("up")
    assert (await power.inspect()).state == "running"
    await power.stop()
    await power.ended()
    reading = await power.inspect()
    assert (reading.state, reading.detail) == ("stopped", "the program has ended")
    assert sum("up" in line for line in log.lines) == 1
    await power.close()
    assert (await power.inspect()).detail == "the program has ended"


async def test_a_program_may_be_started_again_after_it_stopped(process: Start) -> None:
    power = process(WAITS)
    for _ in range(2):
        await power.start()
        started = time.time()
        assert (await power.inspect()).state == "running"
        await power.stop()
        while (reading := await power.inspect()).state != "stopped":  # noqa: ASYNC110 - also the tick after its end
            await asyncio.sleep(0)
        assert reading.since is None or reading.since >= started


async def test_a_program_that_ignores_terminate_is_killed_after_the_grace(process: Start, log: Log) -> None:
    power = process(STUBBORN, grace=0.1)
    await power.start()
    await log.has("up")
    await power.stop()
    assert (await power.inspect()).state == "stopping"
    with pytest.raises(PowerError, match="still stopping"):
        await power.start()
    await power.ended()
    assert (await power.inspect()).state == "stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")
async def test_a_program_that_was_killed_is_reported_with_the_signal(process: Start) -> None:
    power = process("import os; os.kill(os.getpid(), 9)")
    await power.start()
    await power.ended()
    reading = await power.inspect()
    assert (reading.state, reading.detail) == ("failed", "the program was ended by signal 9: no output")
    assert str(reading) == f"failed ({reading.detail})"


async def test_a_program_that_exits_at_once_fails_with_a_reason(process: Start, log: Log) -> None:
    power = process("raise SystemExit('no CUDA device')")
    await power.start()
    await power.ended()
    await log.has("no CUDA device")
    reading = await power.inspect()
    assert (reading.state, reading.detail) == ("failed", "the program ended by itself with code 1: no CUDA device")
    await power.stop()
    assert (await power.inspect()).state == "stopped"


async def test_a_program_that_prints_without_end_is_never_held_up(process: Start, log: Log) -> None:
    power = process(
        "import sys\nsys.stdout.write('x' * 5_000_000 + '\\n')\nprint('said all', flush=True)\nsys.stdin.read()"
    )
    await power.start()
    await log.has("said all")
    assert (await power.inspect()).state == "running"
    assert max(map(len, log.lines)) < 3000


async def test_a_character_that_is_read_in_two_parts_is_whole(process: Start, log: Log, tmp_path: Path) -> None:
    power = process(
        f"import os, time\nos.write(1, b'one\\nhalf \\xe8\\xaf')\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\nos.write(1, b'\\xb4\\n')"
    )
    await power.start()
    await log.has("one")
    (tmp_path / "go").touch()
    await log.has("half ")
    assert [line.partition("] ")[2] for line in log.lines if "half " in line] == ["half 说\n"]


async def test_endless_output_does_not_fill_the_log(process: Start, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_process, "LINES_A_SECOND", 10)
    power = process("import sys\nwhile True: sys.stdout.write('y\\n' * 10_000)")
    await power.start()
    await log.has("left out")
    assert (await power.inspect()).state == "running"
    assert len(log.lines) < 200


async def test_the_output_of_a_program_that_ends_normally_is_not_quoted(process: Start) -> None:
    power = process("print('a long good-bye')")
    await power.start()
    await power.ended()
    reading = await power.inspect()
    assert (reading.state, reading.detail) == ("failed", "the program ended by itself")
    await power.stop()  # too late, but wanted
    assert (await power.inspect()).detail == "the program has ended"


async def test_a_program_is_killed_when_its_end_is_not_waited_for_any_longer(process: Start, log: Log) -> None:
    power = process(STUBBORN, grace=1000.0)
    await power.start()
    await log.has("up")
    ended = asyncio.create_task(power.ended())
    closing = asyncio.create_task(power.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    async with asyncio.timeout(100):
        await ended


LEAVES_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print("child", child.pid, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="groups are killed on POSIX only")
async def test_only_a_programs_children_end_with_it(process: Start, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    killpg = os.killpg

    def kill(group: int, number: int) -> None:
        killed.append(group)
        killpg(group, number)

    monkeypatch.setattr(os, "killpg", kill)
    power = process(LEAVES_A_CHILD)
    await power.start()
    await power.ended()
    await until(lambda: killed)
    assert (await power.inspect()).state == "failed"
    killed.clear()  # from now on the number may be another program's
    await power.stop()
    await power.close()
    assert killed == []


NOBODY = ["no-such-program-here"]


@pytest.mark.parametrize("power", [ProcessPower(NOBODY), CommandPower(NOBODY, ["x"], ["x"])])
async def test_a_program_that_does_not_exist_is_a_clear_error(power: ProcessPower | CommandPower) -> None:
    with pytest.raises(PowerError, match=r"cannot start 'no-such-program-here': .*give the full path"):
        await power.start()


async def test_closing_ends_the_program(process: Start, log: Log) -> None:
    power = process("import os, sys; print('pid', os.getpid(), flush=True); sys.stdin.read()")
    await power.start()
    await log.has("pid")
    await power.close()
    assert (await power.inspect()).state == "stopped"
    if os.name == "posix":
        line = next(line for line in log.lines if "pid" in line)
        with pytest.raises(ProcessLookupError):
            os.kill(int(line.split()[-1]), 0)


def commands(
    *, start: str = "", stop: str = "", inspect: str = "print('stopped')", timeout: float = 20.0
) -> CommandPower:
    return CommandPower(python(start), python(stop), python(inspect), timeout=timeout)


@pytest.mark.parametrize(
    ("printed", "reading"),
    [
        ("running", "running"), ("Stopped since noon", "stopped"), ("no_capacity", "no_capacity"),
        ("Initializing", "starting"), ("Install Fail", "failed"), ("Rebooting", "starting"), ("unknown", "unknown"),
        ("terminated", "terminated"),
    ],
)  # fmt: skip
async def test_the_first_word_of_the_inspect_output_is_the_state(printed: str, reading: str) -> None:
    power = commands(inspect=f"print({printed!r})")
    said = await power.inspect()
    assert said.state == reading
    assert printed in said.detail


async def test_inspect_may_print_json_with_state_and_address() -> None:
    printed = {"state": "Running", "address": "gpu.example:8383", "since": 1.7e9, "gpus": 2, "detail": "zone b"}
    said = await commands(inspect=f"print({json.dumps(printed)!r})").inspect()
    assert said == Reading("running", "gpu.example:8383", 1.7e9, "zone b", 2)


async def test_a_command_with_endless_output_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_command, "MAX_OUTPUT", 1024 * 1024)
    with pytest.raises(PowerError, match="printed more than 1 MiB"):
        await commands(inspect="while True: print('running' * 1000)").inspect()


@pytest.mark.parametrize("printed", ['{"state": 1}', '{"address": "a"}', "{state}", '{"state": "perhaps"}'])
async def test_json_without_a_known_state_is_answered_with_what_to_write(printed: str) -> None:
    with pytest.raises(PowerError, match=r"write for example|the first word must be running"):
        await commands(inspect=f"print({printed!r})").inspect()


@pytest.mark.parametrize(("code", "said"), [("print('perhaps')", "it printed 'perhaps'"), ("", "it printed nothing")])
async def test_an_unknown_inspect_output_is_answered_with_the_expected_words(code: str, said: str) -> None:
    with pytest.raises(PowerError, match=f"{said}; the first word must be running"):
        await commands(inspect=code).inspect()


async def test_a_command_that_fails_is_quoted_with_its_last_lines() -> None:
    power = commands(stop="import sys; print('first', file=sys.stderr); sys.exit('locked by another job')")
    with pytest.raises(PowerError, match=r"exit code 1: first \| locked by another job"):
        await power.stop()


async def test_the_output_of_a_command_is_quoted_without_control_characters() -> None:
    said = "\\x1b[1;31mERROR\\x1b[0m\\x07 \u914d\u989d: none\\x1b]0;title\\x07 left"
    with pytest.raises(PowerError, match=r"exit code 1: ERROR\ufffd \u914d\u989d: none\ufffd]0;title\ufffd left$"):
        await commands(stop=f"import sys; sys.stderr.buffer.write('{said}'.encode()); sys.exit(1)").stop()


async def test_exit_code_75_of_start_is_no_capacity() -> None:
    with pytest.raises(NoCapacity, match="no capacity: sold out"):
        await commands(start="import sys; print('sold out', file=sys.stderr); sys.exit(75)").start()


async def test_a_command_that_does_not_end_is_killed() -> None:
    with pytest.raises(PowerError, match=r"did not end within 0\.2 s"):
        await commands(start="import time; time.sleep(60)", timeout=0.2).start()


async def test_processes_left_by_a_start_command_are_neither_awaited_nor_killed(tmp_path: Path) -> None:
    left = tmp_path / "left.pid"
    start = (
        "import subprocess, sys, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(left)!r}).write_text(str(child.pid))"
    )
    await commands(start=start).start()
    pid = int(left.read_text())
    os.kill(pid, 0 if os.name == "posix" else 15)
    if os.name == "posix":
        os.kill(pid, 9)


@asynccontextmanager
async def watched(power: Any, **settings: Any) -> AsyncIterator[FakeLink]:
    """A monitor over a real provider, quick in all it does."""
    link, stop = FakeLink(), asyncio.Event()
    policy = PowerPolicy(
        gpu="gpu-1", checks_health=False, look_soon=0.02, look_online=0.02, look_rarely=0.02, **settings
    )
    running = asyncio.create_task(
        MonitorProgram(Monitor(policy, Random(1)), link, power, no_health, tick=0.02).run(stop)
    )
    await asyncio.sleep(0)
    off = asyncio.create_task(link.next(m.PowerState, lambda said: said.state == "off"))
    await asyncio.sleep(0)
    link.connect("power_state")
    await off
    yield link
    stop.set()
    await running
    await power.close()


async def test_a_program_is_woken_becomes_online_and_is_stopped_when_idle() -> None:
    async with watched(ProcessPower(python(WAITS)), idle_after=0.1) as link:
        link.receive(m.Boot(request_id="boot-1"))
        assert (await link.next(m.Booted)).request_id == "boot-1"
        link.receive(m.Online())
        for drain in (None, True):
            query = await link.next(m.TaskQuery, lambda asked, drain=drain: asked.drain is drain)
            link.receive(m.TaskQueryResponse(request_id=query.request_id, active_count=0, has_recent_active=False))
        await link.next(m.PowerState, lambda said: said.state == "off")
    states = [said.state for said in link.said(m.PowerState)]
    assert states[-6:] == ["starting", "booted", "online", "draining", "stopping", "off"]


def shows(variable: str) -> str:
    return f"import os; print('running' if os.environ.get({variable!r}) else 'stopped')"


@pytest.mark.parametrize("variable", ["HEYGEM_API_SECRET", "WAKESTREAM_KEY", "WAKESTREAM_WEBHOOK_SECRET"])
async def test_a_power_command_gets_no_secrets(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "secret-0123456789abcdef")
    monkeypatch.setenv("CLOUD_TOKEN", "its own")
    assert (await commands(inspect=shows(variable)).inspect()).state == "stopped"
    assert (await commands(inspect=shows("CLOUD_TOKEN")).inspect()).state == "running"


async def test_a_started_worker_gets_only_its_secret(process: Start, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEYGEM_API_SECRET", "secret-0123456789abcdef")
    monkeypatch.setenv("WAKESTREAM_KEY", "key-0123456789abcdef")
    code = "import os; print('has', [name in os.environ for name in ('HEYGEM_API_SECRET', 'WAKESTREAM_KEY')])"
    await process(code).start()
    await log.has("has [True, False]")
