"""The standard pipeline with a meter running: what the GPU has cost since it began to start, by the hub's power events.

PER_HOUR=2.40 python examples/cost_meter.py VIDEO AUDIO RESULT
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import reactivex as rx
from reactivex import Observable, abc

from wakestream.adapters.run_jobs import new_job, run_jobs
from wakestream.operators import (
    Accepted,
    BootFailure,
    Job,
    JobEvent,
    Note,
    Policy,
    Reply,
    Stirring,
    Woken,
    begin_with,
    beside,
    emit,
    every,
    is_outcome,
    seconds_now,
)
from wakestream.streams import Build, World, job_pipeline

ON = frozenset({"starting", "booted"})
"""News of the machine that says: it is paid for now. Other news says that it is not."""


class Meter:
    """Adds up the seconds in which the GPU is on. `now()` is in seconds."""

    def __init__(self, per_hour: float, now: Callable[[], float]) -> None:
        self.per_hour, self._now = per_hour, now
        self._before, self._since = 0.0, None  # type: float, float | None

    def hear(self, news: Reply) -> None:
        """One power event: the meter starts, stops or runs on."""
        on = isinstance(news, Accepted | Woken) or (isinstance(news, Stirring) and news.phase in ON)
        off = isinstance(news, BootFailure) or (isinstance(news, Stirring) and news.phase not in ON)
        if on and self._since is None:
            self._since = self._now()
        elif off:
            self._before, self._since = self.seconds, None

    @property
    def seconds(self) -> float:
        """How long the GPU has been on."""
        return self._before + (0.0 if self._since is None else self._now() - self._since)

    def reading(self) -> Note:
        """In whole seconds: a replay shows the same, whatever a run's own milliseconds were."""
        seconds = round(self.seconds)
        cost = round(seconds / 3600 * self.per_hour, 4)
        return Note(f"the GPU has been on for {seconds} s: {cost:.2f}", {"seconds": seconds, "cost": cost})


def metered(per_hour: float, line_every: float = 30.0) -> Build:
    """The standard pipeline, with a reading every `line_every` seconds and a last one just before the outcome."""

    def build(job: Job, world: World, policy: Policy, cancel: Observable[Any]) -> Observable[JobEvent]:
        def begin(time: abc.SchedulerBase) -> Observable[JobEvent]:
            meter = Meter(per_hour, lambda: seconds_now(time))
            power = world.hub.replies(job).do_action(meter.hear)
            lines: Observable[JobEvent] = every(line_every, lambda _: meter.reading())
            work = job_pipeline(job, world, policy, cancel).flat_map(
                lambda event: emit(event).pipe(begin_with(*[meter.reading()] * is_outcome(event)))
            )
            return rx.merge(lines, work).take_while(lambda e: not is_outcome(e), inclusive=True).pipe(beside(power))

        return rx.defer(begin)

    return build


if __name__ == "__main__":
    video, audio, result = map(Path, sys.argv[1:4])
    sys.exit(run_jobs([new_job(video, audio, result)], metered(float(os.environ.get("PER_HOUR", "2.40")))))
