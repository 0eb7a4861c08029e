"""A complete client: link to the hub, workers, files, recorder, and the jobs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import urlsplit

from loguru import logger

from wakestream.adapters.client.depot import DepotWallet, HttpDepot
from wakestream.adapters.client.hub_query import QUESTIONS
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.client.worker_calls import Wallet
from wakestream.adapters.config.addresses import is_loopback
from wakestream.adapters.config.settings import Settings, SettingsError, load
from wakestream.adapters.disk.fingerprints import DiskFiles
from wakestream.adapters.disk.secret_values import SecretValues
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.net.tls import client_context
from wakestream.adapters.telemetry.recorder import recording
from wakestream.operators.model.engine import Preview
from wakestream.operators.model.events import Job, JobEvent, Outcome, Stored
from wakestream.operators.model.policy import Policy
from wakestream.operators.model.ports import Workers
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.to_future import to_future
from wakestream.streams.jobs.hub_client import FEATURES, HubClient
from wakestream.streams.jobs.job_order import Order
from wakestream.streams.jobs.job_runner import Daemon, job_random
from wakestream.streams.jobs.stages import job_pipeline
from wakestream.streams.jobs.world import Build, World
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.recording.config_json import plain_config
from wakestream.streams.recording.recording import Direction, Header, Tap, TapPair


@dataclasses.dataclass(frozen=True, slots=True)
class Client:
    """A client that is connected to the hub; see `open_client`.

    Example:
        >>> async with open_client() as client:
        ...     outcome = await client.run(job, print)
    """

    daemon: Daemon
    link: Link
    """`link.events` is the hot observable of all messages of the hub: see `HubNews`."""
    scheduler: LoopScheduler
    hub: HubClient
    workers: Workers
    running: set[asyncio.Future[Any]] = dataclasses.field(default_factory=set)
    wallet: Wallet | None = None

    async def run(self, job: Job, show: Callable[[JobEvent], Any]) -> Outcome:
        """Run a job to its outcome.

        Args:
            job: The job. Its id differs from those of all running jobs.
            show: Is called with every event.

        Returns:
            The last event. A failure of the job is an outcome and raises nothing.
        """
        return cast("Outcome", await self.start(job, show))

    def start(self, job: Job, show: Callable[[JobEvent], Any], *, leave: bool = False) -> asyncio.Future[Any]:
        """As `run`, but the job has started when this returns. Cancelling the future cancels the job.

        With `leave` it ends with `Stored` when the files are in the depot: then the job goes on without this program,
        which is to end.
        """

        def goes_on(event: JobEvent) -> bool:
            if isinstance(event, Stored):
                self.hub.stop_releasing()
                return False
            return True

        events = self.daemon.events(job).do_action(show)
        if leave:
            events = events.take_while(goes_on, inclusive=True)
        future = events.pipe(to_future(self.scheduler))
        self.running.add(future)
        future.add_done_callback(self.running.discard)
        return future

    def cancel(self, job_id: str) -> bool:
        """See `Daemon.cancel`."""
        return self.daemon.cancel(job_id)

    def retry_now(self, job_id: str) -> bool:
        """See `Daemon.retry_now`."""
        return self.daemon.retry_now(job_id)

    def move(self, job_id: str, before: str, priority: int) -> bool:
        """See `Daemon.move`."""
        return self.daemon.move(job_id, before, priority)

    def arrange(self, order: Order) -> bool:
        """See `Daemon.arrange`."""
        return self.daemon.arrange(order)

    def resume(self, job: Job, url: str, task_id: str) -> None:
        """Continue a job of an earlier run of the program, whose task is at the worker at `url`."""
        if isinstance(self.workers, HttpWorkers):
            self.workers.at(url).hold(task_id, job)

    def previews(self, job: str, url: str, task_id: str) -> AsyncGenerator[Preview, None] | None:
        """What the engine has so far of a job's task at the worker at `url`; None if these workers have none."""
        if not isinstance(self.workers, HttpWorkers):
            return None
        return self.workers.at(url, job, self.wallet, {}).previews(task_id)

    async def releases(self, within: float) -> None:
        """Wait until the hub knows that the jobs have ended, at most so many seconds. Not for a lasting client.

        Example:
            >>> await client.releases(10.0)
        """
        told = asyncio.Event()
        self.hub.on_released = lambda _: told.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self.hub.owes:
                    told.clear()
                    await told.wait()

    def cancel_all(self) -> None:
        """Cancel all running jobs, and tell the hub."""
        for future in tuple(self.running):
            future.cancel()


