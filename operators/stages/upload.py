"""Send the files that the worker does not have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from itertools import accumulate

import reactivex as rx
from reactivex import Observable

from wakestream.operators.model.events import SMALL_FILES, Checked, Fingerprint, JobEvent, Uploaded, Uploading
from wakestream.operators.model.ports import Resumed, Worker, Workers
from wakestream.operators.rx.each import Effect, Operator
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.sources import concat, of

SMALL = 256 * 1024
"""Bytes of a file that is sent together with others, or alone in one exchange."""

TOGETHER = 2 * 1024 * 1024
"""Bytes of the files of one call, which shows no progress. A line that is too slow for it gets the files one by one."""


def upload(workers: Workers) -> Effect[JobEvent]:
    """The stage from `Checked` to `Uploaded`: sends the missing files, with the progress of all of them.

    Small files go together if the worker takes that and the line is fast enough, then the others one after the other.
    A call sends one file, or the small ones of a group. If the worker has a part of a file from an earlier attempt,
    only the rest is sent.

    Example:
        >>> each(upload(world.workers), retry_backoff(policy.call, world.random, progress=bytes_sent))

    Args:
        workers: The workers.

    Returns:
        The stage, for `each`. Its calls may raise `FileChanged`, `WorkerRefused`, `WorkerUnreachable`.
    """

    def stage(checked: Checked, around: Operator, _: object) -> Observable[JobEvent]:
        total = sum(file.size for file in checked.missing)
        worker = workers.at(checked.worker.url)
        groups, single = _grouped(checked)
        sends = [_Group(worker, checked, group) for group in groups] + [
            _Upload(worker, checked, each) for each in single
        ]
        starts = accumulate((each.size for each in sends), initial=0)
        sent = [send(each, around, start, total) for each, start in zip(sends, starts, strict=False)]

        def sum_up(_: object) -> Observable[JobEvent]:
            wire = sum(each.sent for each in sends)
            return of(Uploaded(checked, wire, checked.saved + max(0, total - wire)))

        return concat(*sent, rx.defer(sum_up))

    def send(each: _Upload | _Group, around: Operator, start: int, total: int) -> Observable[JobEvent]:
        progress = around(from_async(each.attempt, f"upload {each.name}"))
        return progress.map(lambda item: Uploading(start + each.count(item), total, each.last))

    # Each subscription counts from 0.
    return lambda checked, around: rx.defer(partial(stage, checked, around))


def bytes_sent(item: int | Resumed) -> int:
    """How much of a file the worker has, as the calls of this stage say it."""
    return item.bytes if isinstance(item, Resumed) else item


def _grouped(checked: Checked) -> tuple[list[list[Fingerprint]], list[Fingerprint]]:
    """The missing files that are sent together, and those that are sent alone."""
    small = [file for file in checked.missing if file.size <= SMALL]
    if SMALL_FILES not in checked.worker.features or checked.algorithm != "blake3":
        return [], list(checked.missing)
    groups: list[list[Fingerprint]] = []
    for file in small:
        if not groups or sum(each.size for each in groups[-1]) + file.size > TOGETHER:
            groups.append([])
        groups[-1].append(file)
    return groups, [file for file in checked.missing if file.size > SMALL]


class _Upload:
    """One file: `at` is how much the worker has, `sent` how many bytes all attempts sent."""

    def __init__(self, worker: Worker, checked: Checked, file: Fingerprint) -> None:
        self.size, self.name = file.size, file.path.name
        self.last = self.name
        self.at = self.sent = 0
        self._file, self._worker, self._ref = file, worker, checked.ref(file)

    def attempt(self) -> AsyncIterator[int | Resumed]:
        """Send the file, from its start unless the worker says otherwise."""
        self.at = 0
        return self._worker.upload(self._file, self._ref)

    def count(self, item: int | Resumed) -> int:
        """Count a step; returns how many bytes the worker has."""
        if not isinstance(item, Resumed):
            self.sent += max(0, item - self.at)
        self.at = bytes_sent(item)
        return self.at


class _Group:
    """Small files that are sent in one call, or one by one after a call that did not end in time."""

    def __init__(self, worker: Worker, checked: Checked, files: Sequence[Fingerprint]) -> None:
        self.size, self.name = sum(file.size for file in files), f"{len(files)} files"
        self.last = files[-1].path.name
        self._files = {checked.ref(file): file for file in files}
        self._singly = [_Upload(worker, checked, file) for file in files]
        self._left = list(self._singly)
        self._worker = worker
        self._slow = self._whole = False

    @property
    def sent(self) -> int:
        """The bytes that all attempts sent."""
        return self.size if self._whole else sum(each.sent for each in self._singly)

    async def attempt(self) -> AsyncIterator[int | Resumed]:
        """Send the files; yields how many bytes of all of them the worker has."""
        if not self._slow:
            try:
                await self._worker.upload_small(self._files)
            except asyncio.CancelledError:  # it took too long
                self._slow = True
                raise
            self._whole = True
            yield self.size
            return
        while self._left:
            each, done = self._left[0], self.size - sum(file.size for file in self._left)
            self.last = each.name
            async for item in each.attempt():
                yield done + each.count(item)
            del self._left[0]  # a file whose last byte was sent may still be refused

    def count(self, item: int | Resumed) -> int:
        """Return how many bytes the worker has."""
        return bytes_sent(item)
