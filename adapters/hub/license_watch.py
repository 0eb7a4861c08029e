"""The licenses of a running hub: find keys, notice changes in the file, and record uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from loguru import logger

from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.licenses import LicenseError, key_mark
from wakestream.adapters.runtime.tasks import finish_despite_cancel
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub
from wakestream.streams.protocol import messages as m

if TYPE_CHECKING:
    from websockets.http11 import Request


class LicenseWatch:
    """Watches the license book of a hub with this `state`; passes changes to `happen` as events."""

    def __init__(self, config: HubConfig, state: hub.HubState, happen: Callable[[f.Event], None]) -> None:
        self._book, self._uses, self._clock = config.book, config.uses, config.clock
        self._state, self._happen = state, happen
        self._marks: dict[int, str] = {}
        self._owners: dict[int, str] = {}
        self._last_seen = f.BookSeen()
        self._fault: str | None = None

    # Keys

    def known(self, key: object) -> f.License | None:
        """The license of a key, even if it was revoked; None for another value."""
        license_ = self._book.find(key, self._clock()) if isinstance(key, str) else None
        if license_ is None:
            return None
        return f.License(license_.id, license_.role, license_.revoked is not None, license_.max_priority)

    def judge(self, request: Request) -> tuple[bool, tuple[str, str] | None]:
        """Whether a handshake has a known license, and why it is refused: a code and a sentence."""
        known = self.known(bearer(request))
        return known is not None, hub.unwelcome(self._state, known) if known is not None else None

    def with_license(self, message: m.Unknown) -> m.Unknown:
        """Put the license id beside the key in a frame: decisions use the id only."""
        known = self.known(message.frame.get("key"))
        frame = {name: value for name, value in message.frame.items() if name != "license"}
        return m.Unknown(type=message.type, frame=frame | ({"license": known.id} if known is not None else {}))

    def shown(self, fd: int, key: str) -> None:
        """Record that this connection uses this key, so that it ends with the key. Later keys are ignored."""
        if fd in self._state.connections:
            self._marks.setdefault(fd, key_mark(key))

    def end_replaced_keys(self) -> None:
        """Close the connections whose key was replaced and is no longer valid."""
        over = self._book.replaced(self._clock())
        for fd in [fd for fd, mark in self._marks.items() if mark in over] if over else ():
            self._happen(f.KeyEnded(fd))

    # The book

    def begin(self) -> None:
        """Pass on what changed while the hub did not run."""
        state = self._state
        holders = {id_ for id_, _ in state.holders.values()}
        for id_ in self._book.revoked & (state.jobs_of.keys() | state.kept.keys() | holders):
            self._happen(f.Revoked(id_))
        self._update_gpus(sorted(id_ for id_ in holders if id_ not in self._book))

    def look(self) -> None:
        """Pass on licenses that were issued, revoked or released since the last call."""
        try:
            revoked = self._book.refresh()
        except LicenseError as error:
            if str(error) != self._fault:
                logger.error("{}", error)
            self._fault = str(error)
            return
        self._fault = None
        for id_ in revoked:
            logger.info("license {} was revoked", id_)
            self._happen(f.Revoked(id_))
        self._update_gpus()

    def _update_gpus(self, gone: Iterable[str] = ()) -> None:
        """Pass on GPUs and weights of licenses, if they have changed; `gone` are removed licenses."""
        released = (*self._book.released, *((id_, self._clock()) for id_ in gone))
        seen = f.BookSeen(self._book.tied, released, self._book.weights)
        if seen != self._last_seen:
            self._last_seen = seen
            self._happen(seen)

    # Use

    def note_registered(self, fact: f.ConnectionRegistered, address: str) -> None:
        """Record that a connection from this address uses a license."""
        if fact.owner is not None:
            self._owners[fact.fd] = fact.owner
            if self._uses is not None:
                self._uses.note(fact.owner, address, self._clock())

    def note_page(self, license_: str, address: str) -> None:
        """Record that the operator's page was opened from this address with a license."""
        if self._uses is not None:
            self._uses.note(license_, address, self._clock())

    def note_closed(self, fd: int) -> None:
        """Record that a connection no longer uses its license."""
        self._marks.pop(fd, None)
        owner = self._owners.pop(fd, None)
        if owner is not None and self._uses is not None:
            self._uses.left(owner, self._clock())

    async def keep_uses(self, *, last: bool = False) -> None:
        """Write the uses of licenses to the disk, if that is due or the hub is stopping (`last`)."""
        if self._uses is not None:
            text = self._uses.due(self._state.by_owner.keys(), self._state.holders, self._clock(), last=last)
            if text is not None:
                await finish_despite_cancel(asyncio.to_thread(self._uses.write, text))


def bearer(request: Request | None) -> str | None:
    """The key in the header of a handshake."""
    headers = request.headers.get_all("Authorization") if request is not None else []
    scheme, _, token = (headers[0] if len(headers) == 1 else "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
