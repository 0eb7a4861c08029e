"""The monitor's decider: messages and the provider's answers in, commands to the provider and messages out.

At most one provider call runs at a time, and never two starts. The states and the ways between them are those of
`power_table.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.decider import Decider
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.power_table import BOOTING, Signal
from wakestream.streams.monitor.readings import on_call_ended, say_status
from wakestream.streams.monitor.time_limits import watch
from wakestream.streams.monitor.transitions import Step, issue_calls
from wakestream.streams.protocol import messages as m

# Seconds that an age may be above its limit. Clocks of 16 ms often reach a limit exactly; a log's times are then
# microseconds above it, and its replay would decide differently.
INEXACT = 0.005

MAX_ASKED = 100  # status queries that wait for the next look; one more is answered from memory only


def to_event(message: m.Message | LinkUp | LinkDown, *gpus: str) -> p.PowerEvent | None:
    """The event of a message of the hub for the monitor of `gpus`, or None. A message that names no GPU is for all."""
    if (getattr(message, "gpu", None) or gpus[0]) not in gpus:
        return None
    match message:
        case m.Unknown(type="gpu.job.submit" | "gpu_task" | "url" | "chatglm_video"):
            return p.Wake()  # a copy of work that a deployed hub sends its monitors, without some fields
        case m.Boot():
            return p.Wake(message.request_id, boot=True, answer=message.source != "hub")
        case m.Submit():
            return p.Wake(message.request_id)
        case m.PowerState():
            return message if message.state in ("lost", "starting") else None
    return message if isinstance(message, p.HubMessage | LinkUp | LinkDown) else None


def _on_wake(step: Step, event: p.Wake) -> None:
    machine, boot, use = step.machine, step.boot, step.use
    first = machine.state == "off" and not boot.wanted
    boot.request_id = event.request_id or (None if first else boot.request_id)
    use.last_at, use.remembered = step.now, False
    if boot.unwanted is not None:
        boot.unwanted, use.asked_at = None, None
    # Our hub answers a boot request for a GPU that is online by itself.
    hub_answers = machine.state == "online" and step.hub_counts()
    if event.answer and event.request_id and not hub_answers and event.request_id not in boot.requests:
        boot.requests = (*boot.requests, event.request_id)[-MAX_ASKED:]
    step.used()
    if step.worker.gone:
        step.looks.next_at = step.now
    why = "woken by a boot request" if event.boot else "woken by a job"
    match machine.state:
        case "off" if step.started_elsewhere():
            step.want()
        case "off":
            step.move(Signal.GO, why)
        case "draining" if not step.overdue():
            step.move(Signal.KEPT, f"{why}; the stop is called off")
        case "unknown" | "stopping" | "failed" | "draining":
            step.want()
            step.move(Signal.WAKE, f"{why}; looking before starting")
        case _ if event.boot:
            boot.owes_answer = True
    boot.seen_from = machine.calls
    if step.serves() and not step.hub_counts():
        step.want()  # if the machine is gone already, such a hub does not ask again
        step.looks.next_at = step.now


def _on_ended(step: Step, _event: p.Ended) -> None:
    step.boot.wanted, step.looks.next_at = False, math.inf
    step.move(Signal.ENDED, "it ended with its monitor")


def _on_health(step: Step, event: p.HealthAnswer) -> None:
    machine, worker = step.machine, step.worker
    worker.checking = False
    if event.url is not None and event.url != step.looks.address:
        return  # the machine has another address by now
    settled = machine.state == "online" and not worker.gone
    worker.next_health = step.now + (step.policy.look_online if settled else step.policy.look_soon)
    worker.health_at = step.now
    if event.initialized:
        worker.misses, worker.gone, worker.answered = 0, False, event.url is not None
        step.lives()
        step.move(Signal.READY, "its worker is initialized")
        if event.busy:
            step.at_work()
    elif machine.state == "online" and step.checks_health():
        worker.misses += 1
        if worker.misses >= step.policy.misses:
            worker.ready = False
            step.move(Signal.UNREADY, f"its worker no longer answers as initialized: {event.why}")


def _on_online(step: Step, _message: m.Online) -> None:
    step.worker.ready, step.worker.gone, step.worker.misses, step.looks.next_at = True, False, 0, step.now
    step.lives()
    step.move(Signal.READY, "the hub saw its worker come online")


def _on_power_state(step: Step, message: m.PowerState) -> None:
    if message.state == "starting":  # by the monitor of another GPU in it
        step.boot.elsewhere_at = step.now
        if step.machine.state in ("unknown", "off", "failed"):
            step.machine.ours, step.looks.next_at = True, step.now
        elif step.machine.state == "stopping":  # the stop is over, and another one is not what the hub allowed
            step.use.stop_ours, step.machine.due, step.looks.next_at = False, None, step.now
        return
    # Perhaps its machine went with it; until that is known, it is looked at often, and at once when it is wanted.
    if step.machine.state in ("online", "draining"):
        if not step.worker.gone:
            step.worker.gone_at = step.now
        step.worker.gone, step.looks.next_at, step.worker.next_health = True, step.now, step.now


def _on_release(step: Step, message: m.Release) -> None:
    """As if the idle time were over; worker and hub are asked as before each stop. A start is called back."""
    step.boot.wanted, step.boot.unwanted = False, message.msg or "the hub says that no job needs it"
    if step.machine.state not in BOOTING and step.boot.start_at is None:
        step.release()


def _on_active(step: Step, _message: m.TaskActive) -> None:
    if step.decides_alone() and step.machine.state in ("off", "stopping"):
        return _on_wake(step, p.Wake())
    step.worker.misses = 0
    step.lives()
    if not step.checks_health():  # the frame does not say which worker: with a health to ask, that counts
        step.move(Signal.READY, "its worker is at work")
    return step.at_work()


def _on_query(step: Step, query: m.StatusQuery) -> None:
    link, read_at = step.link, step.looks.read_at
    fresh = read_at is not None and step.now - read_at <= step.policy.fresh_for + INEXACT
    say_status(step, query.request_id, fresh=fresh)
    if not fresh and len(link.asked) < MAX_ASKED:  # a look may take longer than deployed clients wait
        link.asked, step.looks.next_at = (*link.asked, query.request_id), step.now


def _on_answer(step: Step, answer: m.TaskQueryResponse) -> None:
    """The hub says whether jobs hold the machine."""
    machine, use = step.machine, step.use
    held = answer.active_count != 0 or answer.has_recent_active
    if answer.request_id != step.query_id() or use.asked_at is None or not (held or step.awaits_the_hub()):
        return  # late: the hub may have granted the GPU since
    use.active, machine.orphan = answer.active_count, machine.orphan and not held
    step.boot.unwanted = None if held else step.boot.unwanted
    if machine.state != "draining":
        use.asked_at = None
    match machine.state:
        case "draining" if not held:
            step.move(Signal.FREE, "nobody holds it")
        case "draining" if not step.overdue():
            step.move(Signal.KEPT, f"still in use ({answer.active_count} jobs)")
        case "online" if held:
            use.last_at = step.now
        case "online" if machine.orphan:
            step.move(Signal.IDLE, "it runs without a request")
        case "online" if step.idle():
            step.move(Signal.IDLE, step.why_idle())
        case "failed" if held:
            step.looks.next_at = step.now
        case _ if not held:
            why = "runs without a request" if machine.orphan else "did not come online"
            why = step.boot.unwanted or f"switching off the machine that {why}; no job holds it"
            step.move(Signal.UNUSABLE, why)


def _on_link_up(step: Step, event: LinkUp) -> None:
    step.link.features = event.features
    step.say_outage()
    step.announce()
    if step.machine.state == "booted":
        step.say_booted()
    if step.boot.unsaid is not None:
        step.say_failure(step.boot.unsaid)


def _on_link_down(step: Step, _event: LinkDown) -> None:
    step.link.features, step.link.asked = None, ()
    if step.machine.state == "online":
        step.use.asked_at = None
    if step.machine.state == "draining" and not step.overdue():
        step.move(Signal.KEPT, "the hub is gone and cannot say who holds it")


_HANDLERS: Mapping[type, Callable[[Step, Any], None]] = {
    p.Tick: lambda step, tick: None,
    p.Wake: _on_wake,
    p.Ended: _on_ended,
    **dict.fromkeys((p.Taken, p.Reading, p.CallFailed), on_call_ended),
    p.HealthAnswer: _on_health,
    m.Online: _on_online,
    m.PowerState: _on_power_state,
    m.TaskActive: _on_active,
    m.TaskQueryResponse: _on_answer,
    m.Release: _on_release,
    m.StatusQuery: _on_query,
    LinkUp: _on_link_up,
    LinkDown: _on_link_down,
}


class Monitor(Decider[p.Machine, p.PowerEvent, p.Machine, p.PowerCommand]):
    """The decider for one machine. `now` is seconds on a clock that only goes forward.

    Its only fact is the machine as it is from now on; a decision that changes nothing has none.

    Args:
        policy: The settings.
        random: A seeded source of jitter; without it the decider would be pure.
    """

    def __init__(self, policy: p.PowerPolicy, random: Random) -> None:
        self.policy, self._random = policy, random
        super().__init__(p.Machine, dict.fromkeys(_HANDLERS, self._handle), {p.Machine: p.Machine.become})

    def _handle(self, machine: p.Machine, event: p.PowerEvent, now: float, decision: p.PowerDecision) -> None:
        step = Step(self.policy, self._random, machine, now, decision)
        _HANDLERS[type(event)](step, event)
        watch(step)
        issue_calls(step)
        if step.machine != machine:
            decision.fact(step.machine)
