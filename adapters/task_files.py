"""The worker's tasks on the disk, one small JSON file each, replaced as a whole: a restart finds what was promised."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import orjson
from loguru import logger

from wakestream.adapters.store import sync_folder
from wakestream.operators.events import FileRef
from wakestream.streams.worker import Status, Task

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


class TaskFiles:
    """The folder of tasks. Its methods block, for a write and a sync: call them in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save_all(self, tasks: Iterable[Task]) -> None:
        """Returns when the tasks are on the disk. `OSError` when they cannot be."""
        for task in tasks:
            self._save(task)
        sync_folder(self._folder)

    def _save(self, task: Task) -> None:
        path = self._path(task.id)
        partial = path.with_suffix(".part")
        with partial.open("wb") as file:
            file.write(orjson.dumps(_plain(task), option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def erase(self, task_id: str) -> None:
        """Forget the task."""
        self._path(task_id).unlink(missing_ok=True)

    def load(self) -> list[Task]:
        """All tasks; a file that cannot be read is reported, set aside and not among them."""
        return [task for path in sorted(self._folder.glob("*.json")) if (task := _read(path))]

    def _path(self, task_id: str) -> Path:
        return self._folder / f"{task_id}.json"


def _plain(task: Task) -> Mapping[str, Any]:
    # How far it came is not kept: after a restart it starts anew.
    plain = {name: value for name, value in asdict(task).items() if name != "progress"}
    return {**plain, "holders": sorted(task.holders)}


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
