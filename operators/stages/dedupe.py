"""Ask the worker which files it has, so that nothing is sent twice."""

from __future__ import annotations

from collections.abc import Mapping

from reactivex import Observable

from wakestream.operators.model.events import Algorithm, Checked, FileRef, Fingerprinted, JobEvent, Online
from wakestream.operators.model.ports import Workers
from wakestream.operators.rx.each import Effect, Operator
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.then import then
from wakestream.operators.stages.fingerprint import Fingerprints


def dedupe(workers: Workers, fingerprints: Fingerprints) -> Effect[JobEvent]:
    """The stage from `Online` to `Checked`: hash the files and ask the worker which of them it has.

    Files are named by BLAKE3 if the worker announced it, else by MD5. The call is the question.

    Example:
        >>> each(dedupe(world.workers, fingerprints), retry_backoff(policy.call, world.random))

    Args:
        workers: The workers.
        fingerprints: The hashes of the job's files.

    Returns:
        The stage, for `each`. It may raise `FileUnusable`, `FileChanged`; its call `WorkerRefused`,
        `WorkerUnreachable`.
    """

    def stage(online: Online, around: Operator) -> Observable[JobEvent]:
        algorithm: Algorithm = "blake3" if "blake3" in online.features else "md5"

        def check(taken: Fingerprinted) -> Observable[JobEvent]:
            inputs = dict(zip(fingerprints.order, taken.files, strict=True))
            refs = {FileRef(file.digests[algorithm], file.ext): file for file in taken.files}

            def checked(known: Mapping[str, bool]) -> JobEvent:
                missing = tuple(file for ref, file in refs.items() if not known.get(ref.hash, False))
                return Checked(online, inputs, algorithm, missing)

            return around(from_async(lambda: workers.at(online.url).check(tuple(refs)), "check")).map(checked)

        hashed: Observable[JobEvent] = fingerprints.of({algorithm})
        return hashed.pipe(then(check))

    return stage
