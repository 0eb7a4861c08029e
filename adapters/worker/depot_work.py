"""Jobs whose files are in the depot: the worker fetches them, and puts the results there, so that no client is needed.

The hub may send `fetch` again at any time. What is here is not fetched again, and a finished task not rendered again.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random
from typing import Final
from weakref import WeakValueDictionary

from loguru import logger
from msgspec.structs import replace

from wakestream.adapters.client.depot import DepotWallet, get, put
from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.disk.atomic import replace_file
from wakestream.adapters.net.hub_link import HubLink
from wakestream.adapters.runtime.recent import Recent
from wakestream.adapters.runtime.tasks import background, end, first_of, tasks_of_block
from wakestream.adapters.worker.http import requests
from wakestream.adapters.worker.http.server import WorkerCalls
from wakestream.operators.model import errors as e
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.depot import Place
from wakestream.operators.model.events import Done, Downloading, FileRef, Fingerprint
from wakestream.operators.model.ports import Output, Resumed
from wakestream.streams.jobs.hub_replies import places_of
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import GONE, REFUSED
from wakestream.streams.worker import state as w
from wakestream.streams.worker.shares import PROMISED

AT_ONCE: Final = 4
"""Files that are fetched, or put, at the same time."""

TELL_EVERY = 1.0
"""Seconds between two messages about the progress of a job."""

REPEAT_EVERY = 60.0
"""Seconds after which a message is sent again that the hub has not answered."""

AGAIN = Backoff(initial=1.0, max_delay=60.0)
"""The pauses after a temporary error, counted from the last progress on."""

MOST_OFFERS = 12
"""How often results are offered to a depot that refuses them, before the job fails. One that is down is no refusal."""

MOST_REFUSED = 4
"""How often in a row fresh links may be refused; then the job is given back, and its client sends the files here."""

_REFUSALS: Final = frozenset({"link_expired", "lost", "not_found", "task_lost", e.DAMAGED})
"""The depot does not give the file, or gave other bytes. The hub sends new links, unless its store lacks the file."""


class _Job:
    """One job, from `fetch` to `stored`."""

    def __init__(self, fetch: d.DepotFetch) -> None:
        self.fetch = fetch
        self.id, self.license = fetch.request_id, fetch.license or w.ANONYMOUS
        self.places: d.DepotPlaces | None = None
        self.stored = False
        self.asked = False  # the hub connected again, or repeated `fetch`
        self.told: object = None
        self.step, self.task_id = "fetch", ""
        self.size, self.moved = 0, Counter[str]()  # bytes of this step, and those that are done, by BLAKE3
        self.short = ""
        self.gone: tuple[d.DepotPlace, ...] = ()
        self.refusal: e.LinkExpired | None = None  # of the last links for results
        self.used: dict[Path, float] = {}
        self.news = asyncio.Event()
        self.running: asyncio.Task[None]
        self.log = logger.bind(job=self.id, stage="depot")

    async def until(self, condition: Callable[[], object], within: float | None = None) -> None:
        """Return when this holds, at the latest after `within` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not condition():
                    self.news.clear()
                    await self.news.wait()

    def use(self, *paths: Path) -> None:
        """Remember when these files were used for this job."""
        for path in paths:
            with suppress(OSError):
                self.used[path] = path.stat().st_mtime


