"""The hub's real program in a process of its own, whose memory can be read."""

import asyncio
import resource
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from wakestream.adapters.hub.licenses import LicenseBook

PAGE = resource.getpagesize()


@dataclass(frozen=True, slots=True)
class Program:
    """Where it listens, and its process."""

    port: int
    pid: int
    key: str
    worker_key: str

    def memory(self) -> int:
        """Bytes that it has in memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE


@asynccontextmanager
async def hub_program(state: Path, *flags: str, under: Sequence[str] = ()) -> AsyncIterator[Program]:
    """Runs until the block ends; then it must end well, and must have logged nothing that is a fault.

    `under` is a command that starts it.
    """
    key, worker = (LicenseBook(state).issue(role, "", 0.0)[1] for role in ("client", "worker"))
    command = ("-m", "wakestream.adapters.cli", "hub", "--listen", "127.0.0.1:0", "--state", str(state), *flags)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *under, sys.executable, *command, "--exit-with-stdin", stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
        yield Program(int(line.rpartition(":")[2].partition("/")[0]), process.pid, key, worker)
    finally:
        process.stdin.close()
        _, log = await process.communicate()
    assert process.returncode == 0, log.decode()
    assert b"Traceback" not in log
    assert b"ERROR" not in log


def room_for(connections: int) -> bool:
    """Raise this process's limit of open files as far as it goes; whether that is enough for so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard > connections + 100
