"""Every benchmark with its yardstick, measured in the same run: `make bench`. Ends with 1 if a budget does not hold."""

from __future__ import annotations

import asyncio
import sys

import batches
import console
import depot
import engines
import fronts
import hub
import many_files
import many_jobs
import online_to_first_byte
import own_operators
import placement
import programs
import receive_path
import replay
import several_gpus
import standby
import startup
import switchboard
import transfers
import waiting_hub
import waiting_job

if __name__ == "__main__":
    held = [
        startup.main(),
        switchboard.main(),
        asyncio.run(waiting_job.main()),
        asyncio.run(own_operators.main()),
        asyncio.run(receive_path.main()),
        replay.main(),
        placement.main(),
        waiting_hub.main(),
        asyncio.run(online_to_first_byte.main()),
        transfers.main(),
        asyncio.run(many_files.main()),
        asyncio.run(many_jobs.main()),
        asyncio.run(batches.main()),
        asyncio.run(several_gpus.main()),
        asyncio.run(depot.main()),
        asyncio.run(engines.main()),
        asyncio.run(console.main()),
        asyncio.run(programs.main()),
        asyncio.run(hub.main()),
        asyncio.run(fronts.main()),
        standby.main(),
    ]
    sys.exit(0 if all(held) else 1)
