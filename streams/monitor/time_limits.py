"""What the monitor does as time passes: late boots, repeated calls, and when a machine that is on may be stopped.

A hub that keeps account of the power is asked twice before a stop: first whether a job holds the machine, then to give
it no more work. A deployed hub knows no such question and may never answer. Then the idle time decides, with what the
worker reports over HTTP.
"""

from __future__ import annotations

import math

from wakestream.streams.monitor.power_table import BOOTING, Signal
from wakestream.streams.monitor.transitions import Step


def watch(step: Step) -> None:
    """Check the time limits: those of this state, and those of all."""
    machine, boot, policy, now = step.machine, step.boot, step.policy, step.now
    if machine.state == "booted" and step.decides_alone() and not step.checks_health():
        wanted = boot.wanted  # by a wake that is newer than the look which found it running
        step.move(Signal.READY, "it runs; this hub does not say when its worker is ready")
        boot.wanted = wanted
    if machine.state == "off" and boot.wanted and not step.started_elsewhere():
        step.move(Signal.GO, "another monitor started its machine, and it is off")
    if machine.orphan:
        _watch_orphan(step)
        _watch_state(step)
    elif boot.unwanted is not None and _calls_back(step):
        pass
    elif machine.state in BOOTING and now - boot.since >= policy.boot_timeout:
        began = f"the start failed: {machine.reason}" if boot.again_at is not None else _ACCEPTED
        what = {"starting": began, "no_capacity": f"no capacity ({machine.reason})"}.get(machine.state, _NOT_READY)
        step.move(Signal.TIMEOUT, f"not online within {policy.boot_timeout:g} s: {what}")
    else:
        _watch_worker(step)
        _watch_state(step)
    # Waiting jobs must also get an answer if the machine cannot be inspected or does not finish stopping.
    serving = step.serves() or machine.state == "draining"
    if boot.wanted and not serving and now - boot.wanted_at >= policy.boot_timeout:
        step.fail_boot(f"not started within {policy.boot_timeout:g} s, it is {machine.state}: {machine.reason}")
    if machine.state == "online" and not step.use.warned and step.overdue(-policy.warning):
        step.use.warned = True
        text = f"will be stopped in {policy.warning:g} s: the longest allowed uptime is nearly over"
        step.note(text)
        step.announce(text, stops_in=round(policy.warning))
    # All clients hear the answer to a boot request, so however many ask, it is not repeated faster than this.
    asked = bool(boot.requests) and step.linked() and machine.state in ("booted", "online")
    if (boot.owes_answer or asked) and now - boot.answered_at >= policy.answer_every:
        if boot.owes_answer:
            step.announce()
        if asked:
            step.say_booted()
        boot.owes_answer, boot.answered_at = False, now


_ACCEPTED = "the provider accepted the start, but the machine does not run"
_NOT_READY = "the machine runs, but its worker is not initialized"


def _watch_worker(step: Step) -> None:
    """A machine whose worker the hub has lost for long boots again, as far as one can know."""
    worker, limit = step.worker, step.policy.boot_timeout
    if step.machine.state == "online" and step.linked() and worker.gone and step.now - worker.gone_at >= limit:
        worker.ready = False
        step.move(Signal.UNREADY, f"its worker has not come back to the hub within {limit:g} s")


