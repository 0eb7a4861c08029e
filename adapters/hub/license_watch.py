"""What a running hub does about its licenses: it finds keys, notices what changes in the book, and notes their use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from loguru import logger

from wakestream.adapters.hub.license_uses import LicenseUses
from wakestream.adapters.hub.licenses import License, LicenseBook, LicenseError, key_mark
from wakestream.streams.hub import events as f
from wakestream.streams.hub import hub

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


class LicenseWatch:
    """The book of one hub beside its `state`. What is new there goes to `happen`, as events."""

    def __init__(
        self,
        book: LicenseBook,
        uses: LicenseUses | None,
        state: hub.HubState,
        clock: Callable[[], float],
        happen: Callable[[f.Event], None],
    ) -> None:
        self._book, self._uses, self._state, self._clock, self._happen = book, uses, state, clock, happen
        self.address_of: Callable[[ServerConnection | None], str] = lambda _: ""
        self._marks: dict[int, str] = {}
        self._owners: dict[int, str] = {}
        self._told = f.BookSeen()
        self._fault: str | None = None

    # Keys

    def find(self, key: str) -> License | None:
        """The license of a key, revoked ones as well."""
        return self._book.find(key, self._clock())

    def shown(self, fd: int, key: str) -> None:
        """This connection has shown this key, and ends with it; another that it shows later changes nothing."""
        if fd in self._state.connections:
            self._marks.setdefault(fd, key_mark(key))

    def end_replaced_keys(self) -> None:
        """Close the connections that showed a key whose time is over since."""
        over = self._book.replaced(self._clock())
        for fd in [fd for fd, mark in self._marks.items() if mark in over] if over else ():
            self._happen(f.KeyEnded(fd))

    # The book

    def begin(self) -> None:
        """Tell what changed while the hub was away."""
        state = self._state
        holders = {id_ for id_, _ in state.holders.values()}
        for id_ in self._book.revoked & (state.jobs_of.keys() | state.kept.keys() | holders):
            self._happen(f.Revoked(id_))
        self._tell_of_gpus(sorted(id_ for id_ in holders if id_ not in self._book))

    def look(self) -> None:
        """Notice licenses that were issued, revoked or released since the last look."""
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
        self._tell_of_gpus()

    def _tell_of_gpus(self, gone: Iterable[str] = ()) -> None:
        """Which licenses are for which GPUs, where that is new; `gone` are licenses that are not there any more."""
        seen = f.BookSeen(self._book.tied, (*self._book.released, *((id_, self._clock()) for id_ in gone)))
        if seen != self._told:
            self._told = seen
            self._happen(seen)

    # Use

    def note(self, fact: f.Fact, socket_of: Callable[[int], ServerConnection | None], now: float) -> None:
        """A connection of a license has come or gone, if the fact is about that."""
        if isinstance(fact, f.ConnectionRegistered) and fact.owner is not None:
            self._owners[fact.fd] = fact.owner
            if self._uses is not None:
                self._uses.note(fact.owner, self.address_of(socket_of(fact.fd)), now)
        elif isinstance(fact, f.ConnectionClosed):
            self._marks.pop(fact.fd, None)
            owner = self._owners.pop(fact.fd, None)
            if owner is not None and self._uses is not None:
                self._uses.left(owner, now)

    async def keep_uses(self, *, last: bool = False) -> None:
        """Note on the disk when the licenses were used, if that is due, or for the `last` time."""
        if self._uses is not None:
            text = self._uses.due(self._state.by_owner.keys(), self._state.holders, self._clock(), last=last)
            if text is not None:
                await asyncio.to_thread(self._uses.write, text)
