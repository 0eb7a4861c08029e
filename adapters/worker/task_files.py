"""Tasks as workers kept them before they had a journal, one JSON file each: taken over once, then set aside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import orjson
from loguru import logger

from wakestream.operators.model.events import FileRef
from wakestream.operators.model.ports import Journal
from wakestream.streams.worker.worker import Changed, Kept, Status, Task

_KINDS: Mapping[str, type | UnionType] = {
    "id": str,
    "created_at": int | float,
    "attempt": int,
    "started_at": int | float | None,
    "finished_at": int | float | None,
    "size": int,
    "digest": str | None,
    "error": str | None,
}


async def import_task_files(folder: Path, journal: Journal[Kept]) -> None:
    """Put the tasks of `folder` into the journal, unless it knows them, and rename the folder. `OSError`.

    Cut off in the middle, it is done again by the next start: nothing else was put into the journal meanwhile.
    """
    if not folder.is_dir():
        return
    known = {fact.task.id for fact in journal.read() if isinstance(fact, Changed)}
    found = await asyncio.to_thread(load, folder)
    await journal.append([Changed(task) for task in found if task.id not in known])
    folder.replace(_unused(folder))
    logger.info("{} tasks of an earlier version were taken over from {}", len(found), folder.name)


def _unused(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}.imported{number or ''}") for number in range(1000))
    return next(path for path in names if not path.exists())


def load(folder: Path) -> list[Task]:
    """All tasks; a file that cannot be read is reported, set aside and not among them."""
    return [task for path in sorted(folder.glob("*.json")) if (task := _read(path))]


def _read(path: Path) -> Task | None:
    try:
        task = _task(orjson.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("task file {} cannot be read and is set aside: {}", path.name, error)
        path.replace(path.with_suffix(".broken"))
        return None
    return task if task.id == path.stem else None


def _task(plain: dict[str, Any]) -> Task:
    plain |= {name: FileRef(**plain[name]) for name in ("video", "audio")}
    task = Task(**{**plain, "holders": frozenset(plain["holders"])})
    for word, kinds in _KINDS.items():
        if not isinstance(getattr(task, word), kinds):
            raise TypeError(f"{word} is of the wrong kind")
    texts = (task.video.hash, task.video.ext, task.audio.hash, task.audio.ext, *task.holders)
    if task.status not in get_args(Status) or not all(isinstance(text, str) for text in texts):
        raise ValueError("its status, files or holders make no sense")
    return task
