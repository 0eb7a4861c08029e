"""The monitor's decider: messages and the provider's answers in, commands to the provider and messages out.

At most one provider call runs at a time, and never two starts. The moves are those of
`streams/monitor/power_table.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from random import Random
from typing import Any

from wakestream.operators.model.ports import LinkDown, LinkUp, PowerReading
from wakestream.streams.decider import Decider
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.orphans import Findings
from wakestream.streams.monitor.power_table import BOOTING, STATUS, Signal
from wakestream.streams.monitor.transitions import LONGEST_WHY
from wakestream.streams.protocol import messages as m

INEXACT = 0.005
"""Seconds that an age may be above its limit. Clocks of 16 ms often reach a limit exactly; a log's times are then
microseconds above it, and its replay would decide differently."""

MAX_ASKED = 100
"""Status queries that may wait for the next look at the machine; one more is answered from memory only."""

_SIGNALS: Mapping[PowerReading, Signal] = {
    "starting": Signal.STARTING,
    "running": Signal.RUNNING,
    "stopping": Signal.STOPPING,
    "stopped": Signal.STOPPED,
    "no_capacity": Signal.STOPPED,
    "failed": Signal.FAILED,
}


def to_event(message: m.Message | LinkUp | LinkDown, gpu: str) -> p.PowerEvent | None:
    """What a message of the hub means to the monitor of `gpu`; None if nothing. One that names no GPU means each."""
    if isinstance(message, LinkUp | LinkDown):
        return message
    if (getattr(message, "gpu", None) or gpu) != gpu:
        return None
    if isinstance(message, m.Unknown) and message.type in _COPIES:
        return p.Wake()
    meaning = _MEANINGS.get(type(message))
    return meaning(message) if meaning is not None else None


_COPIES = frozenset({"gpu.job.submit", "gpu_task", "url", "chatglm_video"})
"""Work that a deployed hub tells its monitors of, without the fields that its worker is given."""

_MEANINGS: Mapping[type, Callable[[Any], p.PowerEvent | None]] = {
    m.Boot: lambda boot: p.Wake(boot.request_id, boot=True, answer=boot.source != "hub"),
    m.Submit: lambda submit: p.Wake(submit.request_id),
    m.Online: lambda _: p.HubOnline(),
    m.PowerState: lambda said: p.WorkerGone() if said.state == "lost" else None,
    m.StatusQuery: lambda query: p.StatusAsked(query.request_id),
    m.TaskActive: lambda _: p.Active(),
    m.TaskQueryResponse: lambda answer: p.InUseAnswer(answer.request_id, answer.active_count, answer.has_recent_active),
}


class _Turn(Findings):
    """One decision while it is made: a method for each event."""

    def on_wake(self, event: p.Wake) -> None:
        anew = self.m.state == "off" and not self.m.wanted
        request_id = event.request_id or (None if anew else self.m.request_id)
        self.set(last_use=self.now, request_id=request_id, remembered=False)
        self.owe_answer(event)
        self.used()
        if self.m.gone:
            self.set(next_look=self.now)
        why = "woken by a boot request" if event.boot else "woken by a job"
        state = self.m.state
        if state == "off":
            self.move(Signal.GO, why)
        elif state in ("unknown", "stopping", "failed") or (state == "draining" and self.overdue()):
            self.want()
            self.move(Signal.WAKE, f"{why}; looking before starting")
        elif state == "draining":
            self.move(Signal.KEPT, f"{why}; the stop is called off")
        elif event.boot:
            self.set(owes_answer=True)
        self.set(seen_from=self.m.calls)
        if self.serves() and not self.hub_is_ours():
            self.want()  # if the machine is gone already, such a hub does not ask again
            self.set(next_look=self.now)

    def owe_answer(self, event: p.Wake) -> None:
        """Remember a boot request's id. Our hub answers for a GPU that is online by itself."""
        said = self.m.state == "online" and self.hub_is_ours()
        if event.answer and event.request_id and not said and event.request_id not in self.m.boots:
            self.set(boots=(*self.m.boots, event.request_id)[-MAX_ASKED:])

    def serves(self) -> bool:
        """Whether the machine serves jobs, as far as is known."""
        return self.m.state == "online" or (self.m.state == "booted" and self.m.served)

    def lives(self) -> None:
        """The machine runs, so that the last wake needs no start."""
        if self.serves():
            self.set(wanted=False)

    def alone_tells(self) -> bool:
        """Whether the provider is the only source of the machine's state."""
        return not self.policy.checks_health and not self.m.gone

    def want(self) -> None:
        self.set(wanted=True, wanted_at=self.m.wanted_at if self.m.wanted else self.now)

    def on_taken(self, event: p.Taken) -> None:
        call = self.finish(event.number)
        if call is not None:
            taken = self.m.start_taken or call.kind == "start"
            self.set(next_look=self.now, stop_at=self.now + self.policy.stop_again, start_taken=taken)

    def on_reading(self, event: p.Reading) -> None:
        if self.finish(event.number) is None:
            return
        if event.reading == "unknown":
            self.cannot_say(event.detail or "the provider does not know")
            return
        before = self.m.reading
        if self.m.unread:
            self.set(unread=0, alarms=0, alarm_at=self.now)
        self.set(reading=event.reading, read_at=self.now)
        stale, wanted = event.number <= self.m.seen_from, self.m.wanted
        if event.reading == "running" and not stale and self.alone_tells():
            self.lives()
        self.believe(event.reading, before, event.detail or f"the provider says {event.reading}")
        if wanted and stale and self.serves() and not self.hub_is_ours():
            self.want()
        pause = self.policy.look_soon if self.m.gone else self.policy.look_every(self.m.state)
        self.set(next_look=self.now + pause)
        self.answer_asked()

    def believe(self, reading: PowerReading, before: PowerReading | None, why: str) -> None:
        signal = _SIGNALS[reading]
        if self.may_yet_start(signal) or self.given_up_on(signal):
            return
        if signal in (Signal.RUNNING, Signal.STARTING):
            why = self.found_running(why)
        if reading not in ("running", "starting") and self.m.state != "starting":  # there the hub may know better
            self.set(ready=False)
        if self.m.state == "starting" and reading == "stopped" and before == "starting":
            why = "it stopped again before it ran"
        self.move(self.meaning(reading, before, signal), why)

    def given_up_on(self, signal: Signal) -> bool:
        """Whether the machine is known to run, and stays failed until the hub has said who holds it."""
        return self.m.state == "failed" and signal is Signal.RUNNING and self.awaits_the_hub()

    def meaning(self, reading: PowerReading, before: PowerReading | None, signal: Signal) -> Signal:
        """What a reading signals, where that depends on what is known besides."""
        state, gone = self.m.state, signal in (Signal.STOPPED, Signal.FAILED)
        if state == "starting" and reading == "no_capacity":
            return Signal.NO_CAPACITY
        if state == "starting" and reading == "stopped" and before == "starting":
            return Signal.FAILED
        if state == "stopping" and reading == "running":
            return signal if self.m.stop_ours else Signal.RUNS_ON
        if state == "stopping" and self.m.wanted and gone:
            return Signal.STOPPED
        if state == "unknown" and self.m.wanted and gone:
            return Signal.GO
        if state == "booted" and self.m.served:
            return Signal.GONE if gone else Signal.GOING if signal is Signal.STOPPING else signal
        return signal

    def on_call_failed(self, event: p.CallFailed) -> None:
        call = self.finish(event.number)
        if call is None:
            return
        if call.kind == "inspect":
            self.cannot_say(event.why)
            return
        self.set(next_look=self.now)
        if call.kind == "start":
            self.move(Signal.NO_CAPACITY if event.no_capacity else Signal.FAILED, event.why)
        else:
            delay = self.policy.trouble.delay(self.m.stop_tries, self.random)
            self.set(stop_at=self.now + delay)
            self.do(p.LogNote(f"the provider did not stop it: {event.why}", warning=True))

    def cannot_say(self, why: str) -> None:
        unread = self.m.unread + 1
        since = self.m.unread_since if self.m.unread else self.now
        self.set(unread=unread, unread_since=since, reading=None)
        self.set(next_look=self.now + self.policy.trouble.delay(unread, self.random))
        alive = self.m.state == "online" and self.policy.checks_health and not self.m.misses
        self.say_unread(f"cannot look at the machine ({unread} times in a row): {why}", alive=alive)
        self.set(asked=())
        if unread >= self.policy.misses and not alive:
            self.lost_sight(f"cannot look at the machine: {why}")

    def lost_sight(self, why: str) -> None:
        """Report the loss once."""
        if not self.move(Signal.LOST, why) and self.m.state == "unknown" and self.m.unread == self.policy.misses:
            self.set(reason=why[:LONGEST_WHY])
            self.announce()

    def say_unread(self, text: str, *, alive: bool) -> None:
        if self.m.unread <= self.policy.misses:
            self.do(p.LogNote(text, warning=True))
        elif alive:
            self.alarm(text)
        else:
            minutes = (self.now - self.m.unread_since) / 60
            self.alarm(f"{text}. Its state is unknown for {minutes:.0f} min, it may cost money: check it yourself")

    def finish(self, number: int) -> p.Call | None:
        """The call that ended, or None when its number is not the one that is awaited."""
        call = self.m.call
        if call is None or call.number != number:
            return None
        self.set(call=None)
        return call

    def on_health(self, event: p.HealthAnswer) -> None:
        settled = self.m.state == "online" and not self.m.gone
        pause = self.policy.look_online if settled else self.policy.look_soon
        self.set(checking=False, next_health=self.now + pause, health_at=self.now)
        if event.initialized:
            self.set(misses=0, gone=False)
            self.lives()
            self.move(Signal.READY, "its worker is initialized")
            if event.busy:
                self.at_work()
        elif self.m.state == "online":
            self.missed(event.why)

    def missed(self, why: str) -> None:
        self.set(misses=self.m.misses + 1)
        if self.m.misses >= self.policy.misses:
            self.set(ready=False)
            self.move(Signal.UNREADY, f"its worker no longer answers as initialized: {why}")

    def on_hub_online(self, _event: p.HubOnline) -> None:
        self.set(ready=True, gone=False, misses=0, next_look=self.now)
        self.lives()
        self.move(Signal.READY, "the hub saw its worker come online")

    def on_worker_gone(self, _event: p.WorkerGone) -> None:
        # Perhaps its machine went with it; until that is known, it is looked at often, and at once when it is wanted.
        if self.m.state in ("online", "draining"):
            self.set(gone=True, next_look=self.now, next_health=self.now)

    def on_active(self, _event: p.Active) -> None:
        if self.decides_alone() and self.m.state in ("off", "stopping"):
            self.on_wake(p.Wake())
            return
        self.set(misses=0)
        self.lives()
        if not self.policy.checks_health:  # the frame does not say which worker: with a health to ask, that counts
            self.move(Signal.READY, "its worker is at work")
        self.at_work()

    def at_work(self) -> None:
        self.set(last_use=self.now, remembered=False)
        self.used()
        if self.m.state == "draining" and not self.overdue():
            self.move(Signal.KEPT, "its worker is at work")

    def on_asked(self, event: p.StatusAsked) -> None:
        known = self.m.read_at is not None and self.now - self.m.read_at <= self.policy.fresh_for + INEXACT
        self.say_status(event.request_id, fresh=True if known else None)
        if not known and len(self.m.asked) < MAX_ASKED:  # a look may take longer than deployed clients wait
            self.set(asked=(*self.m.asked, event.request_id), next_look=self.now)

    def answer_asked(self) -> None:
        """Answer status queries again, after an inspect."""
        for request_id in self.m.asked:
            self.say_status(request_id, fresh=True)
        self.set(asked=())

    def say_status(self, request_id: str, fresh: bool | None) -> None:
        status = STATUS[self.m.state]
        if self.m.state == "failed" and self.m.reading not in ("failed", "no_capacity"):
            status = self.m.reading or "unknown"
        self.say(m.StatusResponse(request_id=request_id, status=status, fresh=fresh))

    def on_link_up(self, event: LinkUp) -> None:
        self.set(features=event.features)
        self.announce()
        if self.m.state == "booted":
            self.say_booted()
        if self.m.unsaid is not None:
            self.say_failure(self.m.unsaid)
            self.set(unsaid=None)

    def on_link_down(self, _event: LinkDown) -> None:
        self.set(features=None, asked=(), query=None if self.m.state == "online" else self.m.query)
        if self.m.state == "draining" and not self.overdue():
            self.move(Signal.KEPT, "the hub is gone and cannot say who holds it")

    # --- time

    def watch_the_clock(self) -> None:
        self.believe_it_ready()
        if self.m.orphan:
            self.watch_orphan()
        elif self.m.state in BOOTING and self.now - self.m.boot_since >= self.policy.boot_timeout:
            self.move(Signal.TIMEOUT, self.late())
            return self.watch_always()
        state = self.m.state
        if state == "no_capacity" and self.now >= self.m.retry_at and self.m.reading != "stopping":
            self.move(Signal.RETRY, "asking for capacity again")
        elif state == "online":
            self.watch_use()
        elif state == "draining":
            self.watch_draining()
        elif state == "stopping":
            self.watch_stopping()
        elif state == "failed":
            self.watch_failed()
        return self.watch_always()

    def believe_it_ready(self) -> None:
        """Where neither the worker nor the hub can say it, a machine that runs is taken to be online."""
        if self.m.state == "booted" and self.decides_alone() and not self.policy.checks_health:
            wanted = self.m.wanted  # by a wake that is newer than the look which found it running
            self.move(Signal.READY, "it runs; this hub does not say when its worker is ready")
            self.set(wanted=wanted)

    def watch_always(self) -> None:
        self.watch_wanted()
        self.warn()
        self.answer_boots()

    def late(self) -> str:
        what = {
            "starting": "the provider accepted the start, but the machine does not run",
            "no_capacity": f"no capacity ({self.m.reason})",
        }.get(self.m.state, "the machine runs, but its worker is not initialized")
        return f"not online within {self.policy.boot_timeout:g} s: {what}"

    def watch_stopping(self) -> None:
        runs_on = self.m.stop_ours and self.m.reading == "running" and self.m.call is None
        if not runs_on or self.now < self.m.stop_at:
            return
        if self.m.wanted:
            self.move(Signal.RUNS_ON, "it did not stop, and is wanted again")
        else:
            self.set(due="stop")

    def watch_wanted(self) -> None:
        # Waiting jobs must also get an answer if the machine cannot be inspected or does not finish stopping.
        serving = self.serves() or self.m.state == "draining"
        if self.m.wanted and not serving and self.now - self.m.wanted_at >= self.policy.boot_timeout:
            self.tell_failure(
                f"not started within {self.policy.boot_timeout:g} s, it is {self.m.state}: {self.m.reason}"
            )

    def answer_boots(self) -> None:
        # All clients hear the answer, so however many ask, it is not repeated faster than this.
        boots = bool(self.m.boots) and self.m.linked and self.m.state in ("booted", "online")
        if (self.m.owes_answer or boots) and self.now - self.m.answered_at >= self.policy.answer_every:
            if self.m.owes_answer:
                self.announce()
            if boots:
                self.say_booted()
            self.set(owes_answer=False, answered_at=self.now)

    def warn(self) -> None:
        if self.m.state == "online" and not self.m.warned and self.over(-self.policy.warning):
            self.set(warned=True)
            text = f"will be stopped in {self.policy.warning:g} s: the longest allowed uptime is nearly over"
            self.do(p.LogNote(text, warning=True))
            self.announce(text, stops_in=round(self.policy.warning))


