"""The worker program: store, queue, engine, HTTP server and, if it has a hub, the link to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from loguru import logger
from reactivex import Observable

from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.config.settings import Settings, SettingsError
from wakestream.adapters.disk.file_lock import HeldElsewhereError, file_lock
from wakestream.adapters.disk.journal import StoredJournal, open_journal
from wakestream.adapters.disk.secret_values import FILE, SecretValues
from wakestream.adapters.disk.state_folder import prepare_state
from wakestream.adapters.net.capabilities import of_depot
from wakestream.adapters.net.capability_keys import Verifier
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.net.tls import client_context
from wakestream.adapters.runtime.tasks import supervised
from wakestream.adapters.runtime.wall_clock import ClockStep, WallClock
from wakestream.adapters.telemetry.recorder import recording
from wakestream.adapters.worker.config import Retention, WorkerConfig, watch
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.http.depot import DepotCalls
from wakestream.adapters.worker.http.server import FEATURES, Readiness, WorkerCalls, WorkerServer, serving
from wakestream.adapters.worker.hub_session import WorkerHub
from wakestream.adapters.worker.resumable_uploads import Uploads, expire_regularly
from wakestream.adapters.worker.task_queue import TaskQueue, look
from wakestream.operators.model.engine import Engine, Kind
from wakestream.operators.model.engine import Readiness as EngineReadiness
from wakestream.operators.model.errors import WakestreamError
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import CAPABILITY, ENDED, POWEROFF
from wakestream.streams.protocol.kinds import KINDS, check_own_kind
from wakestream.streams.recording.recording import Tap, TapPair
from wakestream.streams.worker import state as w
from wakestream.streams.worker.shares import PROMISED

RESTART_AGAIN = 300.0
"""Seconds between two restarts of an engine that crashed while the worker was idle."""

CHECK_AGAIN = 30.0
"""Seconds between two checks of an engine that works."""

CHECK_UNREADY = 1.0
"""Seconds between two checks of one that cannot work: it may still start, and the machine costs meanwhile."""

_LOCK_WITHIN = 5.0
"""Seconds to wait for an ending worker that has locked the folder."""


OpenLink = Callable[[Callable[[], m.Register]], Link]


@contextmanager
def hub_link(
    settings: Settings, watch: Tap | None, on_link: Callable[[Observable[Any]], None], program: str = "worker"
) -> Iterator[OpenLink | None]:
    """How to connect to the hub of `settings`, recorded while the block runs; None where no hub is set.

    `watch` also receives every row of the recording; `on_link` receives the events of the link.
    """
    if settings.hub_url is None:
        yield None
        return
    url = settings.needs_hub()
    ca = client_context(settings.ca)
    seed = Random().getrandbits(32)
    with recording(settings.record, program, seed, {}) as recorder:
        tap = recorder if watch is None else TapPair(recorder, watch)

        def opened(register: Callable[[], m.Register]) -> Link:
            link = Link(url, register, tap=tap, random=Random(seed), ca=ca)
            on_link(link.events)
            return link

        yield opened


@dataclass(frozen=True, slots=True)
class RunningWorker:
    """A running worker: the `address` that it listens on, and its parts."""

    address: str
    store: FileStore
    queue: TaskQueue
    server: WorkerServer
    journal: StoredJournal[w.Kept]


@asynccontextmanager
async def running_worker(
    config: WorkerConfig, open_link: OpenLink | None = None, clock: WallClock | None = None
) -> AsyncIterator[RunningWorker]:
    """Run a worker while the block runs; at its end, kill the engine and close everything within a few seconds.

    Args:
        config: The configuration.
        open_link: Opens the link to the hub; None for no hub.
        clock: The wall clock; by default that of the system.

    Yields:
        The running worker.

    Raises:
        OSError: The address is not available.
        SettingsError: The state folder cannot be used.
    """
    prepare_state(config.state)
    async with AsyncExitStack() as stack:
        with _usable(config.state):
            stack.enter_context(file_lock(config.state / ".lock", _LOCK_WITHIN))
        journal: StoredJournal[w.Kept] = await stack.enter_async_context(
            open_journal(config.state / "worker.sqlite3", w.Kept, program="worker")
        )  # first: it may be one of a later version
        with _usable(config.state):
            store = FileStore(config.state, config.depot)
            stack.callback(store.close)
            await store.in_thread(store.sweep)  # before a client can reach a damaged file, or send one
            clock = clock or WallClock("files and results are kept as long as before")
            secrets = SecretValues(config.state / FILE)
            queue = TaskQueue(
                store, journal, config.engine,
                slots=config.slots, watchdog=config.watchdog, clock=clock, secrets=secrets,
            )  # fmt: skip
            stack.push_async_callback(config.engine.close)
            stack.push_async_callback(queue.close)
            uploads = Uploads(store, queue, clock=clock)

        def move_times(step: ClockStep) -> None:
            queue.runner.report(w.ClockMoved(step.by), step.now)
            store.move_times(step.moved)
            uploads.move_times(step.moved)

        clock.on_step = move_times
        calls = await _calls(config, store, queue, uploads, linked=open_link is not None)
        server = await stack.enter_async_context(serving(calls, config))
        if config.secret is None:
            logger.warning(
                "no secret guards this worker: everyone who reaches {} may send files, run tasks and get results. "
                "Keep the port closed to others, or set HEYGEM_API_SECRET here and at all clients",
                server.address,
            )
        hub = _join(stack, config, server, open_link) if open_link is not None else None
        tasks = await stack.enter_async_context(supervised("the worker"))
        tasks.needs("the journal", queue.runner.ended)
        if config.depot is None:
            store.make_room = lambda wanted: make_room(store, queue, config.retention, wanted, clock())
            store.removable = lambda: removable(store, queue, clock())
            tasks.keeps("the check of the engine", lambda: _warm_up(config, calls, hub))
            tasks.keeps("the removal of old files", lambda: tidy_regularly(store, queue, config.retention, clock))
        if config.models is not None:
            models, readiness = config.models, calls.readiness
            models.moving, models.on_news = calls.transfers.running, partial(_tell, readiness)
            tasks.keeps("the fetching of models", models.run)
        tasks.keeps("the removal of old uploads", lambda: expire_regularly(uploads))
        if config.tls is not None:
            tasks.keeps("the watch of the certificate", config.tls.watch)
        if config.dead_man is not None:
            dead_man = config.dead_man
            tasks.keeps("the dead man's switch", lambda: watch(dead_man, lambda: _is_alive(calls, hub)))
        yield RunningWorker(server.address, store, queue, server, journal)


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except HeldElsewhereError:
        raise SettingsError(f"--state: another worker uses {folder}; stop it or choose another folder") from None
    except OSError as error:
        raise SettingsError(f"--state: {folder} cannot be used ({error.strerror}); choose another folder") from error


async def _calls(
    config: WorkerConfig, store: FileStore, queue: TaskQueue, uploads: Uploads, *, linked: bool
) -> WorkerCalls:
    gpu = config.gpu
    if config.depot is None or gpu is None:
        return WorkerCalls(store, queue, uploads, gpu, Verifier(gpu) if gpu is not None and linked else None)
    verifier = Verifier(of_depot(gpu), hub=of_depot(gpu, hub=True))
    calls = DepotCalls(store, queue, uploads, gpu, verifier)
    # A stop between the end of an upload and the record of its license leaves a file that no license has.
    await calls.erase([file.path.name for file in await store.in_thread(store.stored)])
    return calls


def _join(stack: AsyncExitStack, config: WorkerConfig, server: WorkerServer, open_link: OpenLink) -> WorkerHub:
    url = config.public_url or _public(config.host, server)
    # Capabilities are for a GPU name: without one, the worker accepts none.
    features = FEATURES if config.gpu is None else (*FEATURES, CAPABILITY, ENDED)
    states = (m.MonitorState.FEATURE, m.WorkerState.FEATURE, m.JobWork.FEATURE, m.JobState.FEATURE)
    poweroff = (POWEROFF,) if config.dead_man is not None else ()
    role, announced = "worker", (*features, KINDS, *states, *poweroff, d.FEATURE)
    if config.depot is not None:
        role, announced = "depot", (CAPABILITY, d.FEATURE)
    register = m.Register(
        role=role, token=config.key, gpu=config.gpu, url=url, features=announced, labels=config.labels,
        slots=config.slots,
    )  # fmt: skip
    link = open_link(lambda: register)
    stack.push_async_callback(link.close)
    session = HttpWorkers(ca=config.ca)
    stack.push_async_callback(session.close)
    hub = WorkerHub(link, server.calls, url=url, on_revoked=server.callers.revoke, role=role, session=session)
    stack.push_async_callback(hub.close)
    return hub


def _is_alive(calls: WorkerCalls, hub: WorkerHub | None) -> bool:
    """Whether anything needs this machine, or can switch it off: a hub with its monitor, a task, or a transfer."""
    if (hub is not None and hub.connected and hub.watched) or calls.transfers.moving():
        return True
    state = calls.queue.state
    return bool(state.busy or (state.line and state.halt is None))


def _public(host: str, server: WorkerServer) -> str | None:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not listened on
        logger.warning("clients get no address of this worker: give --public-url, or set HEYGEM_SERVER_URL there")
        return None
    return server.address


async def _warm_up(config: WorkerConfig, calls: WorkerCalls, hub: WorkerHub | None) -> None:
    readiness = calls.readiness
    readiness.msg = "warming up"
    await asyncio.sleep(config.warm_up)
    calls.queue.check = lambda: _look(config.engine, calls, hub)
    time, restarted_at = asyncio.get_running_loop().time, -math.inf
    while True:
        if not calls.queue.state.busy:  # an engine at work shows by itself whether it works
            now = await _look(config.engine, calls, hub)
            if now.crashed and config.watchdog.restart and time() - restarted_at >= RESTART_AGAIN:
                restarted_at = time()
                try:
                    await config.watchdog.restarted(now.reason)
                except WakestreamError as error:
                    logger.error("the engine was not restarted: {}", error)
        await asyncio.sleep(CHECK_AGAIN if readiness.initialized else CHECK_UNREADY)


def _tell(readiness: Readiness, text: str) -> None:
    """Say in `health` how far the models are; before the engine is ready, each look at it says so."""
    if readiness.initialized:
        readiness.msg = text or "ok"


async def _look(engine: Engine, calls: WorkerCalls, hub: WorkerHub | None) -> EngineReadiness:
    """Ask the engine whether it can work, and report it."""
    readiness = calls.readiness
    kinds, now = readiness.kinds, await _state(engine, readiness)
    fault = None if now.ready else now.reason
    before, readiness.initialized = readiness.initialized, fault is None
    told, readiness.msg = readiness.msg, now.reason or "ok" if fault is None else f"the engine cannot work: {fault}"
    halt = calls.queue.state.halted
    if fault is not None:
        if readiness.msg != told:
            logger.error("{}. It is checked every {:g} s", readiness.msg, CHECK_UNREADY)
        await calls.queue.unready(fault)
    elif before and halt is not None and halt.word == "not_ready":
        await calls.queue.ready()
    elif not before:
        logger.info("initialized; kinds: {}", ", ".join(kind.name for kind in readiness.kinds))
        _warn(readiness.kinds)
        await calls.queue.ready()
        if hub is not None:
            hub.initialized()
    elif kinds != readiness.kinds:
        logger.info("the engine's kinds have changed: {}", ", ".join(kind.name for kind in readiness.kinds))
        _warn(readiness.kinds)
        if hub is not None:
            hub.described()
    return now


def _warn(kinds: Iterable[Kind]) -> None:
    """Log what no program checks of an engine's own kinds; the engine must check it."""
    for kind in kinds:
        try:
            check_own_kind(kind)
        except ValueError as error:
            logger.error("the engine describes a kind wrongly: {}", error)


