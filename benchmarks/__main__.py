"""Every benchmark, or those that are named, with its yardstick, measured in the same run.

Ends with 1 if a budget does not hold.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module

NAMES = (
    "startup", "switchboard", "waiting_job", "own_operators", "receive_path", "replay", "placement", "waiting_hub",
    "online_to_first_byte", "transfers", "many_files", "many_jobs", "batches", "several_gpus", "depot", "engines",
    "console", "programs", "hub", "fronts", "standby",
)  # fmt: skip


def holds(name: str) -> bool:
    """Run a benchmark; whether its budgets hold."""
    main = import_module(name).main
    return bool(asyncio.run(main()) if asyncio.iscoroutinefunction(main) else main())


if __name__ == "__main__":
    held = [*map(holds, sys.argv[1:] or NAMES)]  # all of them run, whatever the first ones say
    sys.exit(not all(held))
