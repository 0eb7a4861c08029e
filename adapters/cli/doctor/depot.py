"""Whether the depot takes a small file, gives it back and removes it, by the ways of a job."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wakestream.adapters.cli.doctor import hub
from wakestream.adapters.cli.doctor.result import CheckResult, ok, warning
from wakestream.adapters.cli.i18n.catalog import known, t
from wakestream.adapters.client.depot import DepotWallet, HttpDepot
from wakestream.adapters.client.hub_query import ANSWER_WITHIN, first
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.net.tls import client_context
from wakestream.operators.model.depot import InDepotDone, Place, Places
from wakestream.operators.model.errors import DepotError, WakestreamError
from wakestream.operators.model.events import Fingerprint, Job
from wakestream.streams.jobs.hub_replies import reply_to
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m

WITHIN: Final = 60.0
"""Seconds for all of it."""

SKEW: Final = 60.0
"""Seconds that the clocks of hub and depot may differ."""


async def depot_works(link: Link, told: hub.Told, settings: Settings) -> AsyncIterator[CheckResult]:
    """The depot of a hub that has one. Jobs work without it, so what is wrong there is no fault."""
    if d.FEATURE not in told.features:
        return
    ca = client_context(settings.ca)
    http, files, wallet = HttpWorkers(idle=20.0, connect=5.0, ca=ca), DiskFiles(), DepotWallet()
    subscription = link.events.subscribe(wallet.feed)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.bin"
            await asyncio.to_thread(path.write_bytes, os.urandom(d.MOST_OF_PROBE))
            file = await files.fingerprint(path, {"blake3"})
            probe = _Probe(link, file, HttpDepot(http, wallet, Job.lipsync("", path, path, path)))
            yield await probe.result(Path(folder) / "again.bin")
        for place in probe.places:
            ahead = hub.skew(await hub.headers_of(place.depot or place.url.partition("?")[0], ca))
            for result in _clocks(ahead, told.ahead):
                yield result
    finally:
        subscription.dispose()
        await http.close()
        await files.close()


def _clocks(ahead: float | None, of_hub: float | None) -> Iterator[CheckResult]:
    """The depot's clock beside the hub's, by the seconds that ours is ahead of each: permissions have an end."""
    if ahead is not None and of_hub is not None and abs(ahead - of_hub) > SKEW:
        says = t(
            "doctor.depot_behind" if ahead > of_hub else "doctor.depot_ahead", seconds=f"{abs(ahead - of_hub):.0f}"
        )
        yield warning("depot", says, t("doctor.depot_clock.do"))


@dataclass(slots=True)
class _Probe:
    link: Link
    file: Fingerprint
    depot: HttpDepot
    id: str = field(default_factory=lambda: f"doctor-{uuid.uuid4().hex[:12]}")
    places: tuple[Place, ...] = ()

    async def result(self, again: Path) -> CheckResult:
        """Put the file, get it as `again`, and remove it."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(WITHIN):
                await self._run(again)
        except (WakestreamError, TimeoutError) as error:
            todo = f"doctor.depot.{getattr(error, 'code', 'down')}.do"
            why = str(error) or t("doctor.depot_silent", seconds=f"{WITHIN:g}")
            return warning("depot", t("doctor.depot_failed", why=why), t(todo if known(todo) else "doctor.depot.do"))
        return ok("depot", t("doctor.depot", time=f"{time.monotonic() - began:.1f}"))

    async def _run(self, again: Path) -> None:
        digest = self.file.digests["blake3"]
        offer = d.DepotOffer(
            request_id=self.id, files=(d.DepotFile(name=d.PROBE, blake3=digest, ext=".bin", size=self.file.size),)
        )
        self.places = await self._places(offer, Places)
        try:
            for place in self.places:
                async for _ in self.depot.put(self.file, place):
                    pass
            for place in await self._places(offer, InDepotDone):
                async for _ in self.depot.get(place, again):
                    pass
        finally:
            await self._ask(d.DepotRemove(request_id=self.id, files=(digest,)))

    async def _places(self, offer: d.DepotOffer, kind: type[Places | InDepotDone]) -> tuple[Place, ...]:
        answer = reply_to(await self._ask(offer), grants=True)
        reply = answer[0] if answer is not None else None
        if isinstance(reply, Places | InDepotDone) and reply.code:
            raise DepotError(reply.reason or reply.code, code=reply.code)
        if not isinstance(reply, kind):
            raise DepotError(t("doctor.depot_lost"), code="lost")
        return reply.places

    async def _ask(self, question: m.Message) -> m.Message:
        def mine(event: Any) -> m.Message | None:
            return event if getattr(event, "request_id", None) == self.id else None

        if (answer := await first(self.link, mine, ANSWER_WITHIN, question)) is None:
            raise TimeoutError
        if isinstance(answer, m.Error):
            raise DepotError(answer.text, code=answer.code or "denied")
        return answer
