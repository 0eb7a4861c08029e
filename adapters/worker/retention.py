"""Remove uploads and results that are not needed, were not used lately, or have no room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from loguru import logger

from wakestream.adapters.worker.config import Retention
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.task_queue import TaskQueue
from wakestream.streams.worker.shares import PROMISED

LOOK_EVERY = 60.0


async def tidy_regularly(store: FileStore, queue: TaskQueue, retention: Retention, clock: Callable[[], float]) -> None:
    """Remove files once a minute."""
    while True:
        try:
            await tidy(store, queue, retention, clock())
        except OSError as error:
            logger.warning("old files in the state folder could not be removed: {}", error)
        await asyncio.sleep(LOOK_EVERY)


async def tidy(store: FileStore, queue: TaskQueue, retention: Retention, now: float) -> int:
    """Remove files, the longest unused first; returns how many. `now` is in Unix seconds."""
    found = await store.in_thread(store.stored)
    gone = 0
    for one in sorted(found, key=lambda one: one.used):
        age = now - one.used
        if age < PROMISED or (age < retention.age and await store.in_thread(store.free) >= retention.spare):
            break
        if one.path not in _needed(store, queue) and await store.remove(one):
            logger.info("{} was not used for {:.0f} h and was removed", one.path.name, age / 3600)
            gone += 1
    return gone


async def make_room(store: FileStore, queue: TaskQueue, retention: Retention, wanted: int, now: float) -> None:
    """Remove the longest unused files until `wanted` bytes are free, if that is possible."""
    if await store.in_thread(store.free) + await removable(store, queue, now) >= wanted:
        await tidy(store, queue, replace(retention, spare=wanted), now)


async def removable(store: FileStore, queue: TaskQueue, now: float) -> int:
    """Bytes of the files that may be removed."""
    found, needed = await store.in_thread(store.stored), _needed(store, queue)
    return sum(one.size for one in found if now - one.used >= PROMISED and one.path not in needed)


def _needed(store: FileStore, queue: TaskQueue) -> frozenset[Path]:
    unfinished = [task for task in queue.state.tasks.values() if task.unfinished]
    return frozenset(store.path(ref) for task in unfinished for ref in task.files)
