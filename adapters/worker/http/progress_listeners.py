"""Clients that gave their license when they submitted by HTTP: the hub informs them when their task begins and ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from wakestream.adapters.runtime.recent import Recent
from wakestream.adapters.worker.http import replies
from wakestream.streams.protocol import messages as m
from wakestream.streams.worker import state as w

_MAX_TASKS = 10_000
_MAX_LISTENERS = 1000
_MAX_KEY = 512
_TYPE = "gpu.task.progress"


class ProgressListeners:
    """License key and connection number of each client, by task. `clock` gives Unix seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._of: Recent[str, set[tuple[str, int]]] = Recent(_MAX_TASKS)

    def add(self, task_id: str, submit: Mapping[str, Any]) -> None:
        """Add the client of a submit, if its body has one."""
        key, fd = submit.get("license_key"), submit.get("sender_fd")
        if not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY:
            return
        listeners = self._of.setdefault(task_id, set())
        if len(listeners) < _MAX_LISTENERS:
            listeners.add((key, fd if type(fd) is int else 0))

    def frames(self, task: w.Task) -> Iterator[m.Unknown]:
        """The messages for the listeners of a task that has begun or ended; none while it waits."""
        if task.status == "queued":
            return
        listeners = self._of.get(task.id, set()) if task.unfinished else self._of.pop(task.id, set())
        report = replies.report(w.State(), task)
        told = ("task_id", "status", "progress", "message", "total_frames", "current_frame")
        values = {name: report[name] for name in told}
        if task.unfinished:
            values |= {"status": "processing", "progress": 0}
        for key, fd in sorted(listeners):
            frame = {"type": _TYPE, **values, "key": key, "sender_fd": fd, "ts": int(self._clock())}
            yield m.Unknown(type=_TYPE, frame=frame)
