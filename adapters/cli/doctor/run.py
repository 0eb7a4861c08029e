"""The examination as a whole: from this machine outwards, each step where the one before lets us see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from wakestream.adapters.cli.doctor import hub as there
from wakestream.adapters.cli.doctor import local as here
from wakestream.adapters.cli.doctor.local import daemon_stands
from wakestream.adapters.cli.doctor.result import CheckResult, each, fault, ok, skipped
from wakestream.adapters.cli.doctor.worker import workers_answer
from wakestream.adapters.cli.i18n import t
from wakestream.adapters.client import hub_query
from wakestream.adapters.client.hub_query import Answer, Query
from wakestream.adapters.config.addresses import HUB_PATH
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.daemon.api_client import DaemonClient, DaemonRefused, DaemonUnreachable, open_daemon_client
from wakestream.adapters.net.hub_link import Link, open_link
from wakestream.adapters.net.tls import client_context
from wakestream.operators.model.errors import HubError, WakestreamError
from wakestream.streams.jobs.hub_client import FEATURES
from wakestream.streams.protocol import messages as m


async def examine(
    found: Settings, folder: Path, *, wake_within: float | None = None, state: Path | None = None
) -> AsyncIterator[CheckResult]:
    """Findings one by one, as they are made; none raises.

    `folder` is where results go, `state` the daemon's folder, if that is to be looked at, too. `wake_within` (seconds):
    also wake the GPU, for so long.
    """
    async with open_daemon_client(state) as client:
        health = await client.look() if state is not None and not (found.hub_url and found.key) else None
        if health is not None and found.hub_url in (None, health.get("hub")):
            found = replace(found, hub_url=health.get("hub"))
        asks = health is not None and found.hub_url == health.get("hub") and found.key is None and client.asks_hub
        hub = _through_the_daemon(found, client, wake_within) if asks else _at_the_hub(found, wake_within)
        async for finding in each(here.seen(found, folder, asks=asks), daemon_stands(found, state), hub):
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
    headers = await there.headers_of(_page(url))
    told = there.Told(there.version_in(headers), features=frozenset((await daemon.needed())["hub_features"]))
    yield ok("hub", t("doctor.hub_by_daemon", url=url))
    if wake_within is not None:
        yield skipped("wake", t("doctor.wake_needs_key"), t("doctor.wake_needs_key.do"))

    async def ask(query: Query, kind: type[Answer]) -> Answer | None:
        with suppress(DaemonRefused, DaemonUnreachable):
            return await daemon.ask_hub(query, kind)
        return None

    async for finding in each(there.clocks_agree(headers), there.gpus_stand(ask, told), workers_answer(found, told)):
        yield finding


async def _at_the_hub(found: Settings, wake_within: float | None) -> AsyncIterator[CheckResult]:
    if found.hub_url is None or found.key is None:
        for finding in here.nothing_beyond(t("doctor.needs")):
            yield finding
        return
    try:
        found.needs_hub()
    except SettingsError as error:
        yield fault("settings", str(error), t("doctor.source.do"))
        return
    try:
        ca = client_context(found.ca)
    except SettingsError as error:
        yield fault("settings", str(error), t("doctor.ca.do"))
        return
    features = (*FEATURES, *hub_query.QUESTIONS)
    link = open_link(found.hub_url, lambda: m.Register(key=found.key, device_type="pc", features=features), ca=ca)
    try:
        headers = await there.headers_of(_page(found.hub_url), ca)
        told = there.Told(there.version_in(headers))
        beyond = _beyond_the_hub(found, link, wake_within, told)
        async for finding in each(there.hub_connects(link, told), there.clocks_agree(headers), beyond):
            yield finding
    finally:
        await link.close()


async def _beyond_the_hub(
    found: Settings, link: Link, wake_within: float | None, told: there.Told
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
    async for finding in each(*woken, there.gpus_stand(ask, told), workers_answer(found, told)):
        yield finding


def _page(hub_url: str) -> str:
    """The hub's page for people, beside its WebSocket."""
    parts = urlsplit(hub_url)
    scheme = {"ws": "http", "wss": "https"}[parts.scheme]
    return urlunsplit(parts._replace(scheme=scheme, path=f"{parts.path.removesuffix(HUB_PATH)}/"))
