"""How long `wakestream submit --each` takes for a thousand rows: reading, checking, and the daemon's journal."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL
from pathlib import Path

import orjson
from loguru import logger
from many_jobs import HUB, waiting_daemon
from timing import row

from wakestream.operators.model.engine import Kind, Slot
from wakestream.streams.protocol.known_kinds import GpuOfKind, KnownKind, KnownKinds

ROWS = 1000
WITHIN = 10.0
"""Seconds for all rows. Command and daemon work in turns, so that their processor time is that of a quiet machine."""

KIND = Kind(
    "upscale",
    (Slot("image", ("image",)),),
    (Slot("image", (".png",)),),
    {"properties": {"scale": {"type": "integer", "minimum": 1}}},
)


def fill(folder: Path) -> None:
    """The files of the rows, the table, and what the daemon knows of the kind."""
    kinds = KnownKinds((KnownKind(KIND, (GpuOfKind("gpu", online=False),)),), known=True)
    (folder / "state").mkdir()
    (folder / "state" / "kinds.json").write_bytes(orjson.dumps({"v": 1, "hub": HUB, **kinds.plain()}))
    lines = ["image,scale,name"]
    for number in range(ROWS):
        (folder / f"{number}.png").write_bytes(b"%d" % number)
        lines.append(f"{number}.png,2,{number}")
    (folder / "rows.csv").write_text("\n".join(lines), encoding="utf-8")


async def submit(folder: Path) -> float:
    """Seconds of processors for the command and the daemon; `AssertionError` if it fails."""
    command = "submit --kind upscale --each rows.csv --out image=out/{name}.png --yes --detach --quiet --no-probe"
    surroundings = {"WAKESTREAM_DAEMON": str(folder / "state"), "WAKESTREAM_CONFIG": str(folder)}
    began, used = time.perf_counter(), processor()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wakestream.adapters.cli", *command.split()),
        cwd=folder,
        env=os.environ | surroundings,
        stdout=DEVNULL,
    )
    code = await process.wait()
    assert code == 0, code
    print(f"        {time.perf_counter() - began:.1f} s, of which a processor worked {processor() - used:.1f} s")
    return processor() - used


def processor() -> float:
    """Seconds that processors have worked for this program and those that it started."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


async def main() -> bool:
    """Print the rows; True if the budget holds."""
    print(f"a batch of {ROWS} rows")
    logger.remove()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        fill(folder)
        async with waiting_daemon(folder / "state") as daemon:
            taken = await submit(folder)
            assert len(daemon.outbox.state.queue) == ROWS
            await submit(folder)
    return row(f"{WITHIN:.0f} s: {ROWS} rows submitted", taken, WITHIN, 1.0)
