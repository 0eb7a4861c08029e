"""The configuration of a worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.net.rate_limit import Network
from wakestream.adapters.net.tls import ServerTls
from wakestream.adapters.worker.dead_man import DeadMan
from wakestream.operators.model.engine import Engine


@dataclass(frozen=True, slots=True)
class Retention:
    """When files are removed: `age` seconds after their last use, or with less than `spare` free bytes on the disk."""

    age: float = 7 * 24 * 3600.0
    spare: int = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The configuration of a worker.

    Args:
        state: The state folder.
        engine: Does the work of the tasks.
        watchdog: How an engine that hangs is noticed.
        dead_man: When the machine switches itself off; None: never.
        secret: The secret of HTTP calls; None to accept all calls.
        host: The address to listen on.
        port: The port to listen on; 0 for any free one.
        gpu: The name of the GPU at the hub.
        public_url: The worker's address for clients; without it, they use their own setting.
        key: The worker's key at the hub.
        warm_up: Seconds before the first check of the engine.
        retention: How long files are kept.
        tls: The certificate for https.
        proxies: Networks of proxies whose `X-Forwarded-For` is used.
        room: The limits for open connections.
    """

    state: Path
    engine: Engine
    secret: str | None
    host: str = "127.0.0.1"
    port: int = 8383
    gpu: str | None = None
    public_url: str | None = None
    key: str | None = None
    warm_up: float = 0.0
    retention: Retention = field(default_factory=Retention)
    tls: ServerTls | None = None
    proxies: tuple[Network, ...] = ()
    room: Room | None = None
    watchdog: Watchdog = field(default_factory=Watchdog)
    dead_man: DeadMan | None = None
