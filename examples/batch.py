"""Many small jobs, one wake: they wait on this machine until there are N of them, or until a deadline.

python examples/batch.py AUDIO VIDEO...        (N and the deadline in seconds: BATCH_SIZE, BATCH_WITHIN)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import reactivex as rx
from reactivex import Observable
from reactivex.subject import Subject

from wakestream.adapters.run_jobs import new_job, run_jobs
from wakestream.operators import (
    Job,
    JobEvent,
    Note,
    Policy,
    begin_with,
    beside,
    dedupe,
    download,
    emit,
    follow,
    online,
    submit,
    synthesize,
    then,
    upload,
)
from wakestream.streams import World, guarded


class Batch:
    """Lets jobs through together: when `size` of them wait, or `within` seconds after the first came. One per run."""

    def __init__(self, size: int, within: float) -> None:
        self.size, self.within = size, within
        self.passed: set[str] = set()
        self._waiting: set[str] = set()
        self._open: Subject[JobEvent] = Subject()

    def gate(self, job: Job) -> Observable[JobEvent]:
        """One `Note` when the job joins, one when the batch goes. A job that comes by again is not held twice."""

        def join(_: Any) -> Observable[JobEvent]:
            if job.id in self.passed:
                return emit(Note("it went with a batch before"))
            self._waiting.add(job.id)
            if len(self._waiting) >= self.size:
                return emit(self._go(f"{self.size} jobs are here"))
            opened, held = self._open, Note(f"held back: {len(self._waiting)} of {self.size} jobs")
            deadline = rx.timer(self.within).map(lambda _: self._go(f"{self.within:g} s have passed", opened))
            going = opened.take(1).pipe(beside(deadline), begin_with(held))
            return going.finally_action(lambda: self._waiting.discard(job.id))

        return rx.defer(join)

    def _go(self, why: str, opened: Subject[JobEvent] | None = None) -> Note:
        note, together = Note(f"the batch of {len(self._waiting)} goes: {why}"), self._open
        if opened in (None, together):
            self.passed |= self._waiting
            self._waiting, self._open = set(), Subject()
            together.on_next(note)
        return note

    def pipeline(self, job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        """The standard stages behind the gate."""
        workers, random = world.workers, world.random
        return guarded(
            lambda readings: self.gate(job)
            .pipe(then(lambda _: submit(job, world.hub, readings, policy)), then(online(workers, policy, random)))
            .pipe(then(dedupe(workers, readings, policy, random)), then(upload(workers, policy, random)))
            .pipe(then(synthesize(job, workers, policy, random)), then(follow(workers, policy, random)))
            .pipe(then(download(job.output, workers, policy, random))),
            job, world, policy, cancel,
        )  # fmt: skip


if __name__ == "__main__":
    audio, *videos = map(Path, sys.argv[1:])
    batch = Batch(int(os.environ.get("BATCH_SIZE", "5")), float(os.environ.get("BATCH_WITHIN", "600")))
    jobs = [new_job(video, audio, Path(f"{video.stem}.synced.mp4")) for video in videos]
    sys.exit(run_jobs(jobs, batch.pipeline))
