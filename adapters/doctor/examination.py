"""The examination as a whole: from this machine outwards, each step where the one before lets us see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from wakestream.adapters.doctor import here, there
from wakestream.adapters.doctor.findings import Finding
from wakestream.adapters.doctor.worker import worker_answers
from wakestream.adapters.settings import Settings
from wakestream.adapters.tls import client_context
from wakestream.adapters.websocket.link import Link, open_link
from wakestream.adapters.words import tell
from wakestream.streams import messages as m
from wakestream.streams.hub_client import FEATURES


async def examine(found: Settings, folder: Path, *, wake_within: float | None = None) -> AsyncIterator[Finding]:
    """Findings one by one, as they are made; none raises. `wake_within` (seconds): also wake the GPU, for so long."""
    async for finding in here.seen(found, folder):
        yield finding
    if found.hub_url is None or found.key is None:
        for finding in here.nothing_beyond(tell("doctor.needs")):
            yield finding
        return
    ca = client_context(found.ca)
    link = open_link(found.hub_url, lambda: m.Register(key=found.key, device_type="pc", features=FEATURES), ca=ca)
    try:
        async for finding in there.hub_connects(link):
            yield finding
        async for finding in there.clocks_agree(_http(found.hub_url), ca):
            yield finding
        async for finding in _beyond_the_hub(found, link, wake_within):
            yield finding
    finally:
        await link.close()


async def _beyond_the_hub(found: Settings, link: Link, wake_within: float | None) -> AsyncIterator[Finding]:
    if not link.up:
        for finding in here.nothing_beyond(tell("doctor.let_in")):
            yield finding
        return
    asleep, told = True, there.Told()
    async for finding in there.monitor_answers(link):
        asleep = "running" not in finding.says
        yield finding
    if wake_within is not None:
        async for finding in there.wake(link, wake_within, told):
            asleep = asleep and finding.level != "ok"
            yield finding
    async for finding in worker_answers(found, told.url, asleep):
        yield finding


def _http(hub_url: str) -> str:
    parts = urlsplit(hub_url)
    return urlunsplit(parts._replace(scheme={"ws": "http", "wss": "https"}[parts.scheme]))
