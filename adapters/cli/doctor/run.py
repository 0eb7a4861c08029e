"""The examination as a whole: from this machine outwards, each step where the one before lets us see."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from wakestream.adapters.cli.doctor import hub as there
from wakestream.adapters.cli.doctor import local as here
from wakestream.adapters.cli.doctor.depot import depot_works
from wakestream.adapters.cli.doctor.hub import Told
from wakestream.adapters.cli.doctor.local import daemon_stands
from wakestream.adapters.cli.doctor.result import CheckResult, each, fault, ok, skipped, warning
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.cli.i18n.catalog import translated
from wakestream.adapters.client import hub_query
from wakestream.adapters.client.hub_query import Answer, Query
from wakestream.adapters.client.worker import HttpWorker, HttpWorkers
from wakestream.adapters.config import addresses
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.daemon.api_client import DaemonClient, DaemonRefused, DaemonUnreachable, open_daemon_client
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.net.tls import client_context
from wakestream.operators.model.errors import HubError, WakestreamError
from wakestream.operators.model.events import Algorithm, FileRef
from wakestream.operators.model.ports import Health
from wakestream.streams.jobs.hub_client import FEATURES
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import CAPABILITY
from wakestream.streams.protocol.printable import printable

# What the worker says for itself, and whether a file really gets through to it.

TRIAL = 2 * 1024 * 1024
"""Bytes of the trial upload: more than a proxy lets through that was left at its default."""


async def workers_answer(settings: Settings, told: Told) -> AsyncIterator[CheckResult]:
    """The worker of each GPU that is on, where the jobs are sent: there, ready, and open to our files."""
    ca = client_context(settings.ca)
    try:
        workers = HttpWorkers.of(settings, idle=20.0, connect=5.0, ca=ca)
    except SettingsError as error:
        yield fault("settings", str(error), t("doctor.source.do"))
        return
    secret = settings.api_secret is not None or settings.no_secret
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


async def examine(
    settings: Settings, folder: Path, *, wake_within: float | None = None, state: Path | None = None
) -> AsyncIterator[CheckResult]:
    """Findings one by one, as they are made; none raises.

    `folder` is where results go, `state` the daemon's folder, if that is to be looked at, too. `wake_within` (seconds):
    also wake the GPU, for so long.
    """
    async with open_daemon_client(state) as client:
        health = await client.look() if state is not None and not (settings.hub_url and settings.key) else None
        served = health is not None and addresses.serves(health.get("hub"), settings.hub_url)
        if health is not None and served:
            settings = replace(settings, hub_url=health.get("hub"))
        asks = served and settings.key is None and client.asks_hub
        hub = _through_the_daemon(settings, client, wake_within) if asks else _at_the_hub(settings, wake_within)
        async for finding in each(here.seen(settings, folder, asks=asks), daemon_stands(settings, state), hub):
            yield finding


async def _through_the_daemon(
    found: Settings, daemon: DaemonClient, wake_within: float | None
) -> AsyncIterator[CheckResult]:
    """All of it through the daemon, whose key never leaves it."""
    url = found.hub_url or ""
    try:
        await daemon.ask_hub(m.HubStatusQuery(request_id="-"), m.HubStatus)
    except WakestreamError as error:
        yield fault("hub", str(error), t("doctor.hub_down.do"))
        for finding in here.nothing_beyond(t("doctor.hub_is_down")):
            yield finding
        return
    heard = await there.heard_of(url)
    told = Told.by(heard)
    told.features = frozenset((await daemon.needed())["hub_features"])
    yield ok("hub", t("doctor.hub_by_daemon", url=url))
    if wake_within is not None:
        yield skipped("wake", t("doctor.wake_needs_key"), t("doctor.wake_needs_key.do"))

    async def ask(query: Query, kind: type[Answer]) -> Answer | None:
        with suppress(DaemonRefused, DaemonUnreachable):
            return await daemon.ask_hub(query, kind)
        return None

    gpus, depot = there.gpus_stand(ask, told), there.depot_connected(told)
    async for finding in each(
        there.hubs_stand(heard), there.clocks_agree(told.ahead), gpus, workers_answer(found, told), depot
    ):
        yield finding


async def _at_the_hub(settings: Settings, wake_within: float | None) -> AsyncIterator[CheckResult]:
    if settings.hub_url is None or settings.key is None:
        for finding in here.nothing_beyond(t("doctor.needs")):
            yield finding
        return
    try:
        settings.needs_hub()
    except SettingsError as error:
        yield fault("settings", str(error), t("doctor.source.do"))
        return
    try:
        ca = client_context(settings.ca)
    except SettingsError as error:
        yield fault("settings", str(error), t("doctor.ca.do"))
        return
    features = tuple(dict.fromkeys((*FEATURES, *hub_query.QUESTIONS, d.FEATURE)))
    link = Link(settings.hub_url, lambda: m.Register(key=settings.key, device_type="pc", features=features), ca=ca)
    try:
        heard = await there.heard_of(settings.hub_url, ca)
        told = Told.by(heard)
        beyond = _beyond_the_hub(settings, link, wake_within, told)
        hub = there.hub_connects(link, told), there.hubs_stand(heard)
        async for finding in each(*hub, there.clocks_agree(told.ahead), beyond):
            yield finding
    finally:
        await link.close()


async def _beyond_the_hub(
    found: Settings, link: Link, wake_within: float | None, told: Told
) -> AsyncIterator[CheckResult]:
    if not link.up:
        for finding in here.nothing_beyond(t("doctor.let_in" if told.refused else "doctor.hub_is_down")):
            yield finding
        return

    async def ask(query: Query, kind: type[Answer]) -> Answer | None:
        with suppress(HubError):
            return await hub_query.ask(link, query, kind, hub_query.ANSWER_WITHIN)
        return None

    woken = () if wake_within is None else (there.wake(link, wake_within, told),)
    # After the wake: if that failed, the GPUs say why.
    depot = depot_works(link, told, found)
    async for finding in each(*woken, there.gpus_stand(ask, told), workers_answer(found, told), depot):
        yield finding