_HANDLERS: Mapping[type, Callable[[_Turn, Any], None]] = {
    p.Tick: lambda turn, tick: None,
    p.Wake: _Turn.on_wake,
    p.Taken: _Turn.on_taken,
    p.Reading: _Turn.on_reading,
    p.CallFailed: _Turn.on_call_failed,
    p.HealthAnswer: _Turn.on_health,
    p.HubOnline: _Turn.on_hub_online,
    p.WorkerGone: _Turn.on_worker_gone,
    p.Active: _Turn.on_active,
    p.InUseAnswer: _Turn.on_answer,
    p.StatusAsked: _Turn.on_asked,
    LinkUp: _Turn.on_link_up,
    LinkDown: _Turn.on_link_down,
}


def _changes(machine: p.Machine, to: p.Machine) -> list[p.MachineChanged]:
    values = ((name, getattr(to, name)) for name in _FIELDS)
    changes = {name: value for name, value in values if value != getattr(machine, name)}
    return [p.MachineChanged(changes)] if changes else []


_FIELDS = tuple(field.name for field in fields(p.Machine))


def _change(machine: p.Machine, fact: p.MachineChanged) -> None:
    for name, value in fact.changes.items():
        setattr(machine, name, value)


class Monitor(Decider[p.Machine, p.PowerEvent, p.MachineChanged, p.PowerCommand]):
    """The decider for one machine. `now` is seconds on a clock that only goes forward.

    Args:
        policy: The settings.
        random: A seeded source of jitter; without it the decider would be pure.
    """

    def __init__(self, policy: p.PowerPolicy, random: Random) -> None:
        self.policy, self._random = policy, random
        handlers = {event: partial(self._handle, handler) for event, handler in _HANDLERS.items()}
        super().__init__(p.Machine, handlers, {p.MachineChanged: _change}, partial(_changes, p.Machine()))

    def _handle(
        self,
        handler: Callable[[_Turn, Any], None],
        machine: p.Machine,
        event: p.PowerEvent,
        now: float,
        decision: p.PowerDecision,
    ) -> None:
        turn = _Turn(self.policy, self._random, machine, now, decision)
        handler(turn, event)
        turn.watch_the_clock()
        turn.issue_calls()
        decision.fact(*_changes(machine, turn.m))