def _watch_state(step: Step) -> None:
    machine, boot, use, policy, now = step.machine, step.boot, step.use, step.policy, step.now
    reading, limit = step.looks.reading, None if machine.orphan else policy.start_within
    off_from = step.looks.read_from if reading == "stopped" else -math.inf  # when that look began
    silent = use.asked_at is not None and not step.awaits_the_hub()
    runs_on = use.stop_ours and reading == "running" and machine.call is None and now >= use.stop_again_at
    # A late start may still be carried out: it is repeated only if the machine is known to be off. A look that failed
    # does not tell whether a machine that was stopping is off by now.
    may_retry = off_from >= boot.tried_at + policy.shows_within if boot.late else reading != "stopping"
    may_retry = may_retry and not step.looks.failed
    match machine.state:
        case "starting" if boot.again_at is not None and now >= boot.again_at and off_from >= boot.again_at:
            machine.due, boot.again_at, boot.tried_at = "start", None, now
            step.note("asking for the start again: the provider did not take it, and the machine is off", warning=False)
        case "starting" if limit and boot.again_at is None and now - boot.tried_at >= limit and machine.call is None:
            what = f"it is {reading or 'not seen'} {limit:g} s after the start"
            step.move(Signal.NO_CAPACITY, f"{what}, which counts as no capacity")
            boot.late = True
        case "no_capacity" if may_retry and now >= boot.retry_at:
            step.move(Signal.RETRY, "asking for capacity again")
        case "online" if step.overdue():
            step.move(Signal.OVERDUE, f"on for the longest allowed time of {policy.max_uptime:g} s")
        case "online" if step.linked() and not machine.orphan and step.idle():
            _may_drain(step, step.why_idle(), since=use.last_at + policy.idle_after)
        case "draining" if step.overdue(policy.warning):
            step.note("stopping although jobs may hold it: the longest allowed uptime is long over")
            step.move(Signal.FREE, "the longest allowed uptime is long over")
        case "draining" if silent and step.overdue():
            step.ask_the_hub(drain=True)
        case "draining" if silent:
            step.move(Signal.KEPT, "the hub does not say who holds it")
        case "stopping" if runs_on and boot.wanted:
            step.move(Signal.RUNS_ON, "it did not stop, and is wanted again")
        case "stopping" if runs_on:
            machine.due = "stop"
        case "failed" if reading == "running" and silent and step.decides_alone() and step.idle():
            step.move(Signal.UNUSABLE, "switching off the machine that did not come online; the hub does not answer")


def _calls_back(step: Step) -> bool:
    """Whether a start that no job needs is over, or is ended once the hub has said that no job holds the machine."""
    machine, boot, looks = step.machine, step.boot, step.looks
    if machine.state == "booted" or looks.reading in ("starting", "running"):
        if step.linked() and not step.awaits_the_hub():
            step.ask_the_hub(drain=True)
        return step.linked()
    # It may still be carried out, unless a look that began late enough found the machine off.
    over_at = boot.again_at if machine.state == "starting" else boot.tried_at + step.policy.shows_within
    sure = machine.state == "no_capacity" and not boot.late and looks.reading != "stopping"
    shown_off = looks.reading == "stopped" and over_at is not None and looks.read_from >= over_at
    return (sure or shown_off) and step.move(Signal.UNWANTED, boot.unwanted or "")


def _watch_orphan(step: Step) -> None:
    """Report a machine that runs without a request, or stop it unless a job holds it."""
    state, why = step.machine.state, "it runs without a request"
    if state == "no_capacity":
        step.move(Signal.UNWANTED, "it began without a request, so it is not started again")
    elif step.policy.orphans == "report":
        step.alarm("it still runs without a request, and is left alone")
    elif state == "online" and step.decides_alone():
        _may_drain(step, why, since=step.use.up_since or 0.0)
    elif state == "online" and step.linked():
        step.move(Signal.IDLE, why)
    elif state == "booted" and step.decides_alone() and step.use.asked_at is not None and not step.awaits_the_hub():
        step.move(Signal.UNUSABLE, "switching off the machine that runs without a request; the hub does not answer")
    elif state == "booted" and step.linked() and not step.awaits_the_hub():
        step.ask_the_hub(drain=True)
    if state in BOOTING and step.overdue():
        step.move(Signal.TIMEOUT, f"{why}, and is on for the longest allowed time")


def _may_drain(step: Step, why: str, since: float) -> None:
    """Drain if, after `since`, the worker had no task and the hub says that no job holds the machine."""
    asked_at, worker, checks = step.use.asked_at, step.worker, step.checks_health()
    if not step.policy.asks_first:
        step.move(Signal.IDLE, why)
    elif checks and worker.health_at < since:
        worker.next_health = min(worker.next_health, step.now)
    elif asked_at is None or asked_at < since or not (step.awaits_the_hub() or step.decides_alone()):
        step.ask_the_hub(drain=False)
    elif not step.awaits_the_hub() and not worker.misses:
        knows = "its worker has no task; " if checks else ""
        advice = "" if checks else "; set the worker's URL, and its tasks will count"
        step.move(Signal.IDLE, f"{why}, and {knows}the hub does not say who holds it{advice}")
