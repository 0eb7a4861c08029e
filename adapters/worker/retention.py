"""What the worker keeps of its uploads and results: what is needed, what was used lately, what there is room for."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path

from loguru import logger

from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.task_queue import TaskQueue
from wakestream.streams.worker.worker import PROMISED

LOOK_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Retention:
    """`age`: seconds after its last use that a file goes. `spare`: free bytes on the disk below which the oldest go."""

    age: float = 7 * 24 * 3600.0
    spare: int = 2 * 1024**3


async def tidy_up(store: FileStore, queue: TaskQueue, retention: Retention) -> None:
    """Once a minute, for ever."""
    while True:
        try:
            await tidy(store, queue, retention, time.time())
        except OSError as error:
            logger.warning("the state folder could not be tidied: {}", error)
        await asyncio.sleep(LOOK_EVERY)


async def tidy(store: FileStore, queue: TaskQueue, retention: Retention, now: float) -> int:
    """Remove what goes, the longest unused first; returns how many files went. `now` is in Unix seconds."""
    found = await store.in_thread(store.stored)
    gone = 0
    for one in sorted(found, key=lambda one: one.used):
        age = now - one.used
        if age < PROMISED or (age < retention.age and await store.in_thread(store.free) >= retention.spare):
            break
        if one.path not in _needed(store, queue) and await store.remove(one):
            logger.info("{} was not used for {:.0f} h and is removed", one.path.name, age / 3600)
            gone += 1
    return gone


async def make_room(store: FileStore, queue: TaskQueue, retention: Retention, wanted: int, now: float) -> None:
    """Remove the longest unused until `wanted` bytes are free; nothing where all that may go would not be enough."""
    if await store.in_thread(store.free) + await removable(store, queue, now) >= wanted:
        await tidy(store, queue, replace(retention, spare=wanted), now)


async def removable(store: FileStore, queue: TaskQueue, now: float) -> int:
    """Bytes of what may be removed."""
    found, needed = await store.in_thread(store.stored), _needed(store, queue)
    return sum(one.size for one in found if now - one.used >= PROMISED and one.path not in needed)


def _needed(store: FileStore, queue: TaskQueue) -> frozenset[Path]:
    unfinished = [task for task in queue.state.tasks.values() if task.unfinished]
    return frozenset(store.path(ref) for task in unfinished for ref in (task.video, task.audio))
