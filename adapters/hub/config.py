"""The settings of a hub."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext

from wakestream.adapters.depot.store import DepotStore
from wakestream.adapters.hub.license_uses import LicenseUses
from wakestream.adapters.hub.licenses import LicenseBook
from wakestream.adapters.net.acceptor import Listening
from wakestream.adapters.net.capability_keys import Signer
from wakestream.adapters.net.connection_limits import STRANGERS, Network, Room
from wakestream.adapters.net.tls import ServerTls
from wakestream.adapters.net.webhooks import Receiver
from wakestream.streams.hub.hub import Limits
from wakestream.streams.recording.recording import Tap, untapped

MAX_CONNECTIONS = 20_000


@dataclass(slots=True)
class Leadership:
    """Which hub of a cluster leads, as this one knows it. A hub whose journal is in its folder is alone and leads.

    Attributes:
        cluster: The journal's id; empty as long as it is not known.
        seq: The number of the last fact in the journal when this hub began to lead.
        leads: Whether this hub leads.
        leader: What the leading hub said of itself.
        cut_off: Whether this hub cannot use the database now.
        epoch: How often the leader has changed; None without a database.
        read: When this hub, standing by, last read all that the leader wrote (`time.monotonic`); None if never.
        took: Seconds from then until this hub served as the leader; None if it took over from no other one.
        kept: The sockets at which it listens, also while it begins or ends to lead; None if it is alone.
    """

    cluster: str = ""
    seq: int = 0
    leads: bool = True
    leader: str = ""
    cut_off: bool = False
    epoch: int | None = None
    read: float | None = None
    took: float | None = None
    kept: list[Listening] | None = None

    @property
    def standing_by(self) -> str:
        """Why this hub lets no one in."""
        if self.cut_off:
            return "this hub stands by, because it cannot use its database; see its log"
        return f"this hub stands by{f', {self.leader} leads' if self.leader else ' and reads the journal'}"

    @property
    def headers(self) -> Mapping[str, str]:
        """What each HTTP response says of it."""
        told = {"Wakestream-Cluster": self.cluster, "Wakestream-Leader": self.leader}
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, slots=True)
class HubConfig:
    """The settings of a hub.

    Attributes:
        book: The licenses.
        host: The address to listen at.
        port: The port; 0 takes a free one.
        limits: How many connections it accepts, and what GPUs cost.
        tls: The certificate; without it, connections are not encrypted.
        proxies: Networks whose forwarded client addresses the hub trusts.
        record: The folder for recordings; None records nothing.
        webhook: Receives the news of power and money.
        public: The hub's address for other machines, or those of its cluster, separated by commas, for the codes that
            the operator's page makes; empty if unknown.
        tap: Records events and frames.
        clock: Returns UNIX seconds.
        steady: Returns monotonic seconds. With it, leases and time limits keep their lengths when the clock is set.
        disk_low: Whether the disk is nearly full; then the hub refuses new jobs.
        signer: Signs capabilities; by default with a new key.
        uses: Records when and from where each license was used.
        room: Limits the number of connections.
        bucket: The depot, if it is a bucket; else it is our own depot, once one connects.
        ca: Verifies our own depot, if the system does not trust its certificate.
        bound: See `PostgresStore`; None for a journal in SQLite.
        leadership: Which hub leads.
    """

    book: LicenseBook
    host: str = "127.0.0.1"
    port: int = 0
    limits: Limits = field(default_factory=Limits)
    tls: ServerTls | None = None
    proxies: Collection[Network] = ()
    record: Path | None = None
    webhook: Receiver | None = None
    public: str = ""
    tap: Tap = untapped
    clock: Callable[[], float] = time.time
    steady: Callable[[], float] | None = None
    disk_low: Callable[[], bool] = lambda: False
    signer: Signer = field(default_factory=Signer.fresh)
    uses: LicenseUses | None = None
    bucket: DepotStore | None = None
    ca: SSLContext | None = None
    room: Room = field(default_factory=lambda: Room(MAX_CONNECTIONS, STRANGERS))
    bound: Path | None = None
    leadership: Leadership = field(default_factory=Leadership)
