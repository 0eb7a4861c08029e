"""`wakestream worker` as a process that can be killed and started again where it was."""

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.ports import free_port
from tests.support.programs.client_scene import clean_environment

SECRET = "swordfish-0123456789"


class WorkerProcess:
    """One state folder and one address, whatever happens to the process."""

    def __init__(self, state: Path, *arguments: str, python: str | Path = sys.executable) -> None:
        self.state = state
        self.url = ""
        self._arguments = arguments
        self._python = str(python)
        self._process: Process | None = None
        self._port = free_port()

    async def start(self) -> None:
        """Returns when it listens."""
        self._process = await asyncio.create_subprocess_exec(
            self._python, "-m", "wakestream.adapters.cli", "worker", "--state", str(self.state),
            "--listen", f"127.0.0.1:{self._port}", *self._arguments,
            stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, cwd=self.state.parent,
            env=clean_environment() | {"HEYGEM_API_SECRET": SECRET},
        )  # fmt: skip
        assert self._process.stdout is not None
        async with asyncio.timeout(100):
            self.url = (await self._process.stdout.readline()).decode().split()[-1]

    async def kill(self) -> None:
        """kill -9."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def again(self) -> None:
        """kill -9, and a new start on the same port."""
        await self.kill()
        await self.start()


@asynccontextmanager
async def worker_process(
    state: Path, *arguments: str, python: str | Path = sys.executable
) -> AsyncIterator[WorkerProcess]:
    """It runs when the block begins, and is killed at its end."""
    worker = WorkerProcess(state, *arguments, python=python)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.kill()
