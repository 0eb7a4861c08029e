"""Download the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops

from wakestream.operators.model.engine import LISTS, list_of
from wakestream.operators.model.errors import TaskFailed
from wakestream.operators.model.events import Done, Downloading, JobEvent, Rendered, ResultFile
from wakestream.operators.model.ports import Output, TaskReport, Workers
from wakestream.operators.rx.each import Effect, Operator
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.sources import concat, of


def download(outputs: Mapping[str, Path], workers: Workers) -> Effect[JobEvent]:
    """The stage from `Rendered` to `Done`: each file appears when it is complete and verified, never before.

    A call fetches one file. A worker that knows lists is asked first what was made: the further files of a list go
    beside its first one, and outputs that were not made are `absent` in `Done`.

    Example:
        >>> each(download(job.outputs, world.workers), retry_backoff(policy.call, world.random, bytes_received))

    Args:
        outputs: The files to write, by name; the first is the main one.
        workers: The workers.

    Returns:
        The stage, for `each`. It may raise `TaskFailed`: nothing was made that the job wants. Its calls may raise
        `Corrupt`, `NoSpace`, `FileUnusable`, `TaskLost`, `WorkerUnreachable`, `WorkerRefused`.
    """

    def stage(rendered: Rendered, around: Operator, _: object) -> Observable[JobEvent]:
        task, worker = rendered.task, workers.at(rendered.task.worker.url)

        def get(path: Path, name: str | None, made: Output | None) -> Observable[JobEvent]:
            more = () if made is None else (made,)  # a worker of the user's own may know no lists
            return around(from_async(partial(worker.download, task.task_id, path, name, *more), "download"))

        results = Results(outputs, get)
        if LISTS in task.worker.features:
            return around(from_async(lambda: worker.report(task.task_id), "report")).pipe(ops.flat_map(results.made))
        return results.all_of([(name, path, None) for name, path in outputs.items()])

    # Each subscription counts from 0.
    return lambda rendered, around: rx.defer(partial(stage, rendered, around))


_File = tuple[str, Path, Output | None]
"""A file to fetch: its name, its path, and what is known of it if the user has not named it."""


def _files(outputs: Mapping[str, Path], made: Sequence[Output]) -> Iterator[_File]:
    """What was made of the outputs. The further files of a list are `a_2.png`, `a_3.png`, … beside its `a.png`."""
    for each in made:
        if each.name in outputs:
            yield each.name, outputs[each.name], None
        elif of_list := list_of(each.name, outputs):
            first, number = outputs[of_list], each.name.removeprefix(of_list)
            stem = first.name if first.suffix in ("", f".{of_list}") else first.stem
            paths = (first.with_name(f"{stem}{more}{number}{each.ext}") for more in ("", f".{of_list}"))
            yield each.name, next(path for path in paths if path not in outputs.values()), each


def bytes_received(event: JobEvent) -> int:
    """How much of a file has come, as the calls of this stage say it."""
    return event.bytes if isinstance(event, Downloading) else 0


@dataclass(frozen=True, slots=True)
class Results:
    """The results of one task on their way to `outputs`.

    Attributes:
        outputs: The files to write, by name.
        get: Fetches one, from its path, its name (None for the main one) and what is known of a further file of a list.
    """

    outputs: Mapping[str, Path]
    get: Callable[[Path, str | None, Output | None], Observable[JobEvent]]

    def made(self, report: TaskReport) -> Observable[JobEvent]:
        """Fetch what the worker says that it made."""
        if not report.outputs:  # the one result of a video and an audio file
            return self.all_of([(name, path, None) for name, path in self.outputs.items()])
        files = list(_files(self.outputs, report.outputs))
        names = {name for name, *_ in files}
        if not files:
            have = ", ".join(output.name for output in report.outputs)
            raise TaskFailed(f"the engine made no output {', '.join(self.outputs)}; it made {have}")
        size = sum(made.size for made in report.outputs if made.name in names)
        return self.all_of(files, size, tuple(name for name in self.outputs if name not in names))

    def all_of(
        self, files: Sequence[_File], size: int | None = None, absent: tuple[str, ...] = ()
    ) -> Observable[JobEvent]:
        """One file after the other, of `size` bytes together; one `Done` at the end, with all of them."""
        if len(files) == 1 and not absent:
            return self._one(files[0][1], None if size is None else files[0][0])
        complete: list[ResultFile] = []

        def of_one(name: str, event: JobEvent) -> Observable[JobEvent]:
            if isinstance(event, Downloading):
                before = sum(file.size for file in complete)
                total = size or (None if event.of is None else before + event.of)
                return of(Downloading(before + event.bytes, total, name))
            if not isinstance(event, Done):
                return of(event)
            complete.append(ResultFile(name, event.path, event.size))
            if len(complete) < len(files):
                return of()
            return of(Done(complete[0].path, complete[0].size, tuple(complete), absent))

        def one(name: str, path: Path, made: Output | None, _: object) -> Observable[JobEvent]:
            return self._one(path, name, made).pipe(ops.flat_map(partial(of_one, name)))

        return concat(*(rx.defer(partial(one, *file)) for file in files))

    def _one(self, path: Path, name: str | None, made: Output | None = None) -> Observable[JobEvent]:
        return self.get(path, name, made).take_while(lambda event: not isinstance(event, Done), inclusive=True)
