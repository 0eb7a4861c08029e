"""Ask the worker what it has, so that nothing is sent twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from reactivex import Observable

from wakestream.operators.model.events import (
    Algorithm,
    Checked,
    FileRef,
    Fingerprint,
    Fingerprinted,
    JobEvent,
    Online,
)
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Workers
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.then import then
from wakestream.operators.stages.fingerprint import Fingerprints


def dedupe(
    workers: Workers, readings: Fingerprints, policy: Policy, random: Random
) -> Callable[[Online], Observable[JobEvent]]:
    """From `Online` to `Checked`: BLAKE3 where the worker announced it, MD5 for the older ones."""

    def stage(worker: Online) -> Observable[JobEvent]:
        algorithm: Algorithm = "blake3" if "blake3" in worker.features else "md5"

        def check(taken: Fingerprinted) -> Observable[JobEvent]:
            refs = {FileRef(file.digests[algorithm], file.ext): file for file in taken.files}
            asked = from_async(lambda: workers.at(worker.url).check(tuple(refs)), "check")
            answer = asked.pipe(retry_backoff(policy.call, random))
            return answer.map(lambda known: _checked(worker, taken, algorithm, known, refs))

        reading: Observable[JobEvent] = readings.of({algorithm})
        return reading.pipe(then(check))

    return stage


def _checked(
    worker: Online,
    taken: Fingerprinted,
    algorithm: Algorithm,
    known: Mapping[str, bool],
    refs: Mapping[FileRef, Fingerprint],
) -> Checked:
    video, audio = taken.files
    missing = tuple(file for ref, file in refs.items() if not known.get(ref.hash, False))
    return Checked(worker, video, audio, algorithm, missing)
