"""Download the result."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops

from wakestream.operators.model.events import Done, Downloading, JobEvent, Rendered, ResultFile
from wakestream.operators.model.ports import Workers
from wakestream.operators.rx.each import Effect, Operator
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.sources import concat, of


def download(outputs: Mapping[str, Path], workers: Workers) -> Effect[JobEvent]:
    """The stage from `Rendered` to `Done`: each file appears when it is complete and verified, never before.

    A call fetches one file.

    Example:
        >>> each(download(job.outputs, world.workers), retry_backoff(policy.call, world.random, bytes_received))

    Args:
        outputs: The files to write, by name; the first is the main one.
        workers: The workers.

    Returns:
        The stage, for `each`. Its calls may raise `Corrupt`, `NoSpace`, `FileUnusable`, `WorkerUnreachable`,
        `WorkerRefused`.
    """

    def stage(rendered: Rendered, around: Operator, _: object) -> Observable[JobEvent]:
        worker = workers.at(rendered.task.worker.url)

        def fetch(path: Path, name: str | None = None) -> Observable[JobEvent]:
            def attempt() -> AsyncIterator[Downloading | Done]:
                return worker.download(rendered.task.task_id, path, name)

            return around(from_async(attempt, "download")).take_while(_is_incomplete, inclusive=True)

        if len(outputs) == 1:
            return fetch(next(iter(outputs.values())))
        return _all_of(outputs, lambda name, path: fetch(path, name))

    # Each subscription counts from 0.
    return lambda rendered, around: rx.defer(partial(stage, rendered, around))


def bytes_received(event: JobEvent) -> int:
    """How much of a file has come, as the calls of this stage say it."""
    return event.bytes if isinstance(event, Downloading) else 0


def _is_incomplete(event: JobEvent) -> bool:
    return not isinstance(event, Done)


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
