"""Download the result."""

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
    """The stage from `Rendered` to `Done`: `output` appears when it is complete and verified, never before.

    The count of retries starts at 0 again when an attempt gets further than all before it.

    Example:
        >>> rendered.pipe(then(download(job.output, world.workers, policy, world.random)))

    Args:
        output: The file to write.
        workers: The workers.
        policy: `transfer` limits the time without a byte, `call` says how the download is retried.
        random: The source of jitter.

    Returns:
        The stage. It may raise `Stalled`, `Corrupt`, `NoSpace`, `FileUnusable`, `WorkerUnreachable`, `WorkerRefused`.
    """

    def stage(rendered: Rendered) -> Observable[JobEvent]:
        worker = workers.at(rendered.task.worker.url)
        fetched: Observable[JobEvent] = from_async(lambda: worker.download(rendered.task.task_id, output), "download")
        again = replace(policy.call, reset_on_success=_gets_further())
        safe = fetched.pipe(timeout_idle(policy.transfer, "transfer"), retry_backoff(again, random))
        return safe.take_while(lambda event: not isinstance(event, Done), inclusive=True)

    return stage


def _gets_further() -> Callable[[JobEvent], bool]:
    """A predicate: more bytes have come than ever before."""
    most = 0

    def further(event: JobEvent) -> bool:
        nonlocal most
        received = event.bytes if isinstance(event, Downloading) else 0
        more, most = received > most, max(received, most)
        return more

    return further