class DepotWork:
    """The jobs of the hub whose files are in the depot.

    Args:
        calls: The worker's tasks and files.
        session: Moves files.
        link: The connection to the hub.
        on_short: Called when `short` has changed.

    Attributes:
        short: Why a job waits for room on the disk; empty if none does.
    """

    def __init__(self, calls: WorkerCalls, session: HttpWorkers, link: HubLink, on_short: Callable[[], object]) -> None:
        self._calls, self._queue, self._store = calls, calls.queue, calls.store
        self._session, self._link, self._on_short = session, link, on_short
        self._wallet, self.short = DepotWallet(), ""
        self._jobs: dict[str, _Job] = {}
        self._fetching, self._putting = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(AT_ONCE)
        self._files: WeakValueDictionary[FileRef, asyncio.Lock] = WeakValueDictionary()
        self._random = Random()
        self._store.needed = lambda: {path for job in self._jobs.values() for path in job.used}
        self._subscription = self._queue.facts.subscribe(self._on_fact)

    async def close(self) -> None:
        """Stop all jobs. The hub sends them again to the next run."""
        self._subscription.dispose()
        await end(*(job.running for job in self._jobs.values()))

    def hear(self, message: d.DepotFetch | d.DepotPlaces | d.DepotStored) -> None:
        """Handle a message of the hub about a job."""
        self._wallet.feed(message)
        job = self._jobs.get(message.request_id)
        match message:
            case d.DepotFetch() if job is None or job.license != (message.license or w.ANONYMOUS):
                self.drop(message.request_id)
                job = self._jobs[message.request_id] = _Job(message)
                job.running = background(f"job {job.id} of the depot", self._run(job))
            case d.DepotFetch() if job is not None:
                job.fetch, job.asked = message, True
            case d.DepotPlaces() if job is not None:
                job.places = message
            case d.DepotStored() if job is not None:
                job.stored = True
        if job is not None:
            job.news.set()

    def connected(self) -> None:
        """There is a new connection to the hub."""
        for job in self._jobs.values():
            job.asked, job.told = True, None
            job.news.set()

    def drop(self, request_id: str, license_: str | None = None) -> bool:
        """The hub does not want this job any more; whether it was here."""
        job = self._jobs.get(request_id)
        if job is None or license_ not in (None, job.license):
            return False
        del self._jobs[request_id]
        return job.running.cancel()

    def of(self, license_: str) -> set[str]:
        """The jobs of this license."""
        return {job.id for job in self._jobs.values() if job.license == license_}

    def _on_fact(self, fact: w.Fact) -> None:
        for job in self._jobs.values() if isinstance(fact, w.Changed) else ():
            job.news.set()

    async def _run(self, job: _Job) -> None:
        try:
            await first_of(self._work(job), self._tell(job), job.until(lambda: job.stored))
            task = self._task(job)
            if task is not None and task.unfinished:  # another GPU was faster
                await self._queue.drop(task.id, job.id, job.license)
            self._release(job)
        finally:
            if self._jobs.get(job.id) is job:
                del self._jobs[job.id]
            self._set_short(job, "")

    async def _work(self, job: _Job) -> None:
        try:
            await self._deliver(job, await self._rendered(job))
        except Exception as error:
            fault = error
            if not isinstance(fault, e.WakestreamError):
                fault = e.WakestreamError(f"the worker raised {type(error).__name__}: see its log", code="internal")
            job.log.opt(exception=None if fault is error else error).warning("the job failed: {}", fault)
            failed = d.DepotDelivered(request_id=job.id, files=job.gone, code=fault.code, reason=str(fault))
            await self._say(job, failed, lambda: job.stored)

    async def _say(self, job: _Job, message: m.Message, until: Callable[[], bool]) -> None:
        """Send a message now, at each new connection, and after a while, until this holds."""
        while not until():
            job.asked = False
            self._link.send(message)
            await job.until(lambda: until() or job.asked, REPEAT_EVERY)

    async def _tell(self, job: _Job) -> None:
        """Tell the hub how far the job is."""
        while True:
            step, percent = now = self._progress(job)
            if now != job.told and self._link.send(d.DepotProgress(request_id=job.id, step=step, percent=percent)):
                job.told = now
            await asyncio.sleep(TELL_EVERY)

    def _progress(self, job: _Job) -> tuple[str, float | None]:
        task = self._task(job)
        if job.step == "render" and task is not None:
            return ("render", round(task.progress.percent, 1)) if task.status == "running" else ("wait", None)
        return job.step, round(100.0 * min(1.0, job.moved.total() / job.size), 1) if job.size else None

    def _task(self, job: _Job) -> w.Task | None:
        return self._queue.state.tasks.get(job.task_id)

    # Fetch and render

    async def _rendered(self, job: _Job) -> w.Task:
        """The finished task. Its files are fetched again if they were removed before it began."""
        failures = 0
        while True:
            try:
                await self._ask(job)
            except e.WorkerRefused as error:
                if error.code not in ("not_ready", "queue_full"):
                    raise
            await job.until(lambda: (task := self._task(job)) is None or not task.unfinished)
            match self._task(job):
                case w.Task(status="done") as task:
                    return task
                case w.Task(status="failed", error=why):
                    raise e.TaskFailed(why or "the task failed")
            failures = min(3, failures + 1)
            await asyncio.sleep(AGAIN.delay(failures, self._random))

    async def _ask(self, job: _Job) -> None:
        """Fetch what is not here, and ask for the task."""
        readiness, fetch, job.task_id = self._calls.readiness, job.fetch, ""
        if not readiness.kinds and not readiness.initialized:  # also for the old shape: the id of a task depends on it
            raise e.WorkerRefused("the engine is not ready, so its kinds are unknown", code="not_ready")
        spec = self._calls.fitting(requests.task_spec(dict(fetch.payload)), job.id)
        spec = replace(spec, once=job.id) if fetch.again else spec
        refs, known = set(spec.inputs.values()), self._queue.state.tasks.get(w.task_id(spec))
        done = known is not None and known.status == "done" and self._store.has_result(known.id)
        with self._queue.needing(spec):
            if not (done and self._queue.state.has(job.license, *refs)):
                job.step, job.size, job.moved = "fetch", sum(place.size for place in fetch.files), Counter()
                async with tasks_of_block() as start:
                    await asyncio.gather(*(start(self._fetch(job, ref)) for ref in refs))
            job.task_id = (await self._queue.ask(spec, job.id, job.license)).id
        job.step = "render"

    async def _fetch(self, job: _Job, ref: FileRef) -> None:
        """Fetch a file unless it is here. Raises `DepotError` (`gone`) if other bytes came twice."""
        failures = damaged = refusals = 0
        while True:
            fetch, before = job.fetch, job.moved[ref.hash]
            place = next((place for place in places_of(fetch) if place.file.blake3 == ref.hash), None)
            if place is None:
                raise e.DepotError(f"the hub does not say where the file {ref.hash}{ref.ext} is", code=GONE)
            lock = self._files.setdefault(ref, asyncio.Lock())
            try:
                async with lock:
                    return await self._have(job, ref, place)
            except e.WakestreamError as error:
                if error.code == "too_large":
                    raise
                further = job.moved[ref.hash] > before and error.code != e.DAMAGED
                failures = 1 if further else failures + 1
                refusals = refusals + 1 if isinstance(error, e.LinkExpired) and not further else 0
                if refusals > MOST_REFUSED:
                    raise e.DepotError(str(error), code=REFUSED) from error
                damaged += error.code == e.DAMAGED
                if damaged > 1:
                    job.gone = tuple(file for file in fetch.files if file.blake3 == ref.hash)
                    raise e.DepotError(f"the depot spoiled the file {place.file.name!r}: {error}", code=GONE) from error
                job.log.warning("{}; it is fetched again", error)
                refused = error.code in _REFUSALS
                need = f"the worker's disk is full: a file needs {place.file.size} bytes of room, free some"
                self._set_short(job, need if isinstance(error, e.NoSpace) else "")
            query = d.DepotQuery(request_id=job.id)
            if refused:
                await self._say(job, query, lambda: job.fetch is not fetch)  # noqa: B023 - awaited here
            else:
                self._link.send(query)
            await asyncio.sleep(AGAIN.delay(failures, self._random))

    async def _have(self, job: _Job, ref: FileRef, place: Place) -> None:
        """Fetch the file, unless this license has shown it here: another license's file proves nothing about this."""
        if not (self._queue.state.has(job.license, ref) and self._store.claim(ref)):
            if place.depot is None and not place.url:
                raise e.DepotError("the depot is not connected to the hub", code="down")
            await self._store.room_for(ref, place.file.size)
            made = Output(place.file.name, ref.ext, place.file.size, ref.hash)
            output, body = (
                self._store.fetched / f"{ref.hash}{ref.ext}",
                partial(get, self._session, self._wallet, place),
            )
            with self._calls.transfers.running():
                fetched = self._session.fetched(ref.hash, output, made, None, Recent(1), body)
                async with self._fetching, aclosing(fetched) as steps:
                    async for step in steps:
                        if isinstance(step, Downloading):
                            self._count(job, "fetched", ref.hash, step.bytes)
                        elif isinstance(step, Done):  # a power cut may undo this, since the file can be fetched again
                            await self._store.on_disk(partial(replace_file, step.path, self._store.path(ref)))
            await self._queue.show(job.license, ref)
        self._set_short(job, "")
        job.moved[ref.hash] = place.file.size
        job.use(self._store.path(ref))

    def _count(self, job: _Job, how: str, digest: str, count: int) -> None:
        self._calls.transfers.moved[how] += max(0, count - job.moved[digest])
        job.moved[digest] = count

    def _set_short(self, job: _Job, why: str) -> None:
        if why != job.short:
            job.short = why
            self.short = next((job.short for job in self._jobs.values() if job.short), "")
            self._on_short()

    # Deliver

    async def _deliver(self, job: _Job, task: w.Task) -> None:
        """Put the results into the depot, and tell the hub, until it has them on record."""
        paths = {output.blake3: self._calls.result(task, output.name)[0] for output in task.outputs}
        job.use(*paths.values(), *map(self._store.path, task.results), self._store.results(task.id))
        offer = d.DepotOffer(request_id=job.id, files=tuple(d.DepotFile(**asdict(made)) for made in task.outputs))
        files = tuple(d.DepotPlace(**asdict(made)) for made in task.outputs)
        delivered = d.DepotDelivered(request_id=job.id, task_id=task.id, files=files)
        failures = best = refusals = 0
        while not job.stored:
            job.step, job.size, job.moved = "deliver", sum(output.size for output in task.outputs), Counter()
            await self._say(job, offer, lambda: job.stored or job.places is not None)
            answer, job.places = job.places or d.DepotPlaces(request_id=job.id), None
            if answer.code not in (None, "down") and failures >= MOST_OFFERS:
                raise e.DepotError(answer.reason or "the depot does not take the results", code=answer.code)
            whole = answer.code is None and await self._put_all(job, answer, paths)
            refusals = refusals + 1 if job.refusal is not None else 0
            if refusals > MOST_REFUSED:
                raise e.DepotError(str(job.refusal), code=REFUSED)
            if whole:
                await self._say(job, delivered, lambda: job.stored or job.places is not None)
            best, further = max(best, job.moved.total()), job.moved.total() > best
            failures = 0 if further and not whole else failures + 1
            if failures:
                await job.until(lambda: job.stored, AGAIN.delay(failures, self._random))

    async def _put_all(self, job: _Job, answer: d.DepotPlaces, paths: dict[str, Path]) -> bool:
        """Put what the depot lacks; whether it has all then. The links may be for the next parts only."""
        places = [place for place in places_of(answer) if not place.have and place.file.blake3 in paths]
        puts = (self._put(job, place, paths[place.file.blake3]) for place in places)
        ends = await asyncio.gather(*puts, return_exceptions=True)
        job.refusal = next((error for error in ends if isinstance(error, e.LinkExpired)), None)
        for error in ends:
            if isinstance(error, e.WakestreamError):
                job.log.warning("{}; the results are offered again", error)
            elif isinstance(error, BaseException):
                raise error
        return all(whole is True for whole in ends)

    async def _put(self, job: _Job, place: Place, path: Path) -> bool:
        status, digest = path.stat(), place.file.blake3
        file = Fingerprint(path, status.st_size, status.st_mtime_ns, {"blake3": digest})
        with self._calls.transfers.running():
            async with self._putting, aclosing(put(self._session, self._wallet, file, place)) as counts:
                async for count in counts:
                    if isinstance(count, Resumed):
                        job.moved[digest] = count.bytes
                    else:
                        self._count(job, "delivered", digest, count)
        return job.moved[digest] >= status.st_size

    def _release(self, job: _Job) -> None:
        """The depot has them now: these files may be removed at once, unless another caller has used them since."""
        for path, used in job.used.items():
            with suppress(OSError):
                if path.stat().st_mtime == used:
                    os.utime(path, (used - PROMISED, used - PROMISED))
