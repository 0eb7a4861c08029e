"""The hub as a whole: licenses, journal and server, opened in this order and closed in the other."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from wakestream.adapters.disk.journal import SqliteJournal, open_journal
from wakestream.adapters.disk.state_folder import make_private
from wakestream.adapters.hub.license_uses import LicenseUses
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.hub.server import MAX_CONNECTIONS, HubServer, open_hub
from wakestream.adapters.net.capability_keys import Signer
from wakestream.adapters.net.connection_limits import STRANGERS, Room
from wakestream.adapters.net.rate_limit import Network
from wakestream.adapters.net.tls import ServerTls, warn_unless_private
from wakestream.adapters.net.webhooks import Receiver
from wakestream.adapters.runtime.gc_tuning import SERVER, few_collections
from wakestream.adapters.runtime.rlimits import connections_allowed
from wakestream.adapters.telemetry.recorder import recording
from wakestream.streams.hub.events import Fact
from wakestream.streams.hub.hub import Limits
from wakestream.streams.recording.config_json import plain_config

JOURNAL = "hub.sqlite3"
RESERVE = 16 * 1024 * 1024
"""Free bytes on the disk below which the hub takes no new jobs, so that accepted ones can still be journaled."""


@dataclass(frozen=True, slots=True)
class HubConfig:
    """The settings of a hub.

    Attributes:
        state: Its folder, with licenses and journal.
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        limits: How many connections it accepts, and what GPUs cost.
        tls: The certificate to serve, or None for plain `ws`.
        proxies: Proxies whose `X-Forwarded-For` header is trusted.
        record: The folder for recordings; None records nothing.
        webhook: Receives the news of power and money.
        public: The hub's address for other machines, for the codes that the operator's page makes; empty if unknown.
    """

    state: Path
    host: str = "127.0.0.1"
    port: int = 8765
    limits: Limits = field(default_factory=Limits)
    tls: ServerTls | None = None
    proxies: tuple[Network, ...] = ()
    record: Path | None = None
    webhook: Receiver | None = None
    public: str = ""


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub that listens, and its journal."""

    server: HubServer
    journal: SqliteJournal[Fact]


@asynccontextmanager
async def running_hub(config: HubConfig) -> AsyncIterator[RunningHub]:
    """Serve until the block ends.

    Raises:
        LicenseError: The license file is damaged.
        JournalError: The journal cannot be opened.
        OSError: The address cannot be listened on.
    """
    make_private(config.state)
    book = LicenseBook(config.state)
    signer = Signer.of_folder(config.state)
    async with AsyncExitStack() as stack:
        tap = stack.enter_context(recording(config.record, "hub", 0, {"policy": plain_config(config.limits)}))
        journal: SqliteJournal[Fact] = await stack.enter_async_context(
            open_journal(config.state / JOURNAL, Fact, program="hub")
        )
        server = await stack.enter_async_context(
            open_hub(
                config.host,
                config.port,
                book=book,
                journal=journal,
                limits=config.limits,
                tap=tap,
                disk_low=lambda: shutil.disk_usage(config.state).free < RESERVE,
                room=Room.of(connections_allowed(MAX_CONNECTIONS + STRANGERS)),
                signer=signer,
                tls=config.tls,
                steady=time.monotonic,
                proxies=config.proxies,
                uses=LicenseUses.of_folder(config.state),
                webhook=config.webhook,
                public=config.public,
            )
        )
        _warn(config, book)  # now that the port is ours: another hub there would be the greater trouble
        stack.enter_context(few_collections(*SERVER))
        yield RunningHub(server, journal)


def _warn(config: HubConfig, book: LicenseBook) -> None:
    if not book.all():
        logger.warning("there are no licenses yet, so no program can register; run `wakestream license issue`")
    if config.limits.open_roles:
        roles = " or ".join(sorted(config.limits.open_roles))
        logger.warning(
            "--open-roles: anyone who can reach this port can register as {}; use it in a closed network only", roles
        )
    warn_unless_private(config.host, config.tls)
