"""The stages of a job that shares hub, GPU and network with other jobs: each waits for its turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import reactivex as rx
from reactivex import Observable
from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

from wakestream.operators.model.events import Checked, Job, JobEvent, Note, Queued
from wakestream.operators.model.ports import Hub
from wakestream.operators.rx.core.observable import (
    CompositeDisposable,
    Disposable,
    LightObservable,
    SerialDisposable,
    ignore,
    subscribe_through,
)
from wakestream.operators.rx.core.scheduler import clock
from wakestream.operators.rx.each import Stage
from wakestream.operators.rx.limiter import Limiter
from wakestream.operators.rx.then import then
from wakestream.operators.stages.depot import offered
from wakestream.streams.jobs.gpu_backoff import Starts
from wakestream.streams.jobs.job_order import Arrivals, JobOrder, Move, Order
from wakestream.streams.jobs.stages import Stages
from wakestream.streams.jobs.world import Events

Hold = Callable[[Observable[JobEvent]], Observable[JobEvent]]


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """How many jobs may do each thing at once; the others wait for their turn.

    Attributes:
        running: Jobs that have started.
        uploads: Jobs that upload.
        gpu: Jobs that have a task at the worker.
        downloads: Jobs that download.
    """

    running: int = 200
    uploads: int = 2
    gpu: int = 8
    downloads: int = 2


class Lanes:
    """The limiters that all jobs of a program share, their order, and the pauses after failed starts.

    `priority(job id)`: jobs with a higher priority get their turn first. `asked(job id)`: whether an earlier run of the
    program asked the hub for this job. `asking` has the jobs that wait for a GPU at the hub.
    """

    def __init__(
        self,
        limits: LaneLimits,
        priority: Callable[[str], int] = lambda _: 0,
        asked: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.asked = asked
        self.running, self.uploads = Limiter(limits.running), Limiter(limits.uploads)
        self.gpu, self.downloads = Limiter(limits.gpu), Limiter(limits.downloads)
        self.starts = Starts()
        self.asking: dict[str, None] = {}
        self.priority, self.order = priority, JobOrder(priority)
        self.arrivals = Arrivals(self.order)  # at their first turn
        self.at_gpu = Arrivals(self.order)  # uploads side by side end in any order
        self.calls = Arrivals(self.order)  # so do calls that start tasks

    @property
    def waiting(self) -> list[str]:
        """The jobs that wait for a GPU at the hub, in their order."""
        return sorted(self.asking, key=self.order.key)

    def move(self, job: str, move: Move | Order) -> None:
        """Change the place of a job among those that wait, or the order of all."""
        if isinstance(move, Order):
            self.order.arrange(move)
        else:
            self.order.move(job, move)
        for lane in (self.running, self.uploads, self.gpu, self.downloads, self.arrivals, self.at_gpu, self.calls):
            lane.reorder()


@dataclass(frozen=True, slots=True)
class TurnStages(Stages):
    """The standard stages, each after a wait for its turn, which a `Note` announces.

    A job's turn at the GPU lasts from `synthesize` to the end of `follow`, or of the attempt.
    """

    shared: Lanes
    slot: _Slot

    def submit(self, depot: Callable[[Any], Events] | None = None) -> Events:
        """Until the GPU is granted, the job gives its place to one that the user moves, or has moved, before it."""
        asking, job, shared = self.shared.asking, self.job.id, self.shared

        def subscribe(observer: ObserverBase[JobEvent], scheduler: SchedulerBase | None = None) -> DisposableBase:
            def note(event: JobEvent) -> None:
                if isinstance(event, Queued):  # before, the hub may know that the worker has its task
                    if job not in asking and shared.order.by_hand:
                        clock(scheduler).schedule(lambda *_: shared.running.make_way())  # after this event
                    asking[job] = None
                    if shared.waiting[-1] != job:  # the hub has it at the end
                        self.world.hub.order(shared.waiting)

            asked = subscribe_through(Stages.submit(self, depot).do_action(note), observer, scheduler)
            return CompositeDisposable(asked, Disposable(lambda: asking.pop(job, None)))

        return LightObservable(subscribe)

    def begin(self, name: str, stage: Stage[JobEvent], before: Any) -> Events:
        """Begin a stage when it is the job's turn."""
        match name:
            case "online":  # from here on, jobs that come after this one wait for it for a moment: see `Arrivals`
                self.shared.arrivals.come(self.job.id)
                self.shared.at_gpu.come(self.job.id)
                return stage(before)
            case "upload" if before.missing:
                return self._upload(stage, before)
            case "synthesize":  # it keeps its turn at the GPU
                hold = wait_for_turn(self.job, self.shared, self.shared.gpu, "for the GPU")
                self.shared.arrivals.gone(self.job.id)
                call = self.shared.calls.in_order(self.job.id, stage(before), answered=True)
                return self.shared.at_gpu.in_order(self.job.id, self.slot.take(hold, call))
            case "follow":  # the end of this stage is the end of that turn
                return stage(before).do_action(on_completed=self.slot.free)
            case "depot":
                # The hub hears of the files before their turn comes, and starts no machine for them yet.
                def offer(_: int) -> None:
                    self.world.hub.offer(self.job, offered(self.job, before))

                return stage(before).pipe(wait_for_turn(self.job, self.shared, self.shared.uploads, "to upload", offer))
            case "download" | "fetch":
                return stage(before).pipe(wait_for_turn(self.job, self.shared, self.shared.downloads, "to download"))
        return stage(before)

    def _upload(self, stage: Stage[JobEvent], checked: Checked) -> Events:
        waited: list[int] = []

        def begin(_: Any) -> Events:
            # Another job may have uploaded one of the files during the wait, so ask the worker again.
            return self.dedupe(checked.worker).pipe(then(stage)) if waited else stage(checked)

        held = rx.defer(begin).pipe(
            wait_for_turn(self.job, self.shared, self.shared.uploads, "to upload", waited.append)
        )
        return self.shared.arrivals.in_order(self.job.id, held)