@asynccontextmanager
async def open_client(
    settings: Settings | None = None,
    policy: Policy | None = None,
    build: Build = job_pipeline,
    workers: Workers | None = None,
    *,
    files: DiskFiles | None = None,
    about: Mapping[str, Any] | None = None,
    lasting: bool = False,
    watch: Callable[[Header], Tap] | None = None,
    secrets: SecretValues | None = None,
) -> AsyncIterator[Client]:
    """Open a client until the block ends, which closes everything that it opened.

    Args:
        settings: By default those of `wakestream submit`, from the environment and the files of this folder.
        policy: Timeouts and retries; those of the settings by default.
        build: The pipeline of each job.
        workers: Workers with another protocol. They are not closed.
        files: Shared with other users of the files. They are not closed.
        about: Is added to the header of a recording.
        lasting: The end of the block leaves running jobs at the hub, and the next run of the program continues them.
            Otherwise it cancels them.
        watch: Makes another tap for the messages, from the header of the recording.
        secrets: The values of secret parameters, for whose marks in jobs only the worker gets them.

    Yields:
        The client.

    Raises:
        SettingsError: no hub or no key is set.
        FileUnusable: the folder of recordings is not writable.

    Example:
        >>> async with open_client() as client:
        ...     outcome = await client.run(Job.lipsync("job-1", video, audio, output), print)
    """
    settings = settings or load({})
    policy = policy or settings.policy()
    url, key = settings.needs_hub(), settings.needs_key()
    depot = workers is None or isinstance(workers, HttpWorkers)
    asked = (*FEATURES, *QUESTIONS, *((d.FEATURE,) if depot else ()))
    register = m.Register(key=key, device_type="pc", features=asked)
    ca = client_context(settings.ca)
    seed = random.SystemRandom().getrandbits(32)
    without_secret = workers is None and settings.api_secret is None and not settings.no_secret
    needs = frozenset({"capability"} if without_secret else ())
    local = is_loopback(urlsplit(url).hostname or "")
    # What a replay must know; an option that is not used is not recorded.
    options = {"needs": sorted(needs), "traced": settings.trace, "lasting": lasting, "depot": depot, "local": local}
    config = {"policy": plain_config(policy), **(about or {})}
    header = Header("daemon", time.time(), seed, config | {name: value for name, value in options.items() if value})
    async with AsyncExitStack() as stack:
        tap = stack.enter_context(recording(settings.record, header.program, header.seed, header.config))
        if settings.trace:
            try:
                from wakestream.adapters.telemetry.traces import tracing
            except ModuleNotFoundError:
                why = '--trace needs OpenTelemetry, which is not installed; run: pip install "wakestream[otel]"'
                raise SettingsError(why) from None
            tap = TapPair(tap, await stack.enter_async_context(tracing()))
        tap = TapPair(tap, watch(header)) if watch is not None else tap
        read = files or _closed_with(stack, DiskFiles())
        fleet = workers
        if fleet is None:
            idle = 0.9 * policy.transfer  # less than the pipeline's limit, so that a partial transfer can be kept
            http = HttpWorkers.of(settings, idle=idle, ca=ca, secrets=secrets or SecretValues())
            fleet = _closed_with(stack, http)
        opened = Link(url, lambda: register, tap=_OfJobs(tap), random=random.Random(seed), ca=ca)
        link = _closed_with(stack, opened)
        scheduler = _closed_with(stack, LoopScheduler())
        wallet, permissions = Wallet(), DepotWallet()
        hub = HubClient(link.send, _fault, f"hub {url}", needs, traced=settings.trace, lasting=lasting, local=local)
        # The wallets come first: they must have the capability when a message continues a job.
        for observer in (wallet.feed, permissions.feed, hub.feed, _complaint):
            link.events.subscribe(observer)

        def world(job: Job) -> World:
            if not isinstance(fleet, HttpWorkers):
                return World(hub, fleet, read, job_random(seed, job))
            store = HttpDepot(fleet, permissions, job)
            return World(hub, fleet.of_job(job.id, wallet), read, job_random(seed, job), depot=store)

        client = Client(Daemon(world, policy, tap=tap, build=build), link, scheduler, hub, fleet, wallet=wallet)
        stack.callback(client.cancel_all)
        if lasting:
            stack.callback(hub.stop_releasing)
        yield client


class _OfJobs(Tap):
    """Leaves out the questions of people: no job depends on them, and a replay asks none."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """See `Tap.row`."""
        self._tap.row(direction, label, data, job)

    def frame(self, direction: Direction, message: m.Message) -> None:
        """See `Tap.frame`."""
        if not isinstance(message, _QUESTIONS):
            self._tap.frame(direction, message)


_QUESTIONS = (
    *(m.HubStatusQuery, m.HubStatus, m.StatusQuery, m.StatusResponse),
    *(m.GpuAdmin, m.GpuAdminDone, m.KindsQuery, m.KindsResponse),
)


class _Closable(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


def _closed_with(stack: AsyncExitStack, opened: C) -> C:
    stack.push_async_callback(opened.close)
    return opened


def _complaint(event: object) -> None:
    """Log messages that concern no single job. Errors of old hubs never name a job."""
    match event:
        case m.Error(request_id=None):
            logger.bind(stage="hub").warning("the hub says: {}", event.text)
        case d.DepotExpiring():
            why = "nothing has fetched them: submit the job again with its --job-id, where it was submitted"
            logger.bind(stage="hub").warning("the depot removes results of {} soon: {}", ", ".join(event.jobs), why)
        case m.PowerState(gpu=gpu, stops_in=int(seconds)):
            why = "it reaches its maximum uptime. Unfinished jobs start again on the next GPU"
            logger.bind(stage="hub").warning("{} will be stopped in {} s: {}", gpu, seconds, why)


def _fault(error: Exception, item: Any) -> None:
    logger.opt(exception=error).error("a job failed to handle {}", type(item).__name__)
