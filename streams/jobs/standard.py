"""A job on one page: its stages in order, and around each of their calls its timeouts, retries and polling."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import Stalled, WorkerUnreachable
from wakestream.operators.model.events import JobEvent
from wakestream.operators.model.policy import Policy
from wakestream.operators.rx.each import Stage, each
from wakestream.operators.rx.poll import poll
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.timeout import each_item, timeout
from wakestream.operators.stages.dedupe import dedupe
from wakestream.operators.stages.download import bytes_received, download
from wakestream.operators.stages.follow import follow, is_finished, place
from wakestream.operators.stages.online import is_ready, online
from wakestream.operators.stages.synthesize import synthesize
from wakestream.operators.stages.upload import bytes_sent, upload
from wakestream.streams.jobs.job import Parts


class Steps(NamedTuple):
    """The stages after the grant, in order."""

    online: Stage[JobEvent]
    dedupe: Stage[JobEvent]
    upload: Stage[JobEvent]
    synthesize: Stage[JobEvent]
    follow: Stage[JobEvent]
    download: Stage[JobEvent]


def steps(s: Parts) -> Steps:
    p, workers, retry = s.policy, s.world.workers, partial(retry_backoff, random=s.world.random)
    execution = timeout(p.execution, "execution", reset=place)
    idle = timeout(p.transfer, "transfer", reset=each_item, error=Stalled)
    return Steps(
        each(online(workers), retry(until_lost(p)), poll(p.health_every, until=is_ready), timeout(p.ready, "ready")),
        each(dedupe(workers, s.fingerprints), retry(p.call)),
        each(upload(workers), idle, retry(p.call, progress=bytes_sent)),
        each(synthesize(s.job, workers), retry(p.call)),
        each(follow(workers), retry(p.call), poll(p.poll_every, until=is_finished), execution),
        each(download(s.job.outputs, workers), idle, retry(p.call, progress=bytes_received)),
    )


def until_lost(p: Policy) -> Backoff:
    """Ask a worker that does not answer again, until it counts as lost."""

    def unreachable(error: Exception) -> bool:
        return isinstance(error, WorkerUnreachable)

    return Backoff(initial=p.health_every, factor=1.0, max_elapsed=p.lost, retry_on=unreachable)
