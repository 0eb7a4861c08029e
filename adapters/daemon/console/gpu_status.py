"""The state of the GPUs, queried from the hub while a page is open."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from msgspec.structs import replace

from wakestream.adapters.net.hub_link import Link
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.protocol.features import HUB_STATUS

EVERY: Final = 5.0
"""Seconds between two queries; after news of a GPU's power it queries at once."""

AT_LEAST: Final = 0.1
"""Least seconds between two queries; the hub answers 20 per second."""

CLOSE: Final = 3.0
"""Seconds that the hub's clock may differ from ours, including the duration of the query."""

_TIMES: Final = ("since", "retry_at")

_NEWS = m.PowerState | m.Online | m.Offline | m.Booted | m.BootResult | m.Ack


class GpuWatch:
    """Queries the hub. `last` is its latest status as an object for the page; `tell` is called at every change.

    `features` is what the hub announced last.
    """

    def __init__(self, link: Link, tell: Callable[[dict[str, Any]], None]) -> None:
        self._link, self._tell = link, tell
        self._watchers = 0
        self._ask_now = asyncio.Event()
        self._up = False
        self.features: frozenset[str] = frozenset()
        self.last: dict[str, Any] = {"hub": "connecting"}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Query the hub while the block runs."""
        self._watchers += 1
        self._ask_now.set()
        try:
            yield
        finally:
            self._watchers -= 1

    def ask_soon(self) -> None:
        """A job of this program started or stopped using a GPU: the stored state is out of date."""
        self._ask_now.set()

    async def run(self) -> None:
        """Follow the connection, and query while somebody watches."""
        with self._link.events.subscribe(self._hear):
            while True:
                self._ask_now.clear()
                if self._up and self._watchers:
                    self._link.send(m.HubStatusQuery(request_id=f"console-{uuid.uuid4().hex}"))
                await asyncio.sleep(AT_LEAST)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY):
                        await self._ask_now.wait()

    def _hear(self, event: object) -> None:
        match event:
            case LinkUp(features=features):
                self._up, self.features = HUB_STATUS in features, features
                if not self._up:
                    self._note({"hub": "old"})
                self._ask_now.set()
            case LinkDown(reason=why, code=code, connecting=connecting):
                self._up = False
                hub = "refused" if code else "connecting" if connecting else "down"
                self._note({**self.last, "hub": hub, "why": why})
            case m.HubStatus():
                status = wire.to_frame(replace(event, costs=None)).get("data", {})
                status["orders"] = m.GpuAdmin.FEATURE in self.features
                status["stuck"] = stuck(status)
                self._note({"hub": "up", **by_our_clock({**status, "ts": event.ts}, time.time())})
            case _ if isinstance(event, _NEWS):
                self._ask_now.set()

    def _note(self, known: dict[str, Any]) -> None:
        if known != self.last:
            self.last = known
            self._tell(known)


_COMING: Final = ("online", "booted", "starting", "draining", "stopping")
"""The phases of a GPU that is on, or will be: a GPU that stops starts again for a job."""


def stuck(status: Mapping[str, Any]) -> str | None:
    """The first of the GPUs that could do the waiting jobs, if none of them can come now; else None."""
    gpus = status.get("gpus") or ()
    able = [gpu for gpu in gpus if gpu.get("waiting") != 0] or gpus
    return None if not able or any(_comes(gpu, status) for gpu in able) else able[0]["gpu"]


def _comes(gpu: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    spent = (not each["left"] and each.get("gpu", gpu["gpu"]) == gpu["gpu"] for each in status.get("budgets") or ())
    can_start = status.get("monitors") != 0 and gpu.get("watched") is not False and not any(spent)
    held = (gpu.get("plan") or {}).get("do") == "held"
    return not held and (gpu["phase"] in _COMING or (gpu["phase"] == "off" and can_start))


def by_our_clock(status: dict[str, Any], now: float) -> dict[str, Any]:
    """The status with its times converted to this machine's clock, from which the page continues to count."""
    ahead = (status["ts"] or now) - now
    if abs(ahead) < CLOSE:
        return status
    gpus = [{**gpu, **{name: gpu[name] - ahead for name in _TIMES if gpu.get(name)}} for gpu in status.get("gpus", ())]
    return {**status, "ts": now, "gpus": gpus}
