"""What a standby costs: durable submits of a hub whose journal is in PostgreSQL, in turns with one on SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import hub
import job_queues
from timing import row

LEAST = 0.6
"""Submits per second, as a part of those with SQLite."""


async def measured(address: str) -> Sequence[tuple[float, float]]:
    """Rate and median seconds: SQLite with 100 in flight, PostgreSQL, and both with one at a time."""
    rounds: list[list[tuple[float, float]]] = [[], [], [], []]
    for number in range(hub.ROUNDS):
        for turn, (flight, count) in enumerate(((100, hub.JOBS), (1, hub.JOBS // 8))):
            name = address.rpartition("/")[0] + f"/round{number}{turn}"
            rounds[2 * turn].append(await hub.ours(flight, count))
            rounds[2 * turn + 1].append(await hub.ours(flight, count, name))
    return [hub.medians(found) for found in rounds]


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
        (lite, _), (rate, _), (_, lite_p50), (_, p50) = asyncio.run(measured(address))
    print("standby: durable submit to ack, the journal in PostgreSQL")
    print(f"        100 in flight: {rate:,.0f}/s, SQLite {lite:,.0f}/s")
    print(f"        one at a time: p50 {p50 * 1e3:.2f} ms, SQLite {lite_p50 * 1e3:.2f} ms")
    return row("submits per second, to SQLite's", rate, lite, LEAST, at_most=False)


def databases(address: str) -> None:
    """One for each round."""
    from wakestream.adapters.disk.postgres import connect

    session = connect(address, 100.0)
    for number in range(hub.ROUNDS):
        for turn in range(2):
            session.execute(f"CREATE DATABASE round{number}{turn}")
    session.close()


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
