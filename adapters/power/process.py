"""The power provider `process`: a program on this machine, which is started and stopped."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import Mapping, Sequence

from loguru import logger

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.power.config import CannotList, Machine, PowerConfig
from wakestream.adapters.runtime.child_processes import (
    KILL_WITHIN,
    LAST_LINES,
    LineSplitter,
    environment,
    kill,
    kill_and_wait,
    start,
    terminate,
)
from wakestream.adapters.runtime.tasks import background
from wakestream.operators.model.errors import PowerError, TryAgain
from wakestream.operators.model.ports import Reading

LONGEST_LINE = 2000
"""Characters of a line of output that are logged."""

LINES_A_SECOND = 200
"""Lines of output a second that are logged; further ones are only counted."""

_PAUSE = 0.01
_MONITOR_ONLY = ("WAKESTREAM_KEY", "WAKESTREAM_WEBHOOK_SECRET")


def create(config: PowerConfig) -> ProcessPower:
    """Make the provider of `--power process`."""
    config.known("process")
    program = config.commands.get("program")
    if program is None:
        raise SettingsError("--power process needs --program CMD, the program that is started and stopped")
    return ProcessPower(program)


class ProcessPower:
    """Starts and stops a program in the place of a machine.

    The program stops when this provider is closed, and its standard input ends then. Its output is logged line by line.

    Args:
        argv: The program and its arguments.
        grace: Seconds after which a program that was asked to end is killed.
        env: Its environment; by default the monitor's, without the monitor's own key.

    Example:
        >>> power = ProcessPower(["wakestream", "worker"])
    """

    ends_with_monitor = True

    def __init__(self, argv: Sequence[str], *, grace: float = 10.0, env: Mapping[str, str] | None = None) -> None:
        self._argv, self._grace = tuple(argv), grace
        self._env = dict(env) if env is not None else None
        self._process: Process | None = None
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        self._reading: asyncio.Task[None] | None = None
        self._cleaning: asyncio.Task[None] | None = None
        self._stopped = False
        self._ending: asyncio.Task[None] | None = None
        self._ended_at: float | None = None

    async def start(self) -> None:
        """Start the program unless it runs. `TryAgain`: it is still stopping. `PowerError`: it cannot be started."""
        if self._running():
            if self._ending is not None:
                raise TryAgain("the program is still stopping")
            return
        await self._forget()
        self._said.clear()
        self._stopped, self._ended_at = False, None
        env = environment(*_MONITOR_ONLY) if self._env is None else {"PYTHONUNBUFFERED": "1", **self._env}
        try:
            self._process = await start(self._argv, stdin=PIPE, stderr=STDOUT, env=env)
        except (OSError, ValueError) as error:
            raise PowerError(f"cannot start {self._argv[0]!r}: {error}; give the full path of the program") from None
        self._reading = background("the output of the program", self._read(self._process))
        self._cleaning = background("the clean-up after the program", self._clean_up(self._process))

    async def stop(self) -> None:
        """Ask the program to end, and make sure in the background that it ends."""
        self._stopped = True
        if not self._running():
            await self._forget()
        elif self._ending is None:
            assert self._process is not None  # noqa: S101 - it runs
            self._ending = background("the end of the program", self._end(self._process))

    async def inspect(self) -> Reading:
        """Return the state; `failed` if the program ended by itself."""
        if self._running():
            return Reading("stopping" if self._ending is not None else "running")
        if self._process is None or self._ending is not None:
            return Reading("stopped", since=self._ended_at, detail=self._detail())
        return Reading("failed", since=self._ended_at, detail=self._detail())

    async def machines(self) -> Sequence[Machine]:
        """Raises `CannotList`: a program has no list."""
        raise CannotList("--power process starts a program of this machine; there is no list of machines")

    def _detail(self) -> str:
        """That the program has ended; if it failed by itself, also its exit code and last output."""
        process = self._process
        if process is None and not self._stopped:
            return ""
        if process is None or self._stopped:
            return "the program has ended"
        code = process.returncode or 0
        if code == 0:
            return "the program ended by itself"
        words = " | ".join(self._said) or "no output"
        how = f"was ended by signal {-code}" if code < 0 else f"ended by itself with code {code}"
        return f"the program {how}: {words}"

    async def ended(self) -> None:
        """Wait until the program does not run."""
        if self._process is not None:
            await self._process.wait()

    async def close(self) -> None:
        """Stop the program and wait for its end, for at most the grace and a few seconds."""
        await self.stop()
        await self._forget()

    def _running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def _end(self, process: Process) -> None:
        assert process.stdin is not None  # noqa: S101 - it was asked for
        process.stdin.close()
        terminate(process)
        try:
            async with asyncio.timeout(self._grace):
                await process.wait()
        except TimeoutError:
            logger.warning("process {} did not end within {:g} s, killing it", process.pid, self._grace)
            await kill_and_wait(process)

    async def _forget(self) -> None:
        """Clean up after a program that has ended or is ending."""
        process, self._process = self._process, None
        if self._ending is not None:
            try:
                await asyncio.shield(self._ending)
            except asyncio.CancelledError:
                if process is not None and process.returncode is None:
                    kill(process)  # do not wait for the grace to pass
                raise
            self._ending = None
        elif process is not None:
            assert process.stdin is not None  # noqa: S101 - it was asked for
            process.stdin.close()
        if self._cleaning is not None:
            if process is None or process.returncode is None:  # it does not end even when it is killed
                self._cleaning.cancel()
            await asyncio.gather(self._cleaning, return_exceptions=True)
            self._cleaning = None
        if self._reading is not None:
            try:
                async with asyncio.timeout(KILL_WITHIN):
                    await self._reading
            except TimeoutError:
                logger.warning("the output of the ended program is still open; the rest is not read")
            self._reading = None

    async def _clean_up(self, process: Process) -> None:
        """Kill what the program left running, since that keeps its output open. Later its number may be reused."""
        await process.wait()
        self._ended_at = time.time()
        kill(process)

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        output = _OutputLog(process.pid)
        splitter = LineSplitter(LONGEST_LINE)
        while data := await process.stdout.read(65536):
            self._log_lines(splitter.take(data), output)
            # Reading a stream that always has more never waits.
            await asyncio.sleep(_PAUSE if output.flooded else 0)
        self._log_lines(splitter.take(b""), output)

    def _log_lines(self, lines: Sequence[str], output: _OutputLog) -> None:
        texts = [text for line in lines if (text := line.strip()[:LONGEST_LINE])]
        self._said.extend(texts)
        output.log(texts)


class _OutputLog:
    """Logs the output of a program, up to a limit, so that it cannot fill the disk."""

    def __init__(self, pid: int) -> None:
        self._log = logger.bind(stage="machine")
        self._pid = pid
        self._since = 0.0
        self._logged = 0
        self._left_out = 0

    @property
    def flooded(self) -> bool:
        """Whether lines were left out in this second."""
        return self._left_out > 0

    def log(self, lines: Sequence[str]) -> None:
        """Log these lines, up to the limit of this second."""
        now = asyncio.get_running_loop().time()
        if now - self._since >= 1:
            if self._left_out:
                self._log.warning("[{}] {} lines are left out here, it prints too much", self._pid, self._left_out)
            self._since, self._logged, self._left_out = now, 0, 0
        room = lines[: LINES_A_SECOND - self._logged]
        for line in room:
            self._log.info("[{}] {}", self._pid, line)
        self._logged += len(room)
        self._left_out += len(lines) - len(room)
