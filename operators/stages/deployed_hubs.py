"""What hubs of the field do differently, turned into what the standard pipeline knows: a grant, or lines of a wait.

They run one job of a key at a time and refuse others (`Busy`), they may have taken this very job before, and they grant
no GPU to a single job. While no hub can grant the GPU, the worker at the configured address is asked itself.
"""

from __future__ import annotations

import math
from typing import Any

import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops

from wakestream.operators.model import ports
from wakestream.operators.model.errors import WakestreamError
from wakestream.operators.model.events import Eta, JobEvent, Waking
from wakestream.operators.rx.core.scheduler import seconds_now
from wakestream.operators.rx.first_success import first_success
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.interval import interval
from wakestream.operators.rx.poll import poll
from wakestream.operators.rx.sources import never, start_with
from wakestream.operators.stages.submit import Answer, Answers, Wait, raised

GRANT = "grant"
"""The hub's feature: it grants a GPU to each job, and a broadcast does not."""

GRACE = 10.0
"""Seconds without the hub, after it was reached, before the worker is asked directly."""

SETTLE = 2.0
"""Seconds that a hub which has queued the job gets once the worker is ready: it dispatches the job when the worker
registers, and this job then finds the dispatched task at the worker."""

PAUSES = (2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds until a hub that is busy with another job of the key is asked again; the last one repeats."""


def with_deployed_hubs(answers: Answers) -> Answers:
    """Add the answers that deployed hubs need to those for our own hub.

    Args:
        answers: What follows from the replies `LinkUp`, `OfflineReply`, `PowerNotice` and `LinkDown`, at least.

    Returns:
        The same, also for `Busy` and `Free`; while no hub can grant the GPU, a worker that is ready is the grant.
    """

    def free(wait: Wait, _: Any = None) -> Observable[JobEvent] | None:
        return None if wait.link is None else answers[ports.LinkUp](wait, wait.link)

    def busy(wait: Wait, reply: ports.Busy) -> Observable[JobEvent]:
        if reply.own and not _may_ask(wait):
            return wait.granted(ports.Accepted())
        if reply.own:  # an earlier submit was accepted; only the worker can say whether it is on
            lines, pause, ask = wait.waking("booting"), wait.policy.lost, True
        else:
            wait.refusals += 1
            pause, ask = PAUSES[min(wait.refusals, len(PAUSES)) - 1], wait.refusals > 1

            def line(passed: float) -> JobEvent:
                left = max(0.0, pause - passed)
                return Waking(wait.waited, "busy", eta=Eta(left, left))

            lines = interval(wait.policy.line_every, line).pipe(start_with(line(0.0)))
        again = rx.timer(pause).flat_map(lambda _: free(wait) or never())
        waiting = first_success(lines, again, dropped=raised)
        return _or_worker_ready(wait, waiting, line=not reply.own) if ask else waiting

    def or_settled(kind: type) -> Answer:
        def answer(wait: Wait, reply: Any) -> Observable[JobEvent] | None:
            waiting = answers[kind](wait, reply)
            return None if waiting is None else _or_worker_ready(wait, waiting, settle=SETTLE)

        return answer

    def hub_down(wait: Wait, link: ports.LinkDown) -> Observable[JobEvent] | None:
        waiting = answers[ports.LinkDown](wait, link)
        return None if waiting is None else _or_worker_ready(wait, waiting, after=_grace(wait, link))

    return {
        **answers,
        ports.OfflineReply: or_settled(ports.OfflineReply),
        ports.PowerNotice: or_settled(ports.PowerNotice),
        ports.LinkDown: hub_down,
        ports.Busy: busy,
        ports.Free: free,
    }


def _grace(wait: Wait, link: ports.LinkDown) -> float:
    """Seconds until the worker is asked directly: the hub may only be slow, or restart."""
    if wait.reached:
        return max(0.0, wait.down + GRACE - seconds_now(wait.time))
    slow = min(GRACE, math.inf if wait.policy.hub is None else wait.policy.hub) / 2
    return max(0.0, slow - wait.waited) if link.connecting else 0.0


def _may_ask(wait: Wait) -> bool:
    known = wait.policy.straight is not None and wait.workers is not None
    return known and (wait.link is None or GRANT not in wait.link.features)


def _or_worker_ready(
    wait: Wait, waiting: Observable[JobEvent], after: float = 0.0, settle: float = 0.0, *, line: bool = True
) -> Observable[JobEvent]:
    """`waiting`, or the grant when the worker itself is ready, if no hub can grant the GPU."""
    if not _may_ask(wait) or wait.policy.straight is None:
        return waiting

    def go(_: Any) -> Observable[JobEvent]:
        first = [wait.line("straight")] if line else []
        return wait.granted(ports.Accepted()).pipe(start_with(*first))

    checks = from_async(lambda: _is_ready(wait.workers), "health").pipe(poll(wait.policy.straight, bool))
    late = rx.timer(after).flat_map(lambda _: checks) if after else checks
    settled = late.pipe(ops.filter(bool), ops.flat_map(lambda _: rx.timer(settle).flat_map(go) if settle else go(None)))
    return first_success(waiting, settled, dropped=raised)


async def _is_ready(workers: ports.Workers | None) -> bool:
    if workers is None:
        return False
    try:
        return (await workers.at(None).health()).initialized
    except WakestreamError:
        return False
