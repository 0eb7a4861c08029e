"""What a standby costs: durable submits of a hub on PostgreSQL, which another hub follows, in turns with SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import hub
import hub_load
import job_queues
from fronts import busy
from timing import row

LEAST = 0.6
"""Submits per second, as a part of those with SQLite."""


@contextlib.asynccontextmanager
async def followed(address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A hub that stands by, until the block ends."""
    with tempfile.TemporaryDirectory(dir=hub.BUILD, ignore_cleanup_errors=True) as state:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "wakestream.adapters.cli", "hub", "--listen", "127.0.0.1:0", "--state", state,
            "--journal", address, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        while b"stands by" not in (line := await process.stderr.readline()):
            assert line, "the standby ended"
        reading = asyncio.create_task(process.stderr.read())
        try:
            yield process
        finally:
            process.kill()
            await process.wait()
            await reading


async def led(address: str, flight: int, count: int) -> tuple[float, float, float]:
    """Rate and median seconds of a leader, and the seconds of processor that its standby needs for 1,000 jobs."""
    async with hub.our_hub(address) as (place, port, _):
        worker = await hub.with_gpu(place, port)
        async with followed(address) as standby:
            await hub_load.submits(port, place.client, 500, flight, "warm", done=True)
            before = busy(standby.pid)
            rate, p50 = await hub_load.submits(port, place.client, count, flight, "job", done=False)
            cost = (busy(standby.pid) - before) * 1000 / count
        worker.close()
        return rate, p50, cost


async def measured(address: str) -> list[tuple[float, float, float, float, float]]:
    """Of each round: the rates of SQLite and PostgreSQL, the standby's cost, and p50 of both with one at a time."""
    rounds = []
    for number in range(hub.ROUNDS):
        lite, _ = await hub.ours(100, hub.JOBS)
        rate, _, cost = await led(f"{address.rpartition('/')[0]}/round{number}0", 100, hub.JOBS)
        _, lite_p50 = await hub.ours(1, hub.JOBS // 8)
        _, p50, _ = await led(f"{address.rpartition('/')[0]}/round{number}1", 1, hub.JOBS // 8)
        rounds.append((lite, rate, cost, lite_p50, p50))
    return rounds


def main() -> bool:
    """Print the figures; whether the budget holds. True where there is no PostgreSQL."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=hub.BUILD, ignore_cleanup_errors=True))
        try:
            found = stack.enter_context(job_queues.postgres(Path(folder)))
        except (RuntimeError, OSError) as error:
            print(f"standby: left out, {error}")
            return True
        words = dict(word.split("=") for word in found.split())
        address = f"postgresql://{words['user']}@{words['host']}:{words['port']}/postgres"
        databases(address)
        rounds = asyncio.run(measured(address))
    lite, rate, cost, lite_p50, p50 = (statistics.median(column) for column in zip(*rounds, strict=True))
    print("standby: durable submit to ack, the journal in PostgreSQL, and a second hub that follows")
    print(f"        100 in flight: {rate:,.0f}/s, SQLite without a standby {lite:,.0f}/s")
    print(f"        one at a time: p50 {p50 * 1e3:.2f} ms, SQLite {lite_p50 * 1e3:.2f} ms")
    print(f"        the standby needs {cost * 1e3:.0f} ms of processor for 1,000 jobs")
    print(f"        of SQLite's rate, by round: {', '.join(f'{one[1] / one[0]:.2f}' for one in rounds)}")
    worst = min(rounds, key=lambda one: one[1] / one[0])
    return row("submits per second, to SQLite's in the same round, the worst", worst[1], worst[0], LEAST, at_most=False)


def databases(address: str) -> None:
    """One for each round."""
    from wakestream.adapters.disk.postgres import connect

    session = connect(address, 100.0)
    for number in range(hub.ROUNDS):
        for turn in range(2):
            session.execute(f"CREATE DATABASE round{number}{turn}")
    session.close()
