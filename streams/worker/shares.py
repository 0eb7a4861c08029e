"""How many tasks each license may have at one worker, and the order of the licenses. Pure.

All callers with the worker's secret count as one license. A task counts for each license that holds it, so that no
license waits longer, or loses a result sooner, because others hold the same task.
"""

from __future__ import annotations

from collections import Counter

from wakestream.operators.model.errors import WorkerRefused
from wakestream.streams.worker.state import QueueState, Task

MAX_UNFINISHED = 1000
"""Tasks of a license that may wait or run; one more is refused."""

MAX_UNFINISHED_IN_ALL = 10_000
"""Such tasks of all licenses together."""

MAX_FINISHED = 1000
"""Results of a license that are remembered, and as many tasks that ended without one; the longest unused goes first."""

MAX_FRESH = 10_000
"""Results of a license that were used within `PROMISED`; with so many no other task is taken."""

MAX_HOLDERS = 1000
"""Jobs of a license that may hold one task."""

PROMISED = 3600.0
"""Seconds after its last use in which nothing is removed: a client that knows of it may rely on it."""


def position(state: QueueState, task_id: str) -> int:
    """Place in the line: 1 starts next, 0 is running or finished."""
    return turns(state).get(task_id, 0)


def turns(state: QueueState) -> dict[str, int]:
    """The places of all tasks that wait. The licenses take turns; the one that was served longest ago comes first."""
    if state.turns is None:
        counts: Counter[str] = Counter()
        keys: dict[str, tuple[int, int, int]] = {}
        served = {license_: place for place, license_ in enumerate(state.served)}
        for arrival, name in enumerate(state.line):
            mine = state.tasks[name].licenses()
            keys[name] = min((counts[license_], served.get(license_, -1), arrival) for license_ in mine)
            if name not in state.short and name not in state.busy:  # what cannot begin takes no turn
                counts.update(mine)
        state.turns = {name: place for place, name in enumerate(sorted(keys, key=keys.__getitem__), 1)}
    return state.turns


def admit(state: QueueState, license_: str, now: float) -> None:
    """Raises `WorkerRefused` (`queue_full`) when the license, or the worker, has as many tasks as allowed."""
    unfinished = [task for task in state.tasks.values() if task.unfinished]
    mine = sum(license_ in task.licenses() for task in unfinished)
    if mine >= MAX_UNFINISHED or len(unfinished) >= MAX_UNFINISHED_IN_ALL:
        most = min(MAX_UNFINISHED, MAX_UNFINISHED_IN_ALL)
        raise WorkerRefused(f"the queue is full ({most} tasks): try again later", code="queue_full")
    fresh = [task for task in state.tasks.values() if license_ in task.licenses() and _fresh(state, task, now)]
    if len(fresh) >= MAX_FRESH:
        why = f"{MAX_FRESH} results of the last hour are kept for this license: try again later"
        raise WorkerRefused(why, code="queue_full")


def surplus(state: QueueState, now: float) -> list[Task]:
    """The ended tasks that are no longer remembered. What was used within the hour stays."""
    ended = [task for task in state.tasks.values() if not task.unfinished]
    done = [task for task in ended if task.status == "done"]
    few = len(done) <= MAX_FINISHED or all(_fresh(state, task, now) for task in done)
    if few and len(ended) - len(done) <= MAX_FINISHED:
        return []  # this is asked after each event, and the rest takes long with thousands of tasks
    counts: Counter[tuple[str, bool]] = Counter()
    gone = []
    for task in sorted(ended, key=lambda task: last_use(state, task), reverse=True):
        # A cancelled task has no holder: such tasks are one group, and have no result to lose.
        groups = [(license_, task.status == "done") for license_ in task.licenses() or ("cancelled",)]
        if _fresh(state, task, now) or any(counts[group] < MAX_FINISHED for group in groups):
            counts.update(groups)
        else:
            gone.append(task)
    return gone[::-1]


def last_use(state: QueueState, task: Task) -> float:
    """When an ended task or its result was last asked for (Unix seconds)."""
    return max(state.used.get(task.id, 0.0), task.last_known)


def _fresh(state: QueueState, task: Task, now: float) -> bool:
    return task.status == "done" and now - last_use(state, task) < PROMISED
