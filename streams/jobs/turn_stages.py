"""The stages of a job that shares its hub, GPU and line with others: each waits for its turn before it uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import reactivex as rx
from reactivex import Observable, abc

from wakestream.operators.model.events import Checked, Job, JobEvent, Note, Rendered, Submitted, Uploaded
from wakestream.operators.rx.core.observable import CompositeDisposable, Disposable, LightObservable, SerialDisposable
from wakestream.operators.rx.limiter import Limiter
from wakestream.operators.rx.then import then
from wakestream.streams.jobs.stages import Events, Stages
from wakestream.streams.jobs.starts import Starts

Hold = Callable[[Observable[JobEvent]], Observable[JobEvent]]


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """How many jobs may be in each lane at once; the others wait for their turn."""

    running: int = 200
    uploads: int = 2
    gpu: int = 8
    downloads: int = 2


def _same_priority(_: str) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Lanes:
    """The turns that all jobs of a program share, and the pauses after failed starts. `priority(job id)`: the higher,
    the sooner."""

    running: Limiter
    uploads: Limiter
    gpu: Limiter
    downloads: Limiter
    priority: Callable[[str], int] = field(default=_same_priority)
    starts: Starts = field(default_factory=Starts)


def lanes(limits: LaneLimits, priority: Callable[[str], int] = _same_priority) -> Lanes:
    """Lanes that are all free."""
    return Lanes(
        Limiter(limits.running), Limiter(limits.uploads), Limiter(limits.gpu), Limiter(limits.downloads), priority
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class TurnStages(Stages):
    """The standard stages in turns; every wait for one is told in a `Note`.

    A job's turn at the GPU lasts from `synthesize` to the end of `follow`, or of the try.
    """

    shared: Lanes
    slot: _Slot

    def upload(self, checked: Checked) -> Events:
        """As ever, in turn; where nothing is missing, at once."""
        if not checked.missing:
            return Stages.upload(self, checked)
        waited: list[int] = []

        def begin(_: Any) -> Events:
            # While it waited, another job may have brought a file of its own: the worker is asked again.
            sent = self.dedupe(checked.worker).pipe(then(lambda again: Stages.upload(self, again)))
            return sent if waited else Stages.upload(self, checked)

        return rx.defer(begin).pipe(turn(self.job, self.shared, self.shared.uploads, "to upload", waited.append))

    def synthesize(self, uploaded: Uploaded) -> Events:
        """As ever, once it is its turn at the GPU, which it keeps."""
        hold = turn(self.job, self.shared, self.shared.gpu, "for the GPU")
        return self.slot.take(hold, Stages.synthesize(self, uploaded))

    def follow(self, task: Submitted) -> Events:
        """As ever; its end is that of the turn at the GPU."""
        return Stages.follow(self, task).do_action(on_completed=self.slot.free)

    def download(self, rendered: Rendered) -> Events:
        """As ever, in turn."""
        return Stages.download(self, rendered).pipe(turn(self.job, self.shared, self.shared.downloads, "to download"))


def in_turns(s: Stages, shared: Lanes, compose: Callable[[Stages], Events]) -> Events:
    """What `compose` makes of the stages of `s`, in turns; a turn that is still held ends with each try."""
    slot = _Slot()
    whole = compose(TurnStages(s.job, s.world, s.policy, s.readings, shared, slot))
    tried = whole.do_action(on_error=lambda _: slot.free(), on_completed=slot.free)

    def subscribe(
        observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return CompositeDisposable(tried.subscribe(observer, scheduler=scheduler), Disposable(slot.free))

    return LightObservable(subscribe)


class _Slot:
    """The turn at the GPU that one job has: from `take` to `free`, over several stages."""

    def __init__(self) -> None:
        self._held: abc.DisposableBase | None = None

    def take(self, hold: Hold, source: Events) -> Events:
        """The source, once it is the job's turn; at once where it has it already."""

        def subscribe(
            observer: abc.ObserverBase[JobEvent], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            if self._held is not None:
                return source.subscribe(observer, scheduler=scheduler)
            running, held = SerialDisposable(), SerialDisposable()
            self._held = held

            def begin(_: Any, scheduler: abc.SchedulerBase | None) -> abc.DisposableBase:
                running.disposable = source.subscribe(observer, scheduler=scheduler)
                return SerialDisposable()

            waiting = LightObservable[JobEvent](begin).pipe(hold)
            held.disposable = waiting.subscribe(observer.on_next, observer.on_error, scheduler=scheduler)
            return running

        return LightObservable(subscribe)

    def free(self) -> None:
        """Others may have it."""
        held, self._held = self._held, None
        if held is not None:
            held.dispose()


def _unnoticed(_: int) -> None:
    """Nobody else wants to know."""


def turn(job: Job, shared: Lanes, lane: Limiter, purpose: str, on_wait: Callable[[int], None] = _unnoticed) -> Hold:
    """Holds a source back until it is the job's turn in `lane`."""

    def told(before: int) -> JobEvent:
        on_wait(before)
        others = f"{lane.max_concurrent} jobs are at it" if lane.max_concurrent > 1 else "another job is at it"
        text = f"waiting for a turn {purpose}: {others}, {before} come before this one"
        return Note(text, {"waits": purpose, "limit": lane.max_concurrent, "before": before})

    return lane.limit(shared.priority(job.id), told)
