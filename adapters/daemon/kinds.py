"""What the GPUs can do, as the daemon knows it: from the hub, and from the disk when the hub is not there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
from loguru import logger
from reactivex.abc import DisposableBase

from wakestream.adapters.client.hub_query import ask_kinds
from wakestream.adapters.disk.secret_values import FILE as SECRET_VALUES
from wakestream.adapters.disk.secret_values import SecretValues
from wakestream.adapters.disk.state_file import keep_state, read_state
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.runtime.known_secrets import hide_params, secret_names
from wakestream.adapters.runtime.tasks import background, end, first_of
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.kinds import KINDS
from wakestream.streams.protocol.known_kinds import UNKNOWN, GpuOfKind, KnownKinds, from_plain

FILE: Final = "kinds.json"

FRESH: Final = 2.0
"""Seconds for which an answer of the hub counts as the present state."""

WAIT: Final = 3.0
"""Seconds that a caller waits for the hub; after that it gets what was known before."""


class DaemonKinds:
    """Asks the hub for the kinds: at each connection, when they change, when a GPU comes or goes, and for callers.

    Args:
        hub: The hub's address.
        folder: The daemon's folder, where the last known kinds are kept.

    Attributes:
        known: What is known without asking again.
    """

    def __init__(self, hub: str, folder: Path) -> None:
        self._hub, self._path = hub, folder / FILE
        self.known = _read(self._path, hub)
        self._link: Link  # since `follow`
        self._at = float("-inf")
        self._up, self._heard = False, asyncio.Event()  # `_heard`: whether the hub was reached, or not, once
        self._asking: asyncio.Task[None] | None = None
        self._again = False
        self._online: dict[str, bool] = {}
        self._phases: dict[str, str] = {}
        self.secrets = SecretValues(folder / SECRET_VALUES)
        self.on_change: Callable[[], None] = lambda: None

    def follow(self, link: Link) -> DisposableBase:
        """Ask over this connection from now on, and handle its events."""
        self._link = link
        return link.events.subscribe(self._feed)

    def _feed(self, event: object) -> None:
        match event:
            case LinkUp(features=features):
                self._heard.set()
                self._up = KINDS in features
                self.known = self.known if self._up else _not_told(self.known)
                self._ask_again()
            case LinkDown(connecting=connecting):
                self._up, self.known = False, _stale(self.known)
                if not connecting:
                    self._heard.set()
            case m.KindsChanged():
                self._ask_again()
            case m.PowerState(gpu=gpu, state=state) if self._online.get(gpu) != (state == "online"):
                self._online[gpu] = state == "online"
                self._ask_again()

    async def present(self) -> KnownKinds:
        """The kinds as they are now; after a few seconds without an answer, as they were."""
        if not self._heard.is_set():
            await first_of(self._heard.wait(), asyncio.sleep(WAIT))
        if self._up and time.monotonic() - self._at > FRESH:
            asking = self._asking or self._ask()
            await asyncio.wait([asking], timeout=WAIT)
        return self.known

    def shown(self, kind: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a job without secrets, which also logs and recordings do not show from now on."""
        return hide_params(self.known.named(kind), params) if params else {}

    def marked(self, kind: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a job, to compare with those of a stored job."""
        return self.secrets.marked(params, secret_names(self.known.named(kind), params))

    def hidden(self, kind: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a job as they may be stored and sent to the hub."""
        return self.secrets.hide(params, secret_names(self.known.named(kind), params))

    async def close(self) -> None:
        """Stop asking."""
        self._up = False
        if self._asking is not None:
            await end(self._asking)

    def gpus_are(self, phases: Mapping[str, str]) -> None:
        """Ask the hub again if the phase of a GPU has changed: the hub tells clients nothing of one that was lost."""
        if phases != self._phases:
            self._phases = dict(phases)
            self._ask_again()

    def _ask_again(self) -> None:
        """Ask now, or once more if an answer that may be older than a change has not come yet."""
        self._again = self._asking is not None
        if self._up:
            self._ask()

    def _ask(self) -> asyncio.Task[None]:
        if self._asking is None:
            self._asking = background("the question for kinds", self._asked())
            self._asking.add_done_callback(self._ended)
        return self._asking

    def _ended(self, _: object) -> None:
        self._asking = None
        if self._again and self._up:
            self._again = False
            self._ask()

    async def _asked(self) -> None:
        try:
            answer = await ask_kinds(self._link)
        except WakestreamError as error:
            logger.debug("the kinds are not known: {}", error)
            return
        self._at, before = time.monotonic(), self.known
        answer = answer if self._up else _stale(answer)
        self.known = answer if answer.known else _not_told(before)
        if self.known != before:
            self.on_change()
        if answer.known and answer.kinds != before.kinds:
            await keep_state(self._path, orjson.dumps({"v": 1, "hub": self._hub, **answer.plain()}))


def _stale(known: KnownKinds) -> KnownKinds:
    """The last known kinds, while the hub cannot be asked: there may be others by now."""
    kinds = tuple(
        replace(kind, gpus=tuple(GpuOfKind(gpu.gpu, online=False) for gpu in kind.gpus)) for kind in known.kinds
    )
    return KnownKinds(kinds, known.known, complete=False)


def _not_told(known: KnownKinds) -> KnownKinds:
    """The last known kinds, at a hub that does not tell them."""
    return replace(_stale(known), known=False)


def _read(path: Path, hub: str) -> KnownKinds:
    def parsed(content: bytes) -> KnownKinds:
        plain = msgspec.json.decode(content, type=dict[str, Any])
        return _stale(from_plain(plain)) if plain.get("hub") == hub else UNKNOWN

    return read_state(path, parsed, UNKNOWN, cache=True)
