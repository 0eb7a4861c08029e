"""The hub as a whole: licenses, journal and server, opened in this order and closed in the other."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from loguru import logger

from wakestream.adapters.disk.journal import StoredJournal, journal_in, open_journal
from wakestream.adapters.disk.state_folder import prepare_state
from wakestream.adapters.hub.config import MAX_CONNECTIONS, HubConfig
from wakestream.adapters.hub.license_uses import LicenseUses
from wakestream.adapters.hub.server import HubServer, open_hub
from wakestream.adapters.hub.standby import Term
from wakestream.adapters.net.capability_keys import Signer
from wakestream.adapters.net.connection_limits import STRANGERS, Room
from wakestream.adapters.net.tls import warn_unless_private
from wakestream.adapters.runtime.gc_tuning import SERVER, few_collections
from wakestream.adapters.runtime.rlimits import connections_allowed
from wakestream.adapters.telemetry.recorder import recording
from wakestream.streams.hub.events import Fact
from wakestream.streams.recording.config_json import plain_config

JOURNAL = "hub.sqlite3"
RESERVE = 16 * 1024 * 1024
"""Free bytes on the disk below which the hub takes no new jobs, so that accepted ones can still be journaled."""


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub that listens, and its journal."""

    server: HubServer
    journal: StoredJournal[Fact]


@asynccontextmanager
async def running_hub(config: HubConfig, term: Term | None = None) -> AsyncIterator[RunningHub]:
    """Serve until the block ends, with journal, signing key and uses beside the licenses.

    Args:
        config: Its settings.
        term: What `until_leading` returned, for a journal in a database.

    Raises:
        Fenced: The database has ended the session, so another hub may lead.
        LicenseError: The license file is damaged.
        JournalError: The journal cannot be opened.
        OSError: The address cannot be listened on.
    """
    folder = (config.bound or config.book.path).parent
    prepare_state(folder)
    async with AsyncExitStack() as stack:
        tap = stack.enter_context(recording(config.record, "hub", 0, {"policy": plain_config(config.limits)}))
        opening: AbstractAsyncContextManager[StoredJournal[Fact]] = (
            open_journal(folder / JOURNAL, Fact, program="hub") if term is None else journal_in(term.store, Fact)
        )
        journal = await stack.enter_async_context(opening)
        config = replace(
            config,
            tap=tap,
            steady=time.monotonic,
            disk_low=(lambda: shutil.disk_usage(folder).free < RESERVE) if term is None else config.disk_low,
            signer=Signer.of_folder(config.book.documents),
            uses=LicenseUses.of_folder(config.book.documents, writes=True),
            room=Room.of(connections_allowed(MAX_CONNECTIONS + STRANGERS)),
        )
        role = config.leadership
        role.cluster, role.seq, role.leads = journal.id, journal.seq, True
        role.sure = role.sure if term is None else term.store.leads
        server = await stack.enter_async_context(open_hub(config, journal, None if term is None else term.state))
        role.took = None if role.read is None else time.monotonic() - role.read
        journal.on_broken = server.lose
        server.on_stopped = journal.close  # the next leader need not wait for peers that do not answer
        _warn(config)  # now that the port is ours: another hub there would be the greater trouble
        stack.enter_context(few_collections(*SERVER))
        yield RunningHub(server, journal)


def _warn(config: HubConfig) -> None:
    if not config.book.all():
        logger.warning("there are no licenses yet, so no program can register; run `wakestream license issue`")
    if config.limits.open_roles:
        roles = " or ".join(sorted(config.limits.open_roles))
        logger.warning(
            "--open-roles: anyone who can reach this port can register as {}; use it in a closed network only", roles
        )
    warn_unless_private(config.host, config.tls)
