"""Ask the worker which files it has, so that nothing is sent twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from reactivex import Observable

from wakestream.operators.model.events import Algorithm, Checked, FileRef, Fingerprinted, JobEvent, Online
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Workers
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.then import then
from wakestream.operators.stages.fingerprint import Fingerprints


def dedupe(
    workers: Workers, fingerprints: Fingerprints, policy: Policy, random: Random
) -> Callable[[Online], Observable[JobEvent]]:
    """The stage from `Online` to `Checked`: hash the files and ask the worker which of them it has.

    Files are named by BLAKE3 if the worker announced it, else by MD5.

    Example:
        >>> worker.pipe(then(dedupe(world.workers, fingerprints, policy, world.random)))

    Args:
        workers: The workers.
        fingerprints: The hashes of the job's files.
        policy: `call` says how the question is retried.
        random: The source of jitter.

    Returns:
        The stage. It may raise `FileUnusable`, `FileChanged`, `WorkerRefused`, `WorkerUnreachable`.
    """

    def stage(online: Online) -> Observable[JobEvent]:
        algorithm: Algorithm = "blake3" if "blake3" in online.features else "md5"

        def check(taken: Fingerprinted) -> Observable[JobEvent]:
            inputs = dict(zip(fingerprints.order, taken.files, strict=True))
            refs = {FileRef(file.digests[algorithm], file.ext): file for file in taken.files}
            asked = from_async(lambda: workers.at(online.url).check(tuple(refs)), "check")

            def checked(known: Mapping[str, bool]) -> JobEvent:
                missing = tuple(file for ref, file in refs.items() if not known.get(ref.hash, False))
                return Checked(online, inputs, algorithm, missing)

            return asked.pipe(retry_backoff(policy.call, random)).map(checked)

        hashed: Observable[JobEvent] = fingerprints.of({algorithm})
        return hashed.pipe(then(check))

    return stage
