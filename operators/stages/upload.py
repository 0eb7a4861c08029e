"""Send the files that the worker does not have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from random import Random

import reactivex as rx
from reactivex import Observable

from wakestream.operators.model.errors import Stalled
from wakestream.operators.model.events import SMALL_FILES, Checked, Fingerprint, JobEvent, Uploaded, Uploading
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Resumed, Worker, Workers
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.sources import concat, of, throw
from wakestream.operators.rx.timeout_idle import timeout_idle

SMALL = 256 * 1024
"""Bytes of a file that is sent together with others, or alone in one exchange."""

TOGETHER = 2 * 1024 * 1024
"""Bytes of the files of one call, which shows no progress. A line that is too slow for it gets the files one by one."""


def upload(workers: Workers, policy: Policy, random: Random) -> Callable[[Checked], Observable[JobEvent]]:
    """The stage from `Checked` to `Uploaded`: sends the missing files, with the progress of all of them.

    Small files go together if the worker takes that and the line is fast enough, then the others one after the other.
    If the worker has a part of a file from an earlier attempt, only the rest is sent. The count of retries starts at 0
    again when an attempt gets further than all before it.

    Example:
        >>> checked.pipe(then(upload(world.workers, policy, world.random)))

    Args:
        workers: The workers.
        policy: `transfer` limits the time without a byte, `call` says how an upload is retried.
        random: The source of jitter.

    Returns:
        The stage. It may raise `Stalled`, `FileChanged`, `WorkerRefused`, `WorkerUnreachable`.
    """

    def is_no_stall(error: Exception) -> bool:
        return policy.call.retry_on(error) and not isinstance(error, Stalled)

    quickly = replace(policy.call, retry_on=is_no_stall)

    def stage(checked: Checked, _: object) -> Observable[JobEvent]:
        total = sum(file.size for file in checked.missing)
        worker = workers.at(checked.worker.url)
        groups, single = _grouped(checked)
        sizes = [sum(file.size for file in group) for group in groups] + [file.size for file in single]
        starts = list(accumulate(sizes, initial=0))
        uploads = [_Upload(worker, checked, file) for file in single]
        together = [
            send_small(worker, checked, group, done, total) for group, done in zip(groups, starts[1:], strict=False)
        ]
        sent = [send(each, start, total) for each, start in zip(uploads, starts[len(groups) :], strict=False)]

        def sum_up(_: object) -> Observable[JobEvent]:
            wire = sum(sizes[: len(groups)]) + sum(each.sent for each in uploads)
            return of(Uploaded(checked, wire, checked.saved + max(0, total - wire)))

        return concat(*together, *sent, rx.defer(sum_up))

    def send_small(
        worker: Worker, checked: Checked, group: Sequence[Fingerprint], done: int, total: int
    ) -> Observable[JobEvent]:
        files = {checked.ref(file): file for file in group}
        sent = from_async(lambda: worker.upload_small(files), f"upload {len(files)} files")
        told = sent.map(lambda _: Uploading(done, total, group[-1].path.name))
        start = done - sum(file.size for file in group)

        def singly(error: Exception, _: object) -> Observable[JobEvent]:
            if not isinstance(error, Stalled):
                return throw(error)
            starts = accumulate((file.size for file in group), initial=start)
            singles = zip(group, starts, strict=False)
            return concat(*(send(_Upload(worker, checked, file), at, total) for file, at in singles))

        safe: Observable[JobEvent] = told.pipe(
            timeout_idle(policy.transfer, "transfer"), retry_backoff(quickly, random)
        )
        return safe.catch(singly)

    def send(upload: _Upload, start: int, total: int) -> Observable[JobEvent]:
        name = upload.file.path.name
        steady: Observable[int | Resumed] = from_async(upload.attempt, f"upload {name}").pipe(
            timeout_idle(policy.transfer, "transfer"),
            retry_backoff(replace(policy.call, reset_on_success=upload.gets_further), random),
        )
        return steady.map(lambda item: Uploading(start + upload.count(item), total, name))

    return lambda checked: rx.defer(partial(stage, checked))  # each subscription counts from 0


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
        self.file = file
        self.at = self.sent = 0
        self._most = 0
        self._worker = worker
        self._ref = checked.ref(file)

    def attempt(self) -> AsyncIterator[int | Resumed]:
        """Send the file, from its start unless the worker says otherwise."""
        self.at = 0
        return self._worker.upload(self.file, self._ref)

    def gets_further(self, item: int | Resumed) -> bool:
        """Whether the worker has more than ever before."""
        at = item.bytes if isinstance(item, Resumed) else item
        further, self._most = at > self._most, max(at, self._most)
        return further

    def count(self, item: int | Resumed) -> int:
        """Count a step; returns how many bytes the worker has."""
        if isinstance(item, Resumed):
            self.at = item.bytes
        else:
            self.sent += max(0, item - self.at)
            self.at = item
        return self.at
