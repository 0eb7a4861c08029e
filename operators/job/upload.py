"""Send what the worker lacks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from random import Random

import reactivex as rx
from reactivex import Observable

from wakestream.operators.events import Checked, Fingerprint, JobEvent, Uploaded, Uploading
from wakestream.operators.flow.from_async import from_async
from wakestream.operators.flow.retry_backoff import retry_backoff
from wakestream.operators.flow.timeout_idle import timeout_idle
from wakestream.operators.policy import Policy
from wakestream.operators.ports import Workers


def upload(workers: Workers, policy: Policy, random: Random) -> Callable[[Checked], Observable[JobEvent]]:
    """From `Checked` to `Uploaded`: one file after the other, progress in bytes over all of them.

    Raises `Stalled` when no byte went for `policy.transfer` seconds and trying again did not help, `FileChanged`,
    `WorkerRefused`, `WorkerUnreachable`.
    """

    def stage(checked: Checked) -> Observable[JobEvent]:
        of = sum(file.size for file in checked.missing)
        before = accumulate((file.size for file in checked.missing), initial=0)
        sent = [send(checked, file, start, of) for file, start in zip(checked.missing, before, strict=False)]
        return rx.concat(*sent, rx.of(Uploaded(checked, of, checked.saved)))

    def send(checked: Checked, file: Fingerprint, start: int, of: int) -> Observable[JobEvent]:
        worker = workers.at(checked.worker.url)
        sending: Observable[int] = from_async(
            lambda: worker.upload(file, checked.ref(file)), f"upload {file.path.name}"
        )
        steady = sending.pipe(timeout_idle(policy.transfer, "transfer"), retry_backoff(policy.call, random))
        return steady.map(lambda count: Uploading(start + count, of, file.path.name))

    return stage
