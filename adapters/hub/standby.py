"""Several hubs on one database: one leads, the others follow its facts and answer 503 until they lead."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from loguru import logger
from websockets.asyncio.server import ServerConnection

from wakestream.adapters.disk.state_folder import prepare_state
from wakestream.adapters.hub.admission import Admission, listening_at
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.hub_page import standby_page
from wakestream.adapters.net.connection_limits import ConnectionLimits, Proxies
from wakestream.adapters.net.refusals import noted
from wakestream.operators.model.errors import JournalError
from wakestream.streams.hub import hub
from wakestream.streams.hub.events import Fact
from wakestream.streams.recording.facts_json import FactsJson

if TYPE_CHECKING:  # it needs a library that is not always installed
    from wakestream.adapters.disk.postgres_store import PostgresStore

EVERY = 0.2
"""Seconds between two questions whether this hub may lead. A call that waits would hold back the server's vacuum."""

AGAIN = 1.0
"""Seconds until the next attempt to reach the database."""


@dataclass(frozen=True, slots=True)
class Term:
    """What a hub has that leads: the store, in which only it may write, and the state up to its last fact."""

    store: PostgresStore
    state: hub.HubState


class Standby:
    """Keeps the hub's state as the journal in its database says, until this hub leads.

    Args:
        config: The hub's settings. Its licenses are in the database.
    """

    def __init__(self, config: HubConfig) -> None:
        self._config = config
        self._address = str(config.book.documents.place)
        self._name = f"{socket.gethostname()}:{config.port}"
        self._json: FactsJson[Fact] = FactsJson(cast("type[Fact]", Fact), self._address)
        self._store: PostgresStore | None = None
        self._state = hub.HubState(config.limits)

    def step(self) -> Term | None:
        """Read what is new; returns what is needed to lead if no other hub does. After an error it begins again."""
        try:
            store = self._store or self._begin()
            leads = store.lead(self._name)
            if not leads:
                store.follow()
            role = self._config.leadership
            role.cluster, role.leader, role.epoch = store.id, store.leader, store.epoch
            if snapshot := store.restore():
                self._state = hub.DECIDER.restore(snapshot, hub.HubState(self._config.limits))
            for row in store.read():
                hub.DECIDER.evolve(self._state, self._json.fact(row))
        except JournalError:
            self.close()
            raise
        if not leads:
            role.read = time.monotonic()
            return None
        self._store = None  # the journal closes it
        return Term(store, self._state)

    def close(self) -> None:
        """End the session."""
        if self._store is not None:
            self._store.close()
        self._store = None

    def _begin(self) -> PostgresStore:
        from wakestream.adapters.disk.postgres_documents import PostgresDocuments
        from wakestream.adapters.disk.postgres_store import PostgresStore

        documents = self._config.book.documents
        assert isinstance(documents, PostgresDocuments)  # noqa: S101 - where the journal is, there are the documents
        self._state = hub.HubState(self._config.limits)
        self._store = PostgresStore(self._address, documents, self._config.bound)
        self._store.keep()  # the first read of many jobs takes seconds, and so does what follows when it leads
        return self._store


async def until_leading(config: HubConfig, stop: asyncio.Event, *, again: bool = False) -> Term | None:
    """Wait until this hub leads; None if it is to stop before. Meanwhile it answers 503 at its address.

    Args:
        config: The hub's settings.
        stop: Ends the wait.
        again: Whether this hub has used the database before, so that errors pass. Otherwise the first is raised.

    Raises:
        JournalError: The database cannot be used.
        OSError: The address cannot be listened on.
    """
    if config.bound is not None:
        prepare_state(config.bound.parent)
    standby, said, role = Standby(config), "", config.leadership
    role.leads, role.leader, role.read = False, "", None
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(standby.close)
        if again:  # its peers come back at once, and to read all jobs takes seconds
            await stack.enter_async_context(_refusing(config))
        while not stop.is_set():
            pause = EVERY
            try:
                if (term := await asyncio.to_thread(standby.step)) is not None:
                    role.cut_off = False
                    return term
                role.cut_off = False
                news = role.standing_by
            except JournalError as error:
                if not again:
                    raise
                role.leader, role.cut_off = "", True
                pause, news = AGAIN, f"{error}; this hub stands by and tries again"
            if not again:
                await stack.enter_async_context(_refusing(config))
            again = True
            if news != said:
                logger.log("ERROR" if pause == AGAIN else "INFO", "{}", news)
                said = news
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()
        return None


@contextlib.asynccontextmanager
async def _refusing(config: HubConfig) -> AsyncIterator[None]:
    """Answer each caller that another hub leads, until the block ends."""
    places = ConnectionLimits(config.room, config.limits.per_address, noted("hub"), Proxies(config.proxies))
    role = config.leadership
    gate = Admission(
        places, lambda _: (False, None), lambda languages: standby_page(role.leader, languages), lambda *_: None, role
    )
    async with listening_at(config.host, config.port, config.tls, gate, ServerConnection.wait_closed):
        try:
            yield
        finally:
            gate.cut_handshakes()
