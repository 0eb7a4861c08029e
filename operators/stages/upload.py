"""Send what the worker lacks."""

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
    """From `Checked` to `Uploaded`: one file after the other, progress in bytes over all of them.

    Where the worker kept what an earlier attempt or run had sent, only the rest goes; attempts are counted anew with
    every byte that is farther than any before. Raises `Stalled` when no byte went for `policy.transfer` seconds and
    trying again did not help, `FileChanged`, `WorkerRefused`, `WorkerUnreachable`.
    """

    def stage(checked: Checked) -> Observable[JobEvent]:
        of = sum(file.size for file in checked.missing)
        before = accumulate((file.size for file in checked.missing), initial=0)
        worker = workers.at(checked.worker.url)
        sendings = [_Sending(worker, checked, file) for file in checked.missing]
        sent = [send(sending, start, of) for sending, start in zip(sendings, before, strict=False)]

        def sum_up(_: object) -> Observable[JobEvent]:
            wire = sum(sending.sent for sending in sendings)
            return rx.of(Uploaded(checked, wire, checked.saved + max(0, of - wire)))

        return rx.concat(*sent, rx.defer(sum_up))

    def send(sending: _Sending, start: int, of: int) -> Observable[JobEvent]:
        name = sending.file.path.name
        steady: Observable[int | Resumed] = from_async(sending.attempt, f"upload {name}").pipe(
            timeout_idle(policy.transfer, "transfer"),
            retry_backoff(replace(policy.call, reset_on_success=sending.farther), random),
        )
        return steady.map(lambda item: Uploading(start + sending.count(item), of, name))

    return stage


class _Sending:
    """One file on its way: `at` is where the worker stands, `sent` is what went over the wire in all attempts."""

    def __init__(self, worker: Worker, checked: Checked, file: Fingerprint) -> None:
        self.file = file
        self.at = self.sent = 0
        self._most = 0
        self._worker = worker
        self._ref = checked.ref(file)

    def attempt(self) -> AsyncIterator[int | Resumed]:
        """Send it, from its start unless the worker says otherwise."""
        self.at = 0
        return self._worker.upload(self.file, self._ref)

    def farther(self, item: int | Resumed) -> bool:
        """Whether the worker never had so much."""
        at = item.bytes if isinstance(item, Resumed) else item
        farther, self._most = at > self._most, max(at, self._most)
        return farther

    def count(self, item: int | Resumed) -> int:
        """Take the account of it; returns how many bytes are with the worker."""
        if isinstance(item, Resumed):
            self.at = item.bytes
        else:
            self.sent += max(0, item - self.at)
            self.at = item
        return self.at
