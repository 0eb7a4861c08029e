"""The state of the GPUs, queried from the hub while a page is open, on a separate connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any, Final

from msgspec.structs import replace

from wakestream.adapters.client.hub_query import ANSWER_WITHIN, Answer, Query, ask, feature_of, old_hub
from wakestream.adapters.config.settings import Settings
from wakestream.adapters.net.hub_link import Link, open_link
from wakestream.adapters.net.tls import client_context
from wakestream.adapters.runtime.tasks import background, restarted
from wakestream.operators.model.errors import HubUnreachable
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.hub.capabilities import FEATURE as CAPABILITY
from wakestream.streams.hub.power import OF_GPU
from wakestream.streams.hub.status import FEATURE, WHERE
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

EVERY: Final = 5.0
"""Seconds between two queries; after news of a GPU's power it queries at once."""

AT_LEAST: Final = 0.1
"""Least seconds between two queries; the hub answers 20 per second."""

LINGER: Final = 60.0
"""Seconds that the connection stays open after the last page closed: users often return."""

CLOSE: Final = 3.0
"""Seconds that the hub's clock may differ from ours, including the duration of the query."""

ANNOUNCED: Final = (FEATURE, WHERE, OF_GPU, CAPABILITY, "power_state", m.GpuAdmin.FEATURE)
"""Also for the questions of commands, which have no connection of their own; `doctor` asks for the capabilities."""

_TIMES: Final = ("since", "retry_at")

_NEWS = m.PowerState | m.Online | m.Offline | m.Booted | m.BootResult | m.Ack


class GpuWatch:
    """Queries the hub. `last` is its latest status as an object for the page; `tell` is called at every change.

    `features` is what the hub announced last.
    """

    def __init__(self, settings: Settings, tell: Callable[[dict[str, Any]], None]) -> None:
        self._url, self._key = settings.needs_hub(), settings.needs_key()
        self._ca: SSLContext | None = client_context(settings.ca)
        self._tell = tell
        self._watchers = 0
        self._asking: asyncio.Task[None] | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._ask_now = asyncio.Event()
        self._up = False
        self.features: frozenset[str] = frozenset()
        self._link: Link | None = None
        self.last: dict[str, Any] = {"hub": "connecting"}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Query the hub while the block runs."""
        self._watchers += 1
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if self._asking is None or self._asking.cancelling() or self._asking.done():
            self._asking = background("gpu-status", restarted("the question for the GPUs", self._ask))
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._ending = asyncio.get_running_loop().call_later(LINGER, self._asking.cancel)

    def ask_soon(self) -> None:
        """A job of this program started or stopped using a GPU: the stored state is out of date."""
        self._ask_now.set()

    async def ask(self, query: Query, kind: type[Answer], within: float = ANSWER_WITHIN) -> Answer:
        """Ask the hub, over the same connection.

        Raises:
            HubUnreachable: no connection, or no answer in time.
            HubRefused: the hub refuses the connection or the question, or is too old for it.
        """
        with self.watched():
            await asyncio.sleep(0)  # a new task opens the connection
            if self._link is None:
                raise HubUnreachable("the daemon is stopping")
            if self._link.up and not (self._up and feature_of(query) in self.features):
                raise old_hub(query)
            return await ask(self._link, query, kind, within)

    async def close(self) -> None:
        """Stop querying."""
        if self._ending is not None:
            self._ending.cancel()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> None:
        register = m.Register(key=self._key, device_type="pc", features=ANNOUNCED)
        self._link = link = open_link(self._url, lambda: register, ca=self._ca)
        link.events.subscribe(self._hear)
        try:
            while True:
                self._ask_now.clear()
                if self._up:
                    link.send(m.HubStatusQuery(request_id=f"console-{uuid.uuid4().hex}"))
                await asyncio.sleep(AT_LEAST)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY):
                        await self._ask_now.wait()
        finally:
            await link.close()

    def _hear(self, event: object) -> None:
        match event:
            case LinkUp(features=features):
                self._up, self.features = FEATURE in features, features
                if not self._up:
                    self._note({"hub": "old"})
                self._ask_now.set()
            case LinkDown(reason=why, code=code, connecting=connecting):
                self._up = False
                hub = "refused" if code else "connecting" if connecting else "down"
                self._note({**self.last, "hub": hub, "why": why})
            case m.HubStatus():
                told = wire.to_frame(replace(event, costs=None)).get("data", {})
                told["orders"] = m.GpuAdmin.FEATURE in self.features
                self._note({"hub": "up", **by_our_clock({**told, "ts": event.ts}, time.time())})
            case _ if isinstance(event, _NEWS):
                self._ask_now.set()

    def _note(self, known: dict[str, Any]) -> None:
        if known != self.last:
            self.last = known
            self._tell(known)


def by_our_clock(told: dict[str, Any], now: float) -> dict[str, Any]:
    """The status with its times converted to this machine's clock, from which the page continues to count."""
    ahead = (told["ts"] or now) - now
    if abs(ahead) < CLOSE:
        return told
    gpus = [{**gpu, **{name: gpu[name] - ahead for name in _TIMES if gpu.get(name)}} for gpu in told.get("gpus", ())]
    return {**told, "ts": now, "gpus": gpus}
