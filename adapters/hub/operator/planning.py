"""What other settings would have cost, computed in a process of its own: it takes a minute, in which a thread of the
hub would hold up all its calls.
"""

from __future__ import annotations

import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from wakestream.adapters.runtime import child_processes
from wakestream.streams.hub.keep_warm import kept_in
from wakestream.streams.placement.plan import MOST_JOBS, as_now, is_enough, plan, recorded


def plan_of(gpus: Iterable[Mapping[str, Any]], history: Mapping[str, Any]) -> dict[str, Any]:
    """What other settings would have cost; nothing is simulated if there are too few jobs to recommend one."""
    jobs = sorted(recorded(history), key=lambda job: job.at)
    now = as_now(gpus, history, kept_in(history))
    return plan(jobs, now).plain() if is_enough(jobs[-MOST_JOBS:]) else {"enough": False}


async def planned(gpus: Iterable[Mapping[str, Any]], history: Mapping[str, Any]) -> dict[str, Any]:
    """As `plan_of`; the process ends with this call. `OSError`, `ValueError`: it cannot be started, or has failed."""
    process = await child_processes.start((sys.executable, "-P", "-m", __name__), stdin=PIPE)
    try:
        said, failed = await process.communicate(orjson.dumps([[*gpus], history]))
        if process.returncode:
            raise ValueError(failed.decode(errors="replace"))
        told: dict[str, Any] = orjson.loads(said)
        return told
    finally:
        await child_processes.kill_and_wait(process)


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(plan_of(*orjson.loads(sys.stdin.buffer.read()))))
