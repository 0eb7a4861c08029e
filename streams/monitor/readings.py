"""What the provider's answers say of the machine, and what is done if it gives none.

A machine that runs without a request is never assumed to be off, nor is one that was started before a restart of the
monitor and does not show yet.
"""

from __future__ import annotations

import math

from wakestream.operators.model.ports import PowerState
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.power_table import BOOTING, STATUS, Signal
from wakestream.streams.monitor.transitions import LONGEST_WHY, Step
from wakestream.streams.protocol import messages as m

LEFT_ALONE = "it is left alone until it is used"

_ORPHAN: dict[p.Orphans, str] = {
    "adopt": "it is taken over, and stopped when it has been idle for long enough",
    "stop": "it is stopped unless a job holds it",
    "report": LEFT_ALONE,
}


def on_call_ended(step: Step, event: p.Taken | p.Reading | p.CallFailed) -> None:
    """A call to the provider has ended; an answer that is not awaited any more counts for nothing."""
    call, machine, looks = step.machine.call, step.machine, step.looks
    if call is None or call.number != event.number:
        return
    machine.call, looks.next_at = None, step.now
    match event:
        case p.Taken():
            step.boot.start_taken = step.boot.start_taken or isinstance(call, p.Start)
            step.use.stop_again_at = step.now + step.policy.stop_again
        case p.Reading(reading="unknown"):
            _fail_look(step, event.detail or "the provider does not know")
        case p.Reading():
            _on_reading(step, event, event.reading)
        case p.CallFailed(fault="gone") if not _is_proof(step):
            looks.missed += 1
            step.boot.again_at = step.now if machine.state == "starting" else None  # that start had no effect
            _fail_look(step, event.why)
            if machine.state == "off":
                step.move(Signal.LOST, f"cannot look at the machine: {event.why}")
        case p.CallFailed(fault="gone"):
            looks.reading, looks.read_at, looks.failed = "terminated", step.now, 0
            looks.address, step.worker.answered = None, False
            looks.next_at = step.now + step.policy.look_rarely
            step.move(Signal.TERMINATED, event.why)
            _answer_asked(step)
        case p.CallFailed() if isinstance(call, p.Inspect):
            _fail_look(step, event.why, event.retry_after or 0.0, denied=event.fault == "denied")
        case p.CallFailed() if isinstance(call, p.Stop):
            delay = step.policy.trouble.delay(step.use.stop_tries, step.random)
            step.use.stop_again_at = step.now + max(delay, event.retry_after or 0.0)
            step.note(f"the provider did not stop it: {event.why}")
        case p.CallFailed() if event.no_capacity or event.fault != "transient":
            step.move(Signal.NO_CAPACITY if event.no_capacity else Signal.FAILED, event.why)
        case p.CallFailed() if machine.state == "starting":
            # Without the provider's word that it had no effect, it may have been accepted, and shows only later.
            wait = step.policy.shows_within if event.retry_after is None else event.retry_after
            step.boot.again_at, machine.reason = step.now + wait, event.why[:LONGEST_WHY]
            step.note(f"the start failed, and is tried again in {wait:g} s: {event.why}")
            step.announce()


def _is_proof(step: Step) -> bool:
    """Whether answers that the machine does not exist are believed: an API can lag, and it may have restarted."""
    looks = step.looks
    return looks.missed + 1 >= step.policy.misses and step.now - looks.failed_since >= step.policy.gone_after


def _on_reading(step: Step, event: p.Reading, reading: PowerState) -> None:
    machine, looks, boot, worker = step.machine, step.looks, step.boot, step.worker
    wanted, stale = boot.wanted, event.number <= boot.seen_from
    if looks.failed:
        looks.failed, looks.missed, machine.alarms, machine.alarm_at = 0, 0, 0, step.now
    gap = min(step.now - looks.read_at, step.policy.look_every(machine.state)) if looks.read_at is not None else 0.0
    # It changed somewhere between two looks, whatever a wrong clock of the provider says.
    least = looks.read_from if machine.on else -math.inf
    looks.since = max(step.now - (gap / 2 if event.age is None else event.age), least)
    looks.reading, looks.read_at, looks.read_from = reading, step.now, looks.began_at
    looks.shown = looks.shown or reading in ("starting", "running")
    on = reading in ("starting", "running", "stopping")
    boot.again_at = None if on else boot.again_at
    address = (event.address or looks.address) if on and step.policy.follows_address else None
    if address != looks.address:
        looks.address, worker.answered, worker.misses, worker.next_health = address, False, 0, step.now
    if reading == "running" and event.age is not None and machine.state in ("unknown", "off"):
        step.use.up_since = step.now - event.age
    if reading == "running" and not stale and not step.checks_health() and not worker.gone:
        step.lives()  # only the provider tells the machine's state
    # A machine that was started and came without its GPU is stopped, and the boot has failed.
    mid_start = machine.state == "unknown" and boot.start_at is not None
    booting = machine.state in BOOTING and not worker.served
    if reading == "running" and event.gpus == 0 and (mid_start or booting):
        step.move(Signal.FAILED, f"it started without its GPU: {event.detail or 'the provider gave it none'}")
        step.move(Signal.UNUSABLE, "switching off the machine that started without its GPU")
    else:
        _believe(step, reading, event.detail or f"the provider says {reading}")
    if step.link.address != looks.address:
        step.announce()
    if wanted and stale and step.serves() and not step.hub_counts():
        step.want()
    often = worker.gone or (machine.state == "off" and step.started_elsewhere())
    looks.next_at = step.now + (step.policy.look_soon if often else step.policy.look_every(machine.state))
    _answer_asked(step)


