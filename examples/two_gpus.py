"""One job on two GPUs at once: the first to render it wins, the others are told to stop.

python examples/two_gpus.py VIDEO AUDIO RESULT http://gpu-a:8383 http://gpu-b:8383
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import reactivex as rx
from reactivex import Observable

from wakestream.adapters.run_jobs import new_job, run_jobs
from wakestream.operators import (
    GpuLost,
    Granted,
    Job,
    JobEvent,
    Note,
    Policy,
    Readings,
    Rendered,
    Submitted,
    dedupe,
    download,
    emit,
    follow,
    from_async,
    online,
    submit,
    synthesize,
    then,
    upload,
)
from wakestream.streams import Build, World, guarded


class Race:
    """One job's race: a lane per GPU, from its health to the rendered result."""

    def __init__(self, job: Job, world: World, policy: Policy, urls: Sequence[str]) -> None:
        self.job, self.workers, self.random, self.policy, self.urls = job, world.workers, world.random, policy, urls
        self.tasks: dict[str, Submitted] = {}

    def start(self, readings: Readings, grant: Granted) -> Observable[JobEvent]:
        """All lanes at once, until one has rendered. A lane that fails drops out; `GpuLost` when all did."""
        self.tasks.clear()
        lanes = rx.merge(*(self._lane(readings, replace(grant, url=url)) for url in self.urls))
        nobody: Observable[JobEvent] = rx.throw(GpuLost("none of the GPUs could do it"))
        return rx.concat(lanes, nobody).take_while(lambda event: not isinstance(event, Rendered), inclusive=True)

    def _lane(self, readings: Readings, grant: Granted) -> Observable[JobEvent]:
        workers, policy, random = self.workers, self.policy, self.random
        sent = online(workers, policy, random)(grant).pipe(
            then(dedupe(workers, readings, policy, random)),
            then(upload(workers, policy, random)),
            then(synthesize(self.job, workers, policy, random)),
            then(follow(workers, policy, random)),
        )
        return sent.do_action(self._note).catch(lambda error, _: emit(Note(f"{grant.url} dropped out: {error}")))

    def _note(self, event: JobEvent) -> None:
        if isinstance(event, Submitted):
            self.tasks[event.worker.url] = event

    def stop_losers(self, won: Rendered) -> Observable[JobEvent]:
        """Tell the others to stop; ends with the winner's `Rendered`."""
        losers = [task for task in self.tasks.values() if task is not won.task]
        return rx.concat(*map(self._stop, losers), emit(won))

    def _stop(self, task: Submitted) -> Observable[JobEvent]:
        url, worker = task.worker.url, self.workers.at(task.worker.url)
        told: Observable[JobEvent] = from_async(lambda: worker.cancel(task.task_id), "cancel").map(
            lambda _: Note(f"{url} was told to stop")
        )
        return told.catch(lambda error, _: emit(Note(f"{url} could not be told to stop: {error}")))


def fastest_of(*urls: str) -> Build:
    """The standard pipeline, with a race in its middle."""

    def build(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        race = Race(job, world, policy, urls)
        return guarded(
            lambda readings: submit(job, world.hub, readings, policy).pipe(
                then(lambda grant: race.start(readings, grant)),
                then(race.stop_losers),
                then(download(job.output, world.workers, policy, world.random)),
            ),
            job, world, policy, cancel,
        )  # fmt: skip

    return build


if __name__ == "__main__":
    video, audio, result = map(Path, sys.argv[1:4])
    sys.exit(run_jobs([new_job(video, audio, result)], fastest_of(*sys.argv[4:])))