async def _state(engine: Engine, readiness: Readiness) -> EngineReadiness:
    """Whether the engine can work; then it has said what it can do.

    An engine that has described itself before and does not do so now keeps its kinds: `ready` decides whether it works.
    """
    now = await look(engine)
    if not now.ready:
        return now
    try:
        readiness.kinds = tuple(msgspec.convert(msgspec.to_builtins(kind), Kind) for kind in await engine.describe())
    except msgspec.ValidationError as error:
        fault = f"its description is no list of objects of class Kind ({error}); correct the engine"
    except WakestreamError as error:
        fault = str(error).encode(errors="replace").decode()
    except Exception as error:  # as in `look`
        logger.opt(exception=error).error("the engine's description raised an error")
        fault = f"its description raised {type(error).__name__}; see the worker's log"
    else:
        return now
    if readiness.initialized:
        logger.warning("the engine does not describe its kinds now ({}); those from before stay", fault)
        return now
    return EngineReadiness(False, fault)


# Remove uploads and results that are not needed, were not used lately, or have no room.

LOOK_EVERY = 60.0


async def tidy_regularly(store: FileStore, queue: TaskQueue, retention: Retention, clock: Callable[[], float]) -> None:
    """Remove files once a minute."""
    while True:
        try:
            await tidy(store, queue, retention, clock())
        except OSError as error:
            logger.warning("old files in the state folder could not be removed: {}", error)
        await asyncio.sleep(LOOK_EVERY)


