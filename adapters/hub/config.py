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
    """Which hub of a cluster leads, as this one knows it. A hub whose journal is in its folder is alone and leads."""

    cluster: str = ""
    """The journal's id; empty as long as it is not known."""
    seq: int = 0
    """The number of the last fact in the journal when this hub began to lead."""
    leads: bool = True
    """Whether this hub leads, or was the leader when it last knew."""
    sure: Callable[[], bool] = lambda: True
    """Whether it still does: no other one can lead yet, by its own clock."""
    leader: str = ""
    """What the leading hub said of itself."""
    cut_off: bool = False
    """Whether this hub cannot use the database now."""
    epoch: int | None = None
    """How often the leader has changed; None without a database."""
    read: float | None = None
    """When this hub, standing by, last read all that the leader wrote (`time.monotonic`); None if never."""
    took: float | None = None
    """Seconds from then until this hub served as the leader; None if it took over from no other one."""
    kept: list[Listening] | None = None
    """The sockets at which it listens, also while it begins or ends to lead; None if it is alone."""

    @property
    def answers(self) -> bool:
        """Whether this hub may answer as the leader, at this moment."""
        return self.leads and self.sure()

    @property
    def named(self) -> str:
        """The leader's name; empty if this hub was the leader and is not sure of it any more."""
        return "" if self.leads and not self.sure() else self.leader

    @property
    def standing_by(self) -> str:
        """Why this hub lets no one in."""
        if self.cut_off:
            return "this hub stands by, because it cannot use its database; see its log"
        return f"this hub stands by{f', {self.named} leads' if self.named else ' and reads the journal'}"

    @property
    def headers(self) -> Mapping[str, str]:
        """What each HTTP response says of it."""
        told = {"Wakestream-Cluster": self.cluster, "Wakestream-Leader": self.named}
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True, slots=True)
class HubConfig:
    """The settings of a hub."""

    book: LicenseBook
    """The licenses."""
    host: str = "127.0.0.1"
    """The address to listen at."""
    port: int = 0
    """The port; 0 takes a free one."""
    limits: Limits = field(default_factory=Limits)
    """How many connections it accepts, and what GPUs cost."""
    tls: ServerTls | None = None
    """The certificate; without it, connections are not encrypted."""
    proxies: Collection[Network] = ()
    """Networks whose forwarded client addresses the hub trusts."""
    record: Path | None = None
    """The folder for recordings; None records nothing."""
    webhook: Receiver | None = None
    """Receives the news of power and money."""
    public: str = ""
    """The hub's address for other machines, or those of its cluster, separated by commas, for the codes that the
    operator's page makes; empty if unknown."""
    tap: Tap = untapped
    """Records events and frames."""
    clock: Callable[[], float] = time.time
    """Returns UNIX seconds."""
    steady: Callable[[], float] | None = None
    """Returns monotonic seconds. With it, leases and time limits keep their lengths when the clock is set."""
    disk_low: Callable[[], bool] = lambda: False
    """Whether the disk is nearly full; then the hub refuses new jobs."""
    signer: Signer = field(default_factory=Signer.fresh)
    """Signs capabilities; by default with a new key."""
    uses: LicenseUses | None = None
    """Records when and from where each license was used."""
    bucket: DepotStore | None = None
    """The depot, if it is a bucket; else it is our own depot, once one connects."""
    ca: SSLContext | None = None
    """Verifies our own depot, if the system does not trust its certificate."""
    room: Room = field(default_factory=lambda: Room(MAX_CONNECTIONS, STRANGERS))
    """Limits the number of connections."""
    bound: Path | None = None
    """See `PostgresStore`; None for a journal in SQLite."""
    leadership: Leadership = field(default_factory=Leadership)
    """Which hub leads."""
