"""The worker's connection to the hub: report that the GPU is online and in use, and the results of the hub's jobs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from loguru import logger
from reactivex.disposable import CompositeDisposable

from wakestream.adapters.client.worker import HttpWorkers
from wakestream.adapters.net.hub_link import HubLink
from wakestream.adapters.runtime.recent import Recent
from wakestream.adapters.runtime.tasks import background, end
from wakestream.adapters.worker.depot_work import DepotWork
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.http import replies, requests
from wakestream.adapters.worker.http.server import WorkerCalls
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.events import FileRef
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.protocol.kinds import KINDS, MAX_KIND, MAX_KINDS, MAX_KINDS_BYTES
from wakestream.streams.protocol.known_kinds import described
from wakestream.streams.worker import state as w

ACTIVE_EVERY = 30.0
"""Seconds between two activity messages while a task runs or a file is transferred."""

_MAX_WATCHED = 10_000
_MAX_INBOX = 10_000


class WorkerHub:
    """Connects the queue with the hub.

    A job from the hub starts if its files are here already; otherwise its client uploads them and submits by HTTP. In
    both cases the worker reports the end to the hub as soon as it is connected. A hub without features is an old one:
    it counts a license as busy until a result comes, so the worker answers each job at once, with "accepted" or a
    reason, and does not report the end.

    Args:
        link: The connection to the hub.
        calls: The worker's tasks and files, its running transfers, and the clients that want progress messages. Its
            verifier gets the hub's key.
        url: The worker's address, for clients.
        on_revoked: Called with the id of a revoked license.
        role: `worker`; or `depot`, which does no tasks.
        session: Moves files between the depot and this machine.

    Attributes:
        watched: Whether a monitor can switch this machine off, as far as the hub said.
    """

    def __init__(
        self,
        link: HubLink,
        calls: WorkerCalls,
        *,
        url: str | None = None,
        on_revoked: Callable[[str], None] = lambda _: None,
        role: str = "worker",
        session: HttpWorkers,
    ) -> None:
        self._link, self._calls, self._queue, self._store = link, calls, calls.queue, calls.store
        self._verifier, self._on_revoked = calls.verifier, on_revoked
        self._online = m.Online(msg="the GPU is online", gpu=calls.gpu, url=url)
        self._role = role
        if role == "worker":
            calls.transfers.on_first = self._start_activity
        self._initialized = False
        self._refused = False
        self.watched = True
        self._old = False
        self._hub_features: frozenset[str] = frozenset()
        self._told: m.WorkerState | None = None
        self._watched: Recent[str, tuple[m.Submit, str]] = Recent(_MAX_WATCHED)  # jobs of the hub and their tasks
        self._cancelled: Recent[str, str | None] = Recent(_MAX_WATCHED)
        self._unsent: deque[m.Result | m.JobWork] = deque(maxlen=_MAX_WATCHED)
        self._working: set[str] = set()
        # What the hub knows of its jobs, and their tasks.
        self._states: Recent[str, tuple[m.JobState, str]] = Recent(_MAX_WATCHED)
        self._inbox: asyncio.Queue[m.Message] = asyncio.Queue(_MAX_INBOX)
        self._next_active: asyncio.TimerHandle | None = None
        self._subscriptions = CompositeDisposable(
            link.events.subscribe(self._on_event), self._queue.facts.subscribe(self._on_fact)
        )
        self.depot = DepotWork(calls, session, link, self._report_state)
        self._consuming = background("the messages of the hub", self._consume())

    def described(self) -> None:
        """The kinds of a ready engine have changed: report them to the hub. At each new connection it gets them too."""
        if not self._link.up or KINDS not in self._hub_features:
            return
        parts = described(self._calls.readiness.kinds)
        if parts == [m.GpuKinds()] and self._calls.readiness.kinds:
            logger.warning(
                "the hub does not learn this worker's kinds: there may be {}, with {} bytes each and {} in all",
                *(MAX_KINDS, MAX_KIND, MAX_KINDS_BYTES),
            )
        for part in parts:
            self._link.send(part)

    def initialized(self) -> None:
        """The engine is ready: report this to the hub now and at each new connection."""
        self._initialized = True
        if self._link.up:
            self._report_online()

    def _report_online(self) -> None:
        self.described()  # first, because the hub then grants jobs
        self._link.send(self._online)

    def _report_state(self) -> None:
        """Report whether tasks begin, if the hub wants that and it has changed since the last report."""
        state, gpu = self._queue.state, self._calls.gpu
        if gpu is None or m.WorkerState.FEATURE not in self._hub_features or not (state.halt or state.ready):
            return
        short = self.depot.short if not state.busy and not state.line else ""
        halt = state.halt or (w.Halt("paused", short) if short else None)
        word, reason = ("ready", None) if halt is None else (halt.word, halt.reason)
        now = m.WorkerState(gpu=gpu, state=word, reason=reason)
        if now != self._told and self._link.send(now):
            self._told = now

    @property
    def connected(self) -> bool:
        """Whether the hub is connected."""
        return self._link.up

    async def close(self) -> None:
        """Stop handling events of the hub and the queue."""
        self._subscriptions.dispose()
        self._stop_activity()
        await end(self._consuming)
        await self.depot.close()

    def _on_event(self, event: m.Message | LinkUp | LinkDown) -> None:
        match event:
            case LinkUp():
                self._connected(event)
            case m.LicenseRevoked():
                self._revoked(event.license)
            case m.MonitorState():
                self.watched = event.connected
            case m.Error(request_id=None) if self._link.up:
                logger.warning("the hub says: {}", event.text)
            case m.Error(request_id=str(job), code="forbidden"):  # the hub gave it to others
                self.depot.drop(job)
            case LinkDown(code=code) if code:
                if not self._refused:  # the link logs the reason at each attempt; log what to do only once
                    logger.error(
                        "the hub refuses this {role}: give it a key of role {role} (`wakestream license issue "
                        "--role {role}` at the hub). Until then it only serves HTTP", role=self._role
                    )  # fmt: skip
                self._refused = True
            case d.DepotPlaces() | d.DepotStored():
                self._receive(event)
            case m.Submit() | m.DispatchBatch() | m.Cancel() | m.JobDone() | d.DepotFetch():
                if self._verifier is not None:
                    self._verifier.ended.feed(event)  # at once, since many messages may be waiting
                self._receive(event)

    def _connected(self, up: LinkUp) -> None:
        self._old, self._refused, self.watched = not up.features, False, True
        if self._verifier is not None and not self._verifier.pin(up.capability_key):
            logger.error(
                "the hub has another key than before: this {} refuses capabilities until it is restarted. If the "
                "hub's state folder was not created again, find the cause first", self._role
            )  # fmt: skip
        self._hub_features, self._told = up.features, None
        self._states.clear()
        self._report_state()  # before the GPU is online: the hub then grants jobs
        if self._initialized:
            self._report_online()
        for task in self._queue.state.tasks.values():
            self._report_work(task)
        while self._unsent and (self._is_foreign(self._unsent[0]) or self._link.send(self._unsent[0])):
            self._unsent.popleft()
        self.depot.connected()
        if self._next_active is not None:
            self._send_active()

    def _revoked(self, owner: str) -> None:
        """Refuse calls of this license and cancel its tasks."""
        if self._verifier is not None:
            self._verifier.revoke(owner)
        self._on_revoked(owner)
        held = {job for task in self._queue.state.tasks.values() if task.unfinished for job in task.jobs_of(owner)}
        held |= self.depot.of(owner)
        for job in held | {id_ for id_, (submit, _) in self._watched.items() if submit.license == owner}:
            self._receive(m.Cancel(request_id=job, license=owner))

    def _receive(self, message: m.Message) -> None:
        match message:  # at once: the client of a job that is granted again may come before that is read
            case m.Cancel(request_id=job, license=license_):
                self._cancelled[job] = license_
            case m.Submit(request_id=job) | d.DepotFetch(request_id=job):
                self._cancelled.pop(job, None)
            case m.DispatchBatch(jobs=jobs):
                for frame in jobs:
                    self._cancelled.pop(str(frame.get("request_id")), None)
        try:
            self._inbox.put_nowait(message)
        except asyncio.QueueFull:
            logger.warning("the hub sends faster than this worker can handle; a {} was dropped", message.TYPE)

    async def _consume(self) -> None:
        while True:
            message = await self._inbox.get()
            try:
                match message:
                    case m.Submit():
                        await self._submit(message)
                        self._report_states((message.request_id,))
                    case m.DispatchBatch(jobs=jobs):
                        for job in jobs:
                            await self._dispatched(job)
                    case m.Cancel():
                        await self._cancel(message.request_id, message.license)
                    case m.JobDone():
                        self._unwatch(message.request_id, message.license)
                        self.depot.drop(message.request_id, message.license)
                    case d.DepotFetch() | d.DepotPlaces() | d.DepotStored():
                        self.depot.hear(message)
            except WakestreamError as error:
                logger.warning("a {} of the hub failed: {}", message.TYPE, error)
            except Exception as error:
                logger.opt(exception=error).error("this worker failed at a {} of the hub", message.TYPE)

    async def _dispatched(self, frame: Mapping[str, Any]) -> None:
        try:
            message = wire.from_frame({"type": m.Submit.TYPE, **frame}, strict=False)
        except wire.Malformed as error:
            logger.warning("a job in the hub's batch was dropped: {}", error)
        else:
            if isinstance(message, m.Submit):
                await self._submit(message)
                self._report_states((message.request_id,))

    async def _submit(self, job: m.Submit) -> None:
        answer = without_work(job, old_hub=self._old)
        if answer is not None:
            self._send_result(answer)
        elif self._old:
            self._send_result(await self._accept(job))
        else:
            await self._watch(job)

    async def _accept(self, job: m.Submit) -> m.Result:
        why = missing(job, self._store)
        if why is not None:
            return failed(job, why)
        try:
            task = await self._queue.ask(requests.task_spec(dict(job.payload)), job.request_id)
        except WakestreamError as error:
            return failed(job, str(error))
        return accepted(job, task, self._queue.state)

    async def _watch(self, job: m.Submit) -> None:
        try:
            spec = requests.task_spec(dict(job.payload))
        except WakestreamError:
            logger.bind(job=job.request_id).debug("the hub's job has no file names: its client will submit by HTTP")
            return
        self._watched[job.request_id] = job, w.task_id(spec)
        # Files of another license are used too (old clients send them with the secret), but are not kept longer for it.
        owner, files = job.license or w.ANONYMOUS, spec.inputs.values()
        here = self._store.claim if self._queue.state.has(owner, *files) else self._store.has
        if not spec.old_shape or not all(map(here, files)):
            return  # its client submits by HTTP, where the parameters are checked
        task = await self._queue.ask(spec, job.request_id, owner)
        if not task.unfinished:
            self._report_end(task)

    async def _cancel(self, request_id: str, license_: str | None) -> None:
        """Cancel a job. The hub gives the license only if another license may have a job of the same id."""
        job = self._unwatch(request_id, license_)
        fetched = self.depot.drop(request_id, license_)
        held = [task.id for task in self._queue.state.tasks.values() if request_id in task.holders and task.unfinished]
        for task_id in held:
            await self._queue.drop(task_id, request_id, license_ or w.ANONYMOUS)
        if held or job or fetched:
            logger.bind(job=request_id).info("cancelled by the hub")

    def _unwatch(self, request_id: str, license_: str | None) -> m.Submit | None:
        self._states.pop(request_id, None)
        job, _ = self._watched.get(request_id, (None, ""))
        if job is None or license_ not in (None, job.license):
            return None
        del self._watched[request_id]
        return job

    def _on_fact(self, fact: w.Fact) -> None:
        self._report_state()
        if not isinstance(fact, w.Changed):
            return
        if fact.task.unfinished:
            for request_id in sorted(fact.task.holders & self._cancelled.keys()):
                # The client's submit by HTTP arrived after the hub had ended the job.
                self._receive(m.Cancel(request_id=request_id, license=self._cancelled[request_id]))
        for frame in self._calls.listeners.frames(fact.task):
            self._link.send(frame)
        self._report_work(fact.task)
        of = fact.task
        self._report_states(job for job, (_, task) in self._states.items() if task == of.id or job in of.holders)
        if fact.task.status == "running":
            self._start_activity()
        elif not fact.task.unfinished:
            self._report_end(fact.task)

    def _report_work(self, task: w.Task) -> None:
        """Report how long a task runs, and in the end how long it ran, in equal parts for the jobs that hold it."""
        holders = sorted(task.holders - {w.ANONYMOUS})
        if task.status == "running" and task.started_at is not None:
            self._working.add(task.id)
            seconds = round(max(0.0, self._queue.clock() - task.started_at), 3)
            frames = [m.JobWork(request_id=job, seconds=seconds) for job in holders]
            for frame in frames if m.JobWork.FEATURE in self._hub_features else ():
                self._link.send(frame)
        elif task.id in self._working:
            self._working.remove(task.id)
            ran = (task.finished_at or 0.0) - (task.started_at or 0.0) if not task.unfinished else 0.0
            seconds = round(max(0.0, ran) / max(1, len(holders)), 3)
            for job in holders:
                self._send_result(m.JobWork(request_id=job, seconds=seconds, ended=True))

    def _report_states(self, jobs: Iterable[str]) -> None:
        """Report what has become of these jobs of the hub, where it does not know that yet."""
        if m.JobState.FEATURE not in self._hub_features:
            return
        tasks = self._queue.state.tasks
        for job in [*jobs]:
            before, known = self._states.get(job, (None, self._watched.get(job, (None, ""))[1]))
            task = w.find(self._queue.state, job) or tasks.get(known)
            word, seconds = "unknown", 0.0
            if task is not None and not task.unfinished:
                word, ran = task.status, (task.finished_at or 0.0) - (task.started_at or task.finished_at or 0.0)
                seconds = round(max(0.0, ran) / max(1, len(task.holders)), 3)
            elif task is not None or self._calls.transfers.open:  # or its files are on the way
                word = "open"
            state = m.JobState(request_id=job, state=word, seconds=seconds)
            if state == before or self._link.send(state):
                self._states[job] = state, task.id if task is not None else known

    def _is_foreign(self, message: m.Message) -> bool:
        return isinstance(message, m.JobWork) and m.JobWork.FEATURE not in self._hub_features

    def _report_end(self, task: w.Task) -> None:
        """Report the end of a task for each job of the hub that waits for it. The hub gets no secret parameters."""
        held = task.owners | {(job, w.ANONYMOUS) for job in task.holders}
        for job in [
            job
            for job, of in self._watched.values()
            if of == task.id or (job.request_id, job.license or w.ANONYMOUS) in held
        ]:
            del self._watched[job.request_id]
            self._send_result(ended(job, task))

    def _send_result(self, result: m.Result | m.JobWork) -> None:
        if not self._is_foreign(result) and (self._unsent or not self._link.send(result)):
            self._unsent.append(result)

    def _start_activity(self) -> None:
        if self._next_active is None:
            self._send_active()

    def _send_active(self) -> None:
        self._stop_activity()
        running = [task.id for task in self._queue.state.tasks.values() if task.status == "running"]
        if running or self._calls.transfers.open:
            # Deployed monitors accept only this task type; the id is for people.
            self._link.send(m.TaskActive(task_id=running[0] if running else "transfer", task_type="heygem_submit"))
            self._next_active = asyncio.get_running_loop().call_later(ACTIVE_EVERY, self._send_active)
        self._report_states(self._states)

    def _stop_activity(self) -> None:
        if self._next_active is not None:
            self._next_active.cancel()
            self._next_active = None


# The worker's answers to jobs from a hub, with the texts of deployed workers.

_RENDER = "heygem_submit"
_NO_HASHES = "缺少 audio_hash 或 video_hash"
_NO_ASSETS = "不支持 upload_asset: 请用 HTTP 的 upload_file 上传文件"


def without_work(job: m.Submit, *, old_hub: bool) -> m.Result | None:
    """The answer to a job that is not a render; None for a render.

    A wakestream client may name its files later and use any task type, so a wakestream hub's jobs are all renders.
    """
    if job.task_type == "delete_asset":  # this worker has no assets, and an unknown one counts as deleted
        return _answer(job, error=False, result={"id": job.payload.get("id"), "msg": "删除成功"})
    if job.task_type == "upload_asset":
        return failed(job, _NO_ASSETS)
    if not old_hub and "kind" in job.payload:
        return None
    named = all(job.payload.get(f"{name}_hash") for name in requests.USUAL)
    if named or not (old_hub or (job.payload and job.task_type != _RENDER)):
        return None
    return failed(job, _NO_HASHES if job.task_type == _RENDER else f"未知任务类型: {job.task_type}")


def missing(job: m.Submit, store: FileStore) -> str | None:
    """The text about a missing file of the job, the audio first; None if both are here."""
    for name, called in (("audio", "音频"), ("video", "视频")):
        said, ext = str(job.payload.get(f"{name}_hash")), job.payload.get(f"{name}_ext") or requests.USUAL[name]
        if not requests.is_hash(said) or not store.claim(FileRef(requests.file_hash(said), requests.file_ext(ext))):
            return f"{called}文件不存在: {said}{ext}"
    return None


def accepted(job: m.Submit, task: w.Task, state: w.QueueState) -> m.Result:
    """The answer to a deployed hub, for which it ends the job; its clients read it as "the render has begun"."""
    return _answer(job, error=False, result={"task_id": task.id, "queue": replies.queue(state)})


def ended(job: m.Submit, task: w.Task) -> m.Result:
    """The end of a job, for a wakestream hub."""
    failure = {} if task.status == "done" else {"error": True, "error_msg": task.error or "the task failed"}
    return _answer(job, result={"task_id": task.id, "status": replies.status_word(task)}, **failure)


def failed(job: m.Submit, why: str) -> m.Result:
    """The job failed."""
    return _answer(job, error=True, error_msg=why)


def _answer(job: m.Submit, **answer: Any) -> m.Result:
    about = ("request_id", "task_type", "key", "license", "sender_fd")
    return m.Result(**{name: getattr(job, name) for name in about}, **answer)