def in_turns(s: Stages, shared: Lanes, compose: Callable[[Stages], Events]) -> Events:
    """What `compose` makes of the stages of `s`, with waits for turns. A turn at the GPU ends with the attempt."""
    slot = _Slot()
    whole = compose(TurnStages(s.job, s.world, s.policy, s.fingerprints, shared, slot))

    def end() -> None:
        slot.free()
        for coming in (shared.arrivals, shared.at_gpu, shared.calls):
            coming.gone(s.job.id)

    # Free it before what follows the attempt, such as a pause; and when the job is disposed.
    return whole.do_action(on_error=lambda _: end(), on_completed=end).finally_action(end)


def in_order(job: Job, shared: Lanes, moves: Observable[Move | Order], hub: Hub, events: Events) -> Events:
    """The events of a job that has its place in the order of all jobs, until its end. `moves` change it, here and at
    the hub.
    """

    def move(to: Move | Order) -> None:
        shared.move(job.id, to)
        hub.order(shared.waiting)

    def subscribe(observer: ObserverBase[JobEvent], scheduler: SchedulerBase | None = None) -> DisposableBase:
        shared.order.add(job.id)
        moved = moves.subscribe(move, scheduler=scheduler)
        left = CompositeDisposable(moved, Disposable(lambda: shared.order.remove(job.id)))
        return CompositeDisposable(subscribe_through(events, observer, scheduler), left)

    return LightObservable(subscribe)


class _Slot:
    """One job's turn at the GPU: from `take` to `free`, over several stages."""

    def __init__(self) -> None:
        self._held: DisposableBase | None = None

    def take(self, hold: Hold, source: Events) -> Events:
        """The source, after a wait for the turn; at once if the job has it already."""

        def subscribe(observer: ObserverBase[JobEvent], scheduler: SchedulerBase | None = None) -> DisposableBase:
            if self._held is not None:
                return source.subscribe(observer, scheduler=scheduler)
            running, held = SerialDisposable(), SerialDisposable()
            self._held = held

            def begin(_: Any, scheduler: SchedulerBase | None) -> DisposableBase:
                running.disposable = source.subscribe(observer, scheduler=scheduler)
                return SerialDisposable()

            waiting = LightObservable[JobEvent](begin).pipe(hold)
            held.disposable = waiting.subscribe(observer.on_next, observer.on_error, scheduler=scheduler)
            return running

        return LightObservable(subscribe)

    def free(self) -> None:
        """End the turn."""
        held, self._held = self._held, None
        if held is not None:
            held.dispose()


def wait_for_turn(
    job: Job,
    shared: Lanes,
    lane: Limiter,
    purpose: str,
    on_wait: Callable[[int], None] = ignore,
    gives_way: Callable[[], bool] | None = None,
) -> Hold:
    """Subscribe to a source when it is the job's turn in `lane`."""

    def to_event(before: int) -> JobEvent:
        on_wait(before)
        others = f"{lane.max_concurrent} jobs are at it" if lane.max_concurrent > 1 else "another job is at it"
        text = f"waiting for a turn {purpose}: {others}, {before} come before this one"
        return Note(text, {"waits": purpose, "limit": lane.max_concurrent, "before": before})

    return lane.limit(on_wait=to_event, key=lambda: shared.order.key(job.id), gives_way=gives_way)
