"""Bring the result home."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

from reactivex import Observable

from wakestream.operators.model.events import Done, Downloading, JobEvent, Rendered
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Workers
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.timeout_idle import timeout_idle


def download(
    output: Path, workers: Workers, policy: Policy, random: Random
) -> Callable[[Rendered], Observable[JobEvent]]:
    """From `Rendered` to `Done`: `output` appears when it is whole and verified, never before.

    Attempts are counted anew with every byte that is farther than any before.
    Raises `Stalled`, `Corrupt`, `NoSpace`, `FileUnusable`, `WorkerUnreachable`, `WorkerRefused`.
    """

    def stage(rendered: Rendered) -> Observable[JobEvent]:
        worker = workers.at(rendered.task.worker.url)
        fetched: Observable[JobEvent] = from_async(lambda: worker.download(rendered.task.task_id, output), "download")
        again = replace(policy.call, reset_on_success=_farther())
        safe = fetched.pipe(timeout_idle(policy.transfer, "transfer"), retry_backoff(again, random))
        return safe.take_while(lambda event: not isinstance(event, Done), inclusive=True)

    return stage


def _farther() -> Callable[[JobEvent], bool]:
    """Whether there was never so much of it here."""
    most = 0

    def farther(event: JobEvent) -> bool:
        nonlocal most
        bytes_here = event.bytes if isinstance(event, Downloading) else 0
        beyond, most = bytes_here > most, max(bytes_here, most)
        return beyond

    return farther
