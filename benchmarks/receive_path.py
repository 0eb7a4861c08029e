"""From socket to delivered, typed message: our link, hub client and switchboard against a bare loop of the same parts.

The yardstick is `websockets` + `orjson.loads` + a dict of callbacks. The sender is a process of its own; what is
measured is the processor time of the receiver.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
from hub import program
from timing import row
from websockets.asyncio.client import connect
from websockets.asyncio.connection import broadcast
from websockets.asyncio.server import ServerConnection, serve

from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.telemetry import logs
from wakestream.operators.model.events import Job
from wakestream.operators.model.ports import Accepted
from wakestream.streams.jobs.hub_client import HubClient
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

MESSAGES = 20_000
ROUNDS = 5


async def send(socket: ServerConnection) -> None:
    """Registers every client and sends acks for its jobs in turn; the key has the number of jobs."""
    asked = orjson.loads(await socket.recv())
    jobs = int(asked["key"])
    await socket.send(wire.encode(m.Registered()))
    for n in range(MESSAGES):
        ack = m.Ack(request_id=f"job-{n % jobs}", task_type="heygem_submit", gpu="a", url="u")
        broadcast((socket,), wire.encode(ack))
        if n % 100 == 0:
            await socket.ping()
    await socket.wait_closed()


async def sender() -> None:
    """The other process: says its port, serves until its standard input ends."""
    async with serve(send, "127.0.0.1", 0, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def bare(url: str, jobs: int) -> float:
    """Processor seconds for all messages through the yardstick."""
    count = 0

    def take(frame: object) -> None:
        nonlocal count
        count += 1

    table = {f"job-{n}": take for n in range(jobs)}
    async with connect(url, compression=None) as socket:
        await socket.send(wire.encode(m.Register(key=str(jobs))))
        await socket.recv()
        start = time.process_time()
        while count < MESSAGES:
            frame = orjson.loads(await socket.recv())
            table[frame["request_id"]](frame)
        return time.process_time() - start


async def ours(url: str, jobs: int) -> float:
    """Seconds for all messages through the daemon's path, with so many jobs waiting."""
    count, start = 0, 0.0
    over = asyncio.Event()

    def take(reply: object) -> None:
        nonlocal count, start
        if not isinstance(reply, Accepted):
            return
        start = start or time.process_time()
        count += 1
        if count == MESSAGES:
            over.set()

    link = Link(url, lambda: m.Register(key=str(jobs)))
    hub = HubClient(link.send, lambda error, item: None)
    path = Path("x")
    for n in range(jobs):
        hub.replies(Job.lipsync(f"job-{n}", path, path, path)).subscribe(take)
    link.events.subscribe(hub.feed)
    await over.wait()
    seconds = time.process_time() - start
    await link.close()
    return seconds


async def median(measure: Callable[[str, int], Awaitable[float]], url: str, jobs: int) -> float:
    """Median seconds per message."""
    return statistics.median([await measure(url, jobs) for _ in range(ROUNDS)]) / MESSAGES


async def main() -> bool:
    """Print the rows; True if every budget holds."""
    logs.configure("ERROR")
    async with program(__file__) as (port, _):
        url = f"ws://127.0.0.1:{port}"
        yardstick, few, many = (
            await median(bare, url, 100),
            await median(ours, url, 100),
            await median(ours, url, 10_000),
        )
    print("receive path, socket to delivered message")
    print(f"        bare loop {yardstick * 1e6:.1f} us, ours {few * 1e6:.1f} us, with 10,000 jobs {many * 1e6:.1f} us")
    fast = row("of the bare loop's rate", yardstick / few, 1.0, 0.6, at_most=False)
    return row("one of 10,000 jobs, against one of 100", many, few, 3.0) and fast


if __name__ == "__main__":
    asyncio.run(sender())