async def tidy(store: FileStore, queue: TaskQueue, retention: Retention, now: float) -> int:
    """Remove files, the longest unused first; returns how many. `now` is in Unix seconds."""
    files = await store.in_thread(store.stored)
    gone = 0
    for file in sorted(files, key=lambda file: file.used):
        age = now - file.used
        if age < PROMISED or (age < retention.age and await store.in_thread(store.free) >= retention.spare):
            break
        if file.path not in _needed(store, queue) and await store.remove(file):
            logger.info("{} was not used for {:.0f} h and was removed", file.path.name, age / 3600)
            gone += 1
    return gone


async def make_room(store: FileStore, queue: TaskQueue, retention: Retention, wanted: int, now: float) -> None:
    """Remove the longest unused files until `wanted` bytes are free, if that is possible."""
    if await store.in_thread(store.free) + await removable(store, queue, now) >= wanted:
        await tidy(store, queue, replace(retention, spare=wanted), now)


async def removable(store: FileStore, queue: TaskQueue, now: float) -> int:
    """Bytes of the files that may be removed."""
    files, needed = await store.in_thread(store.stored), _needed(store, queue)
    return sum(file.size for file in files if now - file.used >= PROMISED and file.path not in needed)


def _needed(store: FileStore, queue: TaskQueue) -> frozenset[Path]:
    unfinished = [task for task in queue.state.tasks.values() if task.unfinished]
    return frozenset(store.path(ref) for task in unfinished for ref in task.files).union(store.needed())
