"""Send the files that the worker does not have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import accumulate
from random import Random

import reactivex as rx
from reactivex import Observable

from wakestream.operators.model.events import Checked, Fingerprint, JobEvent, Uploaded, Uploading
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Resumed, Worker, Workers
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.timeout_idle import timeout_idle


def upload(workers: Workers, policy: Policy, random: Random) -> Callable[[Checked], Observable[JobEvent]]:
    """The stage from `Checked` to `Uploaded`: sends one file after the other, with the progress of all of them.

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

    def stage(checked: Checked) -> Observable[JobEvent]:
        of = sum(file.size for file in checked.missing)
        before = accumulate((file.size for file in checked.missing), initial=0)
        worker = workers.at(checked.worker.url)
        uploads = [_Upload(worker, checked, file) for file in checked.missing]
        sent = [send(upload, start, of) for upload, start in zip(uploads, before, strict=False)]

        def sum_up(_: object) -> Observable[JobEvent]:
            wire = sum(upload.sent for upload in uploads)
            return rx.of(Uploaded(checked, wire, checked.saved + max(0, of - wire)))

        return rx.concat(*sent, rx.defer(sum_up))

    def send(upload: _Upload, start: int, of: int) -> Observable[JobEvent]:
        name = upload.file.path.name
        steady: Observable[int | Resumed] = from_async(upload.attempt, f"upload {name}").pipe(
            timeout_idle(policy.transfer, "transfer"),
            retry_backoff(replace(policy.call, reset_on_success=upload.gets_further), random),
        )
        return steady.map(lambda item: Uploading(start + upload.count(item), of, name))

    return stage


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
