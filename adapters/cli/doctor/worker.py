"""What the worker says for itself, and whether a file really gets through to it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from wakestream.adapters.cli.doctor.hub import Told
from wakestream.adapters.cli.doctor.result import CheckResult, fault, ok, skipped, warning
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.i18n.catalog import translated
from wakestream.adapters.client.worker import HttpWorker, HttpWorkers
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.adapters.net.tls import client_context
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.events import Algorithm, FileRef
from wakestream.operators.model.ports import Health
from wakestream.streams.hub.capabilities import FEATURE as CAPABILITY
from wakestream.streams.protocol.printable import printable

TRIAL = 2 * 1024 * 1024
"""Bytes of the trial upload: more than a proxy lets through that was left at its default."""


async def workers_answer(found: Settings, told: Told) -> AsyncIterator[CheckResult]:
    """The worker of each GPU that is on, where the jobs are sent: there, ready, and open to our files."""
    try:
        found.check_sent("api_secret", "worker", "secret_hosts")
    except SettingsError as error:
        yield fault("settings", str(error), t("doctor.source.do"))
        return
    workers = HttpWorkers(
        found.worker_url,
        found.api_secret,
        secret_hosts=found.secret_hosts,
        idle=20.0,
        connect=5.0,
        ca=client_context(found.ca),
    )
    secret = found.api_secret is not None or found.no_secret
    try:
        for url in told.workers or [told.url]:
            async for finding in _worker(workers, url, told, secret=secret):
                yield finding
    finally:
        await workers.close()


async def _worker(workers: HttpWorkers, url: str | None, told: Told, *, secret: bool) -> AsyncIterator[CheckResult]:
    try:
        worker = workers.at(url)
        health = await worker.health()
    except WakestreamError as error:
        yield _absent(error, told)
        return
    yield _ready(worker.url, health)
    capable = CAPABILITY in told.features & health.features
    if not secret and capable:
        yield skipped("upload", t("doctor.no_secret"))
        return
    if capable and workers.secret and not workers.by_secret(worker.url):  # the jobs' capabilities open it
        yield CheckResult("secret", "ok", t("doctor.not_sent", url=worker.url), t("doctor.not_sent.do"))
        return
    async for finding in _opens(worker, health, refused=warning if capable else fault):
        yield finding


def _absent(error: WakestreamError, told: Told) -> CheckResult:
    if error.code == "no_worker" and told.nowhere:
        return fault("worker", t("doctor.nowhere"), t("doctor.nowhere.do"))
    if error.code == "no_worker":
        return skipped("worker", t("doctor.no_worker"), t("doctor.worker_off.do"))
    if not told.workers:
        return skipped("worker", t("doctor.worker_off"), t("doctor.worker_off.do"))
    return fault("worker", str(error), t("doctor.absent.do"))


def _ready(url: str, health: Health) -> CheckResult:
    features = ", ".join(sorted(health.features)) or t("doctor.field_worker")
    if health.initialized and health.features and health.msg != "ok":
        return warning("worker", translated(health.msg) or printable(health.msg), t("doctor.engine_loads.do"))
    if health.initialized:
        return ok("worker", t("doctor.worker", url=url, features=features))
    return warning("worker", t("doctor.engine_loads", url=url), t("doctor.engine_loads.do"))


async def _opens(
    worker: HttpWorker, health: Health, refused: Callable[[str, str, str], CheckResult]
) -> AsyncIterator[CheckResult]:
    """`refused` makes a finding of a secret that is not accepted: where jobs have capabilities, they need none."""
    try:
        await worker.check(())
    except WakestreamError as error:
        yield refused("secret", str(error), t("doctor.secret.do"))
        return
    yield ok("secret", t("doctor.secret"))
    try:
        await _upload(worker, health)
    except WakestreamError as error:
        todo = t("doctor.upload.do")
        yield fault("upload", t("doctor.upload_failed", size=TRIAL // 1024**2, why=error), todo)
    else:
        yield ok("upload", t("doctor.upload", size=TRIAL // 1024**2))


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
