"""Download the result."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops

from wakestream.operators.model.events import Done, Downloading, JobEvent, Rendered, ResultFile
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Worker, Workers
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.sources import concat, of
from wakestream.operators.rx.timeout_idle import timeout_idle


def download(
    outputs: Mapping[str, Path], workers: Workers, policy: Policy, random: Random
) -> Callable[[Rendered], Observable[JobEvent]]:
    """The stage from `Rendered` to `Done`: each file appears when it is complete and verified, never before.

    The count of retries starts at 0 again when an attempt gets further than all before it.

    Example:
        >>> rendered.pipe(then(download(job.output, world.workers, policy, world.random)))

    Args:
        outputs: The files to write, by name; the first is the main one.
        workers: The workers.
        policy: `transfer` limits the time without a byte, `call` says how the download is retried.
        random: The source of jitter.

    Returns:
        The stage. It may raise `Stalled`, `Corrupt`, `NoSpace`, `FileUnusable`, `WorkerUnreachable`, `WorkerRefused`.
    """

    def stage(rendered: Rendered, _: object) -> Observable[JobEvent]:
        worker = workers.at(rendered.task.worker.url)
        if len(outputs) == 1:
            return fetch(worker, rendered, next(iter(outputs.values())))
        return _all_of(outputs, lambda name, path: fetch(worker, rendered, path, name))

    def fetch(worker: Worker, rendered: Rendered, path: Path, name: str | None = None) -> Observable[JobEvent]:
        def attempt() -> AsyncIterator[Downloading | Done]:
            return worker.download(rendered.task.task_id, path, name)

        fetched: Observable[JobEvent] = from_async(attempt, "download")
        again = replace(policy.call, reset_on_success=_gets_further())
        safe = fetched.pipe(timeout_idle(policy.transfer, "transfer"), retry_backoff(again, random))
        return safe.take_while(lambda event: not isinstance(event, Done), inclusive=True)

    return lambda rendered: rx.defer(partial(stage, rendered))  # each subscription counts from 0


def _all_of(outputs: Mapping[str, Path], fetch: Callable[[str, Path], Observable[JobEvent]]) -> Observable[JobEvent]:
    """One file after the other; one `Done` at the end, with all of them."""
    complete: list[ResultFile] = []

    def of_one(name: str, event: JobEvent) -> Observable[JobEvent]:
        if isinstance(event, Downloading):
            before = sum(file.size for file in complete)
            return of(Downloading(before + event.bytes, None if event.of is None else before + event.of, name))
        if not isinstance(event, Done):
            return of(event)
        complete.append(ResultFile(name, event.path, event.size))
        return of(Done(complete[0].path, complete[0].size, tuple(complete))) if len(complete) == len(outputs) else of()

    def one(name: str, path: Path, _: object) -> Observable[JobEvent]:
        return fetch(name, path).pipe(ops.flat_map(partial(of_one, name)))

    return concat(*(rx.defer(partial(one, name, path)) for name, path in outputs.items()))


def _gets_further() -> Callable[[JobEvent], bool]:
    """A predicate: more bytes have come than ever before."""
    most = 0

    def further(event: JobEvent) -> bool:
        nonlocal most
        received = event.bytes if isinstance(event, Downloading) else 0
        more, most = received > most, max(received, most)
        return more

    return further
