"""Ask the worker about a task until it is rendered."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable

from wakestream.operators.model.errors import EngineUnreachable, TaskFailed, TaskLost
from wakestream.operators.model.events import JobEvent, Rendered, Running, Submitted
from wakestream.operators.model.ports import TaskReport, Workers
from wakestream.operators.rx.each import Effect, Operator
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.sources import of
from wakestream.operators.rx.then import then

FINISHED = frozenset({"done", "error", "cancelled"})
"""The wire's statuses of a task that is over."""


def follow(workers: Workers) -> Effect[JobEvent]:
    """The stage from `Submitted` to `Rendered`: emits `Running` when the worker's report changes. A call is one report.

    Example:
        >>> each(follow(world.workers), poll(2.0, until=is_finished), timeout(3600.0, "execution", reset=place))

    Args:
        workers: The workers.

    Returns:
        The stage, for `each`. It may raise `TaskFailed` with the engine's message, `TaskLost`, and `EngineUnreachable`
        while the worker begins no tasks; its calls may raise `TaskLost`.
    """

    def stage(task: Submitted, around: Operator) -> Observable[JobEvent]:
        ready: Observable[JobEvent] = of(Rendered(task))
        if task.cached:
            return ready
        worker = workers.at(task.worker.url)
        reports = around(from_async(lambda: worker.report(task.task_id), "report"))
        running: Observable[JobEvent] = reports.map(_running)
        return running.distinct_until_changed().pipe(then(lambda _: ready))

    return stage


def is_finished(report: TaskReport) -> bool:
    """Whether the task is over."""
    return report.status in FINISHED


PROMPT = 0.05
"""Seconds between two reports of a worker that answers when something has changed."""


def pause(every: float) -> Callable[[TaskReport], float]:
    """The seconds until the next report: `every`, or at most `PROMPT` where the worker answers when it has news.

    Example:
        >>> pause(2.0)(TaskReport("queued", live=True))
        0.05

    Args:
        every: Seconds for a worker that answers at once.

    Returns:
        A function for `poll`.
    """
    return lambda report: min(every, PROMPT) if report.live else every


def place(report: TaskReport) -> object:
    """0 while the task runs, and always another object while it waits: at the worker, or in its engine's own queue.

    As the `reset` of a limit, so that no wait counts: it ends when the tasks in front do.
    """
    return object() if report.status == "queued" or report.position else 0


def _running(report: TaskReport) -> JobEvent:
    if report.status == "cancelled":  # not by this job: the hub gave it up while its client was away
        raise TaskLost("the worker stopped this job's task, because no client asked for it; it is submitted again")
    if report.waits:  # the hub holds the job until the worker begins tasks, and knows other GPUs
        raise EngineUnreachable(f"{report.waits}; the job waits at the hub")
    if report.status == "error":
        raise TaskFailed(report.error or report.message or f"the worker says {report.status} and no more")
    waits = report.status == "queued" and report.position == 0  # not behind other tasks
    why = (report.message.partition(": ")[2] or report.message)[:300] if waits else ""
    return Running(report.percent, report.status, report.frame, report.frames, report.position, why)
