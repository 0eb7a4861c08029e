"""What two fronts carry against one hub: the CPU time of the busiest process, for idle connections and for broadcasts.

Idle connections are counted by their pings, which deployed peers send every 25 s: here they come one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hub
import hub_load
from timing import row

from wakestream.adapters.hub.front import FrontConfig, open_front
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.runtime.gc_tuning import SERVER, few_collections
from wakestream.adapters.runtime.rlimits import connections_allowed
from wakestream.adapters.telemetry import logs

PEERS, PINGS, BROADCASTS, ROUNDS = 2000, 10, 20, 5
LEAST = 1.7
PING = b'{"type":"ping"}'


async def front(key: str, port: str) -> None:
    """A front as a process: say the port, serve until standard input ends."""
    logs.configure("ERROR")
    config = FrontConfig(f"ws://127.0.0.1:{port}/dsp", key, 20_000, Room.of(connections_allowed(20_000)))
    async with open_front(config) as running:
        await running.connected.wait()
        with few_collections(*SERVER):
            print(running.url.split(":")[2].removesuffix("/dsp"), flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def busy(pid: int) -> float:
    """CPU seconds of a process."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def rest(pids: Sequence[int]) -> None:
    """Return when the programs rest. Meanwhile no peer reads: peers are on other machines and take no time of these."""
    seen: list[float] = []
    while seen != (seen := [*map(busy, pids)]):
        time.sleep(0.01)


async def measured(fronts: int) -> tuple[float, float]:
    """CPU seconds of the busiest process: for the pings, and for the broadcasts."""
    async with contextlib.AsyncExitStack() as stack:
        place, port, pid = await stack.enter_async_context(hub.our_hub())
        ports, pids = [port], [pid]
        if fronts:
            key = LicenseBook(place.folder).issue("front", "", time.time())[1]
            await asyncio.sleep(1.5)  # until the hub has seen the new license
            started = [await stack.enter_async_context(hub.program(__file__, key, str(port))) for _ in range(fronts)]
            ports, pids = [at for at, _ in started], [pid, *(front for _, front in started)]
        teller = await hub_load.registered(port, hub_load.Lean(), place.monitor)
        peers = await hub.crowd(ports, PEERS, place.client)
        found = []
        for kind, times in ((b'"pong"', PINGS), (b'"gpu.power.booted"', BROADCASTS)):
            for turn in range(times + 1):
                hub.Counting.expect(kind, len(peers))
                if turn == 1:  # the first one warms up, and tells that all before is done
                    before = [*map(busy, pids)]
                if kind == b'"pong"':
                    for peer in peers:
                        peer.send(PING)
                else:
                    teller.send(hub.BOOTED)
                rest(pids)
                async with asyncio.timeout(hub_load.WITHIN):
                    await hub.Counting.over
            found.append(max(busy(pid) - start for pid, start in zip(pids, before, strict=True)))
        for each in (*peers, teller):
            each.close()
        return found[0], found[1]


def worst(one: Sequence[float], two: Sequence[float]) -> tuple[float, float]:
    """The round in which the fronts did worst."""
    return min(zip(one, two, strict=True), key=lambda pair: pair[0] / pair[1])


async def main() -> bool:
    """Print the rows; True if every budget holds."""
    hub.BUILD.mkdir(exist_ok=True)
    if not Path("/proc/self/schedstat").exists() or connections_allowed(PEERS + 200) < PEERS + 200:
        print("fronts: left out, this system does not tell CPU times, or allows too few open files")
        return True
    found = [(await measured(0), await measured(2)) for _ in range(ROUNDS)]
    load = f"load {os.getloadavg()[0]:.0f}"
    print(f"fronts: two, against one hub, {PEERS} connections; CPU of the busiest process; {load}")
    held = []
    for number, (what, count) in enumerate((("idle connections", PINGS), ("broadcasts", BROADCASTS))):
        one, two = worst([a[number] for a, _ in found], [b[number] for _, b in found])
        each = PEERS * count / 1e6
        print(f"        {what}: hub {one / each:.1f} us each, two fronts {two / each:.1f} us")
        held.append(row(f"{what} of two fronts to one hub's, worst of {ROUNDS}", one, two, LEAST, at_most=False))
    return all(held)


if __name__ == "__main__":
    asyncio.run(front(*sys.argv[1:]))
