"""The worker as a whole: store, queue, engine, HTTP side and, where there is one, the link to the hub."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

from loguru import logger
from reactivex import Observable

from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.disk.file_lock import HeldElsewhereError, file_lock
from wakestream.adapters.disk.journal import SqliteJournal, open_journal
from wakestream.adapters.disk.state_folder import make_private
from wakestream.adapters.net.capabilities import Verifier
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.net.hub_link import Link, open_link
from wakestream.adapters.net.rate_limit import Network
from wakestream.adapters.net.tls import ServerTls, client_context
from wakestream.adapters.telemetry.recorder import recording
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.http.server import FEATURES, Readiness, WorkerCalls, WorkerServer
from wakestream.adapters.worker.hub_session import HubLink, WorkerHub
from wakestream.adapters.worker.resumable_uploads import Uploads, expire_for_ever
from wakestream.adapters.worker.retention import Retention, make_room, removable, tidy_up
from wakestream.adapters.worker.task_queue import TaskQueue
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.ports import Engine
from wakestream.streams.hub import capabilities
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.recording import Tap, TapPair
from wakestream.streams.worker import worker as w

CHECK_AGAIN = 30.0
"""Seconds until an engine that cannot work is looked at again."""

_LOCK_WITHIN = 5.0
"""Seconds for a worker that is just ending to let go of the folder."""


class ClosableLink(HubLink, Protocol):
    """A link that this program opened."""

    async def close(self) -> None:
        """Hang up."""
        ...


OpenLink = Callable[[Callable[[], m.Register]], ClosableLink]


@contextmanager
def hub_link(
    settings: Settings, watch: Tap | None, on_link: Callable[[Observable[Any]], None]
) -> Iterator[OpenLink | None]:
    """How to connect to the hub of `settings`, recorded while the block runs; None where no hub is set.

    `watch` also receives every row of the recording; `on_link` receives the events of the link.
    """
    url = settings.hub_url
    if url is None:
        yield None
        return
    ca = client_context(settings.ca)
    seed = Random().getrandbits(32)
    with recording(settings.record, "worker", seed, {}) as recorder:
        tap = recorder if watch is None else TapPair(recorder, watch)

        def opened(register: Callable[[], m.Register]) -> Link:
            link = open_link(url, register, tap=tap, random=Random(seed), ca=ca)
            on_link(link.events)
            return link

        yield opened


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker is told. `secret` guards its HTTP side; None leaves that open to everyone.

    `key` is its own at the hub; `warm_up` is in seconds.
    `public_url` is the address that clients are told; without one they use the address that they have set. With `tls`
    it serves https. `proxies` are believed about whose calls they bring. `room` is for its callers.
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


@dataclass(frozen=True, slots=True)
class RunningWorker:
    """A worker at work: where it listens (`address`), and its parts."""

    address: str
    store: FileStore
    queue: TaskQueue
    readiness: Readiness
    server: WorkerServer
    journal: SqliteJournal[w.Kept]


@asynccontextmanager
async def running_worker(config: WorkerConfig, open_link: OpenLink | None = None) -> AsyncIterator[RunningWorker]:
    """Serve until the block ends; then the engine is killed and everything closed, within a few seconds.

    `OSError` when the address cannot be listened on, `SettingsError` when the state folder cannot be written to.
    """
    async with AsyncExitStack() as stack:
        store = _open(config, stack)
        stack.callback(store.close)
        uploads = _uploads(store)
        journal: SqliteJournal[w.Kept] = await stack.enter_async_context(
            open_journal(config.state / "worker.sqlite3", w.Kept, program="worker")
        )
        queue = await _queue(config, store, journal)
        stack.push_async_callback(queue.close)
        readiness = Readiness()
        verifier = Verifier(config.gpu) if config.gpu is not None else None
        calls = WorkerCalls(store, queue, uploads, readiness, config.gpu, verifier)
        context = None
        if config.tls is not None:
            context = config.tls.context
            stack.push_async_callback(_stop, asyncio.create_task(config.tls.watch()))
        server = WorkerServer(calls, config.secret, config.host, config.port, context, config.proxies, config.room)
        await stack.enter_async_context(server)
        if config.secret is None:
            logger.warning(
                "no secret guards this worker: everyone who reaches {} may send files, run tasks and fetch results. "
                "Keep the port closed to others, or set HEYGEM_API_SECRET here and at all clients",
                server.address,
            )
        store.sweep()  # not before the port is ours: another worker may be at work in this folder
        hub = await _join(stack, config, server, queue, open_link)
        warming = asyncio.create_task(_warm_up(config, queue, readiness, hub))
        stack.push_async_callback(_stop, warming)
        store.make_room = lambda wanted: make_room(store, queue, config.retention, wanted, time.time())
        store.removable = lambda: removable(store, queue, time.time())
        tidying = asyncio.create_task(tidy_up(store, queue, config.retention))
        stack.push_async_callback(_stop, tidying)
        expiring = asyncio.create_task(expire_for_ever(uploads))
        stack.push_async_callback(_stop, expiring)
        yield RunningWorker(server.address, store, queue, readiness, server, journal)


def _open(config: WorkerConfig, stack: AsyncExitStack) -> FileStore:
    make_private(config.state)
    with _usable(config.state):
        stack.enter_context(file_lock(config.state / ".lock", _LOCK_WITHIN))
        return FileStore(config.state)


def _uploads(store: FileStore) -> Uploads:
    with _usable(store.root):
        return Uploads(store)


async def _queue(config: WorkerConfig, store: FileStore, journal: SqliteJournal[w.Kept]) -> TaskQueue:
    with _usable(config.state):
        return TaskQueue(store, journal, config.engine)


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except HeldElsewhereError:
        raise SettingsError(f"--state: another worker uses {folder}; stop it or choose another folder") from None
    except OSError as error:
        raise SettingsError(f"--state: {folder} cannot be used ({error.strerror}); choose another folder") from error


async def _join(
    stack: AsyncExitStack, config: WorkerConfig, server: WorkerServer, queue: TaskQueue, open_link: OpenLink | None
) -> WorkerHub | None:
    if open_link is None:
        return None
    url = config.public_url or _public(config.host, server)
    link = open_link(lambda: _register(config, url))
    stack.push_async_callback(link.close)
    calls = server.calls
    hub = WorkerHub(
        link, queue, calls.store, gpu=config.gpu, url=url, verifier=calls.verifier, on_revoked=server.callers.revoke,
        transfers=calls.transfers, listeners=calls.listeners,
    )  # fmt: skip
    stack.push_async_callback(hub.close)
    return hub


def _public(host: str, server: WorkerServer) -> str | None:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not listened on
        logger.warning("clients are told no address for this worker: give --public-url, or set HEYGEM_SERVER_URL there")
        return None
    return server.address


def _register(config: WorkerConfig, url: str | None) -> m.Register:
    # Its name at the hub is what capabilities are for: without one it takes none.
    features = FEATURES if config.gpu is None else (*FEATURES, capabilities.FEATURE, capabilities.DONE)
    return m.Register(role="worker", token=config.key, gpu=config.gpu, url=url, features=features)


async def _warm_up(config: WorkerConfig, queue: TaskQueue, readiness: Readiness, hub: WorkerHub | None) -> None:
    readiness.msg = "warming up"
    await asyncio.sleep(config.warm_up)
    while (fault := await _fault(config.engine)) is not None:
        logger.error("the engine cannot work: {}. It is looked at again in {:g} s", fault, CHECK_AGAIN)
        readiness.msg = f"the engine cannot work: {fault}"
        await asyncio.sleep(CHECK_AGAIN)
    readiness.initialized, readiness.msg = True, "ok"
    logger.info("initialized")
    await queue.ready()
    if hub is not None:
        hub.initialized()


async def _fault(engine: Engine) -> str | None:
    try:
        await engine.check()
    except WakestreamError as error:
        return str(error).encode(errors="replace").decode()  # health is to tell it, so it must be text
    except Exception as error:  # an engine is somebody's own code, and one that never gets ready must say why
        logger.opt(exception=error).error("the engine's check broke")
        return f"its check broke ({type(error).__name__}), the worker's log says more"
    return None


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
