"""A job on one page: from `gpu.job.submit` to its outcome, with timeouts, retries and polling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from reactivex import Observable

from wakestream.operators.lifecycle.cancellable import cancellable
from wakestream.operators.lifecycle.outcome import outcome
from wakestream.operators.model.errors import Stalled
from wakestream.operators.model.events import Delivered, Granted, JobEvent, Retrying, Stored
from wakestream.operators.model.ports import (
    Accepted,
    BootFailure,
    LinkDown,
    LinkUp,
    OfflineReply,
    OnlineNotice,
    PowerNotice,
    Refused,
)  # fmt: skip
from wakestream.operators.rx.each import Stage, each
from wakestream.operators.rx.poll import poll
from wakestream.operators.rx.switch_by_type import switch_by_type
from wakestream.operators.rx.then import then_by_type
from wakestream.operators.rx.timeout import each_item, timeout
from wakestream.operators.stages.dedupe import dedupe
from wakestream.operators.stages.deployed_hubs import with_deployed_hubs
from wakestream.operators.stages.depot import (
    AT_ONCE,
    bytes_stored,
    fetch,
    is_stored,
    store,
    watched,
    with_depot,
)  # fmt: skip
from wakestream.operators.stages.download import bytes_received, download
from wakestream.operators.stages.follow import follow, is_finished, pause, place
from wakestream.operators.stages.online import is_ready, online, until_lost
from wakestream.operators.stages.submit import Wait, unreachable
from wakestream.operators.stages.synthesize import synthesize
from wakestream.operators.stages.upload import bytes_sent, upload
from wakestream.streams.jobs.world import Events, Parts, waiting

if TYPE_CHECKING:
    from wakestream.streams.jobs.stages import Stages

Release = Callable[[JobEvent], None]


class Steps(NamedTuple):
    """The stages after `submit`: those of the direct way in order, then those by way of the depot."""

    online: Stage[JobEvent]
    dedupe: Stage[JobEvent]
    upload: Stage[JobEvent]
    synthesize: Stage[JobEvent]
    follow: Stage[JobEvent]
    download: Stage[JobEvent]
    depot: Stage[JobEvent]
    delivered: Stage[JobEvent]
    fetch: Stage[JobEvent]


def whole(s: Parts, attempt: Events, cancel: Observable[Any], release: Release) -> Events:
    """A job: attempts until one succeeds, within the limits, and exactly one outcome at the end."""
    return attempt.pipe(
        s.retry(replace(s.policy.again, on_retry=Retrying.of)),
        timeout(s.policy.total, "total"),
        cancellable(cancel, s.world.workers, s.job.id),
        outcome(release),
    )


def standard(s: Stages) -> Events:
    """An attempt: the last event of each stage starts the next one."""
    return s.submit(s.depot).pipe(then_by_type({
        Granted: (s.online, s.dedupe, s.upload, s.synthesize, s.follow, s.download),  # the direct way
        Stored: (s.delivered,),  # to `Delivered`, or to `Granted` after all
        Delivered: (s.fetch,),
    }))  # fmt: skip


def submit(s: Parts, depot: Callable[[Any], Events] | None = None) -> Events:
    """The wait for a GPU: follow what the hub said last. The branch that completes is the grant."""
    return waiting(s, lambda wait: wait.replies.pipe(
        switch_by_type(wait.follow(ANSWERS)),
        timeout(s.policy.online, "online", excused=wait.excused),  # 30 minutes; the daemon: 30 days
        with_depot(wait, depot),  # meanwhile the files go there, and then `Stored` ends the wait
    ))  # fmt: skip


ANSWERS = with_deployed_hubs({  # these may be busy, have this job already, or grant no single job
    LinkUp: lambda wait, link: wait.ask(link, timeout(wait.policy.reply, "reply")),  # gpu.job.submit
    Accepted: Wait.granted,  # ack: the GPU is on
    OfflineReply: Wait.queued,  # gpu.power.offline: a line every 10 s ...
    OnlineNotice: Wait.online,  # ... until the first gpu.power.online
    PowerNotice: Wait.power,
    LinkDown: lambda wait, link: wait.hub_down(link).pipe(
        timeout(wait.hub_left, "hub", error=unreachable(link))
    ),
    Refused: Wait.refused,
    BootFailure: Wait.boot_failed,
})  # fmt: skip


def steps(s: Parts) -> Steps:
    """The stages after `submit`; `each` has the operators around each call, from the inside outwards."""
    p, workers, hub, depot, retry = s.policy, s.world.workers, s.world.hub, s.world.depot, s.retry
    idle = timeout(p.transfer, "transfer", reset=each_item, error=Stalled)
    no_byte = timeout(p.transfer, "depot", reset=bytes_stored, error=Stalled)
    ready, work = timeout(p.ready, "ready"), timeout(p.execution, "execution", reset=place)
    return Steps(
        each(online(workers), retry(until_lost(p)), poll(p.health_every, is_ready), ready),
        each(dedupe(workers, s.fingerprints), retry(p.call)),
        each(upload(workers), idle, retry(p.call, progress=bytes_sent)),
        each(synthesize(s.job, workers), retry(p.call)),
        each(follow(workers), retry(p.call), poll(pause(p.poll_every), is_finished), work),
        each(download(s.job.outputs, workers), idle, retry(p.call, progress=bytes_received)),
        each(store(s.job, hub, depot), retry(p.call, bytes_stored), poll(AT_ONCE, is_stored), no_byte),
        each(lambda _, around: around(waiting(s, watched))),
        each(fetch(s.job, hub, depot), idle, retry(p.call, progress=bytes_received)),
    )
