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

from wakestream.adapters.config.settings import Settings
from wakestream.adapters.net.hub_link import Link, open_link
from wakestream.adapters.net.tls import client_context
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.hub.status import FEATURE
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

EVERY: Final = 5.0
"""Seconds between two questions; news of a GPU's power is a reason to ask at once."""

AT_LEAST: Final = 0.1
"""Seconds between two questions, however much news there is; the hub answers 20 a second."""

LINGER: Final = 60.0
"""Seconds that the connection stays open after the last page closed: users often return."""

CLOSE: Final = 3.0
"""Seconds that the hub's clock may differ from ours, with the time that its answer took."""

_NEWS = m.PowerState | m.Online | m.Offline | m.Booted | m.BootResult | m.Ack


class GpuWatch:
    """`last` is what is known, as an object for the page; `tell` hears of every change."""

    def __init__(self, settings: Settings, tell: Callable[[dict[str, Any]], None]) -> None:
        self._url, self._key = settings.needs_hub(), settings.needs_key()
        self._ca: SSLContext | None = client_context(settings.ca)
        self._tell = tell
        self._watchers = 0
        self._link: Link | None = None
        self._asking: asyncio.Task[None] | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._ask_now = asyncio.Event()
        self._up = False
        self.last: dict[str, Any] = {"hub": "connecting"}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While the block runs, the hub is asked."""
        self._watchers += 1
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if self._link is None:
            self._begin()
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._ending = asyncio.get_running_loop().call_later(LINGER, self._end)

    def ask_soon(self) -> None:
        """A job of this program started or stopped using a GPU: the stored state is out of date."""
        self._ask_now.set()

    def _begin(self) -> None:
        features = (FEATURE, "power_state")
        register = m.Register(key=self._key, device_type="pc", features=features)
        self._link = open_link(self._url, lambda: register, ca=self._ca)
        self._link.events.subscribe(self._hear)
        self._asking = asyncio.create_task(self._ask(self._link), name="gpu-status")

    def _end(self) -> None:
        link, asking, self._link, self._asking, self._ending = self._link, self._asking, None, None, None
        if asking is not None:
            asking.cancel()
        if link is not None:
            closing = asyncio.create_task(link.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Ask no more."""
        if self._ending is not None:
            self._ending.cancel()
        self._end()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _ask(self, link: Link) -> None:
        while True:
            self._ask_now.clear()
            if self._up:
                link.send(m.HubStatusQuery(request_id=f"console-{uuid.uuid4().hex}"))
            await asyncio.sleep(AT_LEAST)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._ask_now.wait()

    def _hear(self, event: object) -> None:
        match event:
            case LinkUp(features=features):
                self._up = FEATURE in features
                if not self._up:
                    self._note({"hub": "old"})
                self._ask_now.set()
            case LinkDown(reason=why, code=code, connecting=connecting):
                self._up = False
                hub = "refused" if code else "connecting" if connecting else "down"
                self._note({**self.last, "hub": hub, "why": why})
            case m.HubStatus():
                told = wire.to_frame(event).get("data", {})
                self._note({"hub": "up", **by_our_clock({**told, "ts": event.ts}, time.time())})
            case _ if isinstance(event, _NEWS):
                self._ask_now.set()

    def _note(self, known: dict[str, Any]) -> None:
        if known != self.last:
            self.last = known
            self._tell(known)


def by_our_clock(told: dict[str, Any], now: float) -> dict[str, Any]:
    """A status whose times are those of this machine's clock: the page counts on from them."""
    ahead = (told["ts"] or now) - now
    if abs(ahead) < CLOSE:
        return told
    gpus = [{**gpu, "since": gpu["since"] - ahead} if gpu.get("since") else gpu for gpu in told.get("gpus", ())]
    return {**told, "ts": now, "gpus": gpus}