def say_status(step: Step, request_id: str, *, fresh: bool) -> None:
    """Answer a status query."""
    status, reading = STATUS[step.machine.state], step.looks.reading
    if step.machine.state == "failed" and reading not in ("failed", "no_capacity"):
        status = reading or "unknown"
    step.say(m.StatusResponse(request_id=request_id, status=status, fresh=fresh or None))


def _believe(step: Step, reading: PowerState, why: str) -> None:
    """Change the state as the reading says, unless something else is known better."""
    machine, boot = step.machine, step.boot
    signal = Signal.STOPPED if reading == "no_capacity" else Signal[reading.upper()]
    off = signal in (Signal.STOPPED, Signal.FAILED)
    if machine.state == "unknown" and boot.start_at is not None and off:
        # A start from before the monitor was last started may only not show yet, so nothing else is started. One that
        # the provider took has as long as any; another one as long as a call may take.
        limit = step.policy.boot_timeout if boot.start_taken else step.policy.call_timeout
        if step.now - boot.start_at < limit:
            return
        boot.start_at = None
    # It stays failed until the hub has said who holds it.
    stays = machine.state == "failed" and signal is Signal.RUNNING and step.awaits_the_hub()
    if stays or (boot.late and signal is Signal.STARTING):
        return
    if signal in (Signal.RUNNING, Signal.STARTING):
        boot.start_at = None
        if machine.state in ("unknown", "off") and not (machine.ours or step.worker.served or boot.wanted):
            adopts = step.policy.orphans == "adopt"
            machine.orphan, machine.ours, machine.alarms, machine.alarm_at = not adopts, adopts, 0, step.now
            why = f"it runs without a request: {_ORPHAN[step.policy.orphans]} ({why})"
            step.alarm(why)
            step.link.orphan_unsaid = True
    elif machine.state != "starting":  # there the hub may know better
        step.worker.ready = False
    if machine.state == "starting" and reading == "stopped" and step.looks.shown:
        why = "it stopped again before it ran"
    step.move(_meaning(step, reading, signal), why)


def _meaning(step: Step, reading: PowerState, signal: Signal) -> Signal:
    """What a reading signals, where that depends on what is known besides."""
    off, wanted, served = signal in (Signal.STOPPED, Signal.FAILED), step.boot.wanted, step.worker.served
    meanings = (
        ("starting", reading == "no_capacity", Signal.NO_CAPACITY),
        ("starting", reading == "stopped" and step.looks.shown, Signal.FAILED),
        ("stopping", reading == "running" and not step.use.stop_ours, Signal.RUNS_ON),
        ("stopping", off and wanted, Signal.STOPPED),
        # The hub may not know that it has been off since before a restart.
        ("unknown", off and wanted, Signal.GO if step.machine.on is None else Signal.STOPPED),
        ("booted", off and served, Signal.GONE),
        ("booted", reading == "stopping" and served, Signal.GOING),
    )
    return next((meaning for state, holds, meaning in meanings if state == step.machine.state and holds), signal)


def _fail_look(step: Step, why: str, wait: float = 0.0, *, denied: bool = False) -> None:
    """The provider could not say how the machine is; several times in a row, its state is unknown."""
    machine, looks, misses = step.machine, step.looks, step.policy.misses
    looks.failed_since = looks.failed_since if looks.failed else step.now
    looks.failed, looks.reading = looks.failed + 1, None
    looks.next_at = step.now + max(wait, step.policy.trouble.delay(looks.failed, step.random))
    alive = machine.state == "online" and step.checks_health() and not step.worker.misses
    text = f"cannot look at the machine ({looks.failed} times in a row): {why}"
    if looks.failed <= misses:
        step.note(text)
    elif alive:
        step.alarm(text)
    else:
        minutes = (step.now - looks.failed_since) / 60
        step.alarm(f"{text}. Its state is unknown for {minutes:.0f} min, it may cost money: check it yourself")
    step.link.asked = ()
    why = f"cannot look at the machine: {why}"
    lost = (looks.failed >= misses or denied) and not alive
    if lost and not step.move(Signal.LOST, why) and machine.state == "unknown" and looks.failed == misses:
        machine.reason = why[:LONGEST_WHY]  # reported once
        step.announce()
    if denied and step.boot.wanted and not step.serves():
        step.fail_boot(why)


def _answer_asked(step: Step) -> None:
    """Answer status queries again, after a look."""
    for request_id in step.link.asked:
        say_status(step, request_id, fresh=True)
    step.link.asked = ()
