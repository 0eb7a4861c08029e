"""Poll a task until it is rendered."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from reactivex import Observable

from wakestream.operators.model.errors import TaskFailed, TaskLost
from wakestream.operators.model.events import JobEvent, Rendered, Running, Submitted
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import TaskReport, Workers
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.poll import poll
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.sources import of
from wakestream.operators.rx.then import then
from wakestream.operators.rx.timeout_no_progress import timeout_no_progress

FINISHED = frozenset({"done", "error", "cancelled"})
"""The wire's statuses of a task that is over."""


def follow(workers: Workers, policy: Policy, random: Random) -> Callable[[Submitted], Observable[JobEvent]]:
    """The stage from `Submitted` to `Rendered`: polls the worker and emits `Running` whenever its report changes.

    Example:
        >>> task.pipe(then(follow(world.workers, policy, world.random)))

    Args:
        workers: The workers.
        policy: `poll_every` is the pause between two polls; `execution` limits the work, and before it the time at
            each place of the worker's queue; `call` says how a poll is retried.
        random: The source of jitter.

    Returns:
        The stage. It may raise `TaskFailed` with the engine's message, `TaskLost`, `StageTimeout` (`execution`).
    """

    def stage(task: Submitted) -> Observable[JobEvent]:
        ready: Observable[JobEvent] = of(Rendered(task))
        if task.cached:
            return ready
        worker = workers.at(task.worker.url)

        def ask() -> Observable[TaskReport]:
            return from_async(lambda: worker.report(task.task_id), "report").pipe(retry_backoff(policy.call, random))

        reports = poll(ask, policy.poll_every, lambda report: report.status in FINISHED)
        in_time = reports.pipe(timeout_no_progress(_place, policy.execution, "execution"))
        running: Observable[JobEvent] = in_time.map(_running)
        return running.distinct_until_changed().pipe(then(lambda _: ready))

    return stage


def _place(report: TaskReport) -> int:
    """The place in the worker's queue: 0 while the task runs, -1 if unknown."""
    return (report.position or -1) if report.status == "queued" else 0


def _running(report: TaskReport) -> JobEvent:
    if report.status == "cancelled":  # not by this job: the hub gave it up while its client was away
        raise TaskLost("the worker stopped this job's task, because no client asked for it; it is submitted again")
    if report.status == "error":
        raise TaskFailed(report.error or report.message or f"the worker says {report.status} and no more")
    return Running(report.percent, report.status, report.frame, report.frames, report.position)
