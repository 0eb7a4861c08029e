"""What the worker says for itself, and whether a file really gets through to it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from wakestream.adapters.doctor.findings import Finding, fault, ok, skipped, warning
from wakestream.adapters.files import DiskFiles
from wakestream.adapters.http.client import HttpWorker, HttpWorkers
from wakestream.adapters.settings import Settings
from wakestream.adapters.tls import client_context
from wakestream.operators.errors import WakestreamError
from wakestream.operators.events import Algorithm, FileRef
from wakestream.operators.ports import Health

TRIAL = 2 * 1024 * 1024
"""Bytes of the trial upload: more than a proxy lets through that was left at its default."""


async def worker_answers(found: Settings, url: str | None, asleep: bool) -> AsyncIterator[Finding]:
    """The worker at `url`, or at the configured address: there, ready, and open to our files."""
    workers = HttpWorkers(
        found.worker_url or url, found.api_secret, idle=20.0, connect=5.0, ca=client_context(found.ca)
    )
    try:
        worker = workers.at(None)
        health = await worker.health()
    except WakestreamError as error:
        yield _absent(error, asleep)
    else:
        yield _ready(worker.url, health)
        if found.api_secret is None:
            yield skipped("upload", "no HEYGEM_API_SECRET is set here, so only a job that holds the GPU may upload")
        else:
            async for finding in _opens(worker, health):
                yield finding
    finally:
        await workers.close()


def _absent(error: WakestreamError, asleep: bool) -> Finding:
    if error.code == "no_worker":
        return skipped("worker", "where it is, the hub tells each job")
    if asleep:
        return skipped("worker", "the GPU is off, so its worker is not there", "`wakestream doctor --wake` wakes it")
    return fault("worker", str(error), "look at the worker's log; can its --public-url be reached from here?")


def _ready(url: str, health: Health) -> Finding:
    features = ", ".join(sorted(health.features)) or "an old worker"
    if health.initialized:
        return ok("worker", f"{url} is ready ({features})")
    return warning("worker", f"{url} answers, but its engine is not ready", "look at the worker's log")


async def _opens(worker: HttpWorker, health: Health) -> AsyncIterator[Finding]:
    try:
        await worker.check(())
    except WakestreamError as error:
        yield fault("secret", str(error), "HEYGEM_API_SECRET has to be the same here and at the worker")
        return
    yield ok("secret", "the worker accepts our secret")
    try:
        await _upload(worker, health)
    except WakestreamError as error:
        todo = "is its disk full, or does a proxy limit the size of a request (nginx: client_max_body_size 0)?"
        yield fault("upload", f"a trial upload of {TRIAL // 1024**2} MiB failed: {error}", todo)
    else:
        yield ok("upload", f"a trial upload of {TRIAL // 1024**2} MiB went through")


async def _upload(worker: HttpWorker, health: Health) -> None:
    files = DiskFiles()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.bin"
        await asyncio.to_thread(path.write_bytes, os.urandom(TRIAL))
        try:
            algorithm: Algorithm = "blake3" if "blake3" in health.features else "md5"
            file = await files.fingerprint(path, (algorithm,))
            async for _ in worker.upload(file, FileRef(file.digests[algorithm], file.ext)):
                pass
        finally:
            await files.close()
