"""The monitor's decider: messages and the provider's answers in, commands to the provider and messages out.

At most one provider call runs at a time, and never two starts. The moves are those of
`streams/monitor/power_table.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from random import Random
from typing import Any

from wakestream.operators.model.ports import LinkDown, LinkUp, PowerWord
from wakestream.streams.decider import Decider
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.power_table import BOOTING, Signal
from wakestream.streams.monitor.readings import Readings
from wakestream.streams.protocol import messages as m

INEXACT = 0.005
"""Seconds that an age may be above its limit. Clocks of 16 ms often reach a limit exactly; a log's times are then
microseconds above it, and its replay would decide differently."""

MAX_ASKED = 100
"""Status queries that may wait for the next look at the machine; one more is answered from memory only."""


def to_event(message: m.Message | LinkUp | LinkDown, gpu: str) -> p.PowerEvent | None:
    """The event of a message of the hub for the monitor of `gpu`, or None. A message that names no GPU is for all."""
    if isinstance(message, LinkUp | LinkDown):
        return message
    if (getattr(message, "gpu", None) or gpu) != gpu:
        return None
    if isinstance(message, m.Unknown) and message.type in _COPIES:
        return p.Wake()
    meaning = _MEANINGS.get(type(message))
    return meaning(message) if meaning is not None else None


_COPIES = frozenset({"gpu.job.submit", "gpu_task", "url", "chatglm_video"})
"""Copies of work that a deployed hub sends its monitors, without some fields."""

_MEANINGS: Mapping[type, Callable[[Any], p.PowerEvent | None]] = {
    m.Boot: lambda boot: p.Wake(boot.request_id, boot=True, answer=boot.source != "hub"),
    m.Submit: lambda submit: p.Wake(submit.request_id),
    m.Online: lambda _: p.HubOnline(),
    m.PowerState: lambda said: p.WorkerGone() if said.state == "lost" else None,
    m.StatusQuery: lambda query: p.StatusAsked(query.request_id),
    m.TaskActive: lambda _: p.Active(),
    m.Release: lambda _: p.Released(),
    m.TaskQueryResponse: lambda answer: p.InUseAnswer(answer.request_id, answer.active_count, answer.has_recent_active),
}


class _Turn(Readings):
    """One decision while it is made: a method for each event."""

    def on_wake(self, event: p.Wake) -> None:
        first = self.m.state == "off" and not self.m.wanted
        request_id = event.request_id or (None if first else self.m.request_id)
        self.set(last_use=self.now, request_id=request_id, remembered=False)
        if math.isinf(self.m.retry_at):  # it was released
            self.set(retry_at=self.now + self.policy.capacity.max_delay)
            self.announce()
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

    def on_health(self, event: p.HealthAnswer) -> None:
        if event.url is not None and event.url != self.m.address:
            self.set(checking=False)
            return  # the machine has another address by now
        settled = self.m.state == "online" and not self.m.gone
        pause = self.policy.look_online if settled else self.policy.look_soon
        self.set(checking=False, next_health=self.now + pause, health_at=self.now)
        if event.initialized:
            self.set(misses=0, gone=False, answered=event.url is not None)
            self.lives()
            self.move(Signal.READY, "its worker is initialized")
            if event.busy:
                self.at_work()
        elif self.m.state == "online" and self.checks_health():
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

    def on_released(self, _event: p.Released) -> None:
        """As if the idle time were over; worker and hub are asked as before each stop. A start waits for a wake."""
        self.set(last_use=min(self.m.last_use, self.now - self.policy.idle_after), wanted=False)
        if self.m.state == "no_capacity":
            self.set(retry_at=math.inf)
            self.announce()

    def on_active(self, _event: p.Active) -> None:
        if self.decides_alone() and self.m.state in ("off", "stopping"):
            self.on_wake(p.Wake())
            return
        self.set(misses=0)
        self.lives()
        if not self.checks_health():  # the frame does not say which worker: with a health to ask, that counts
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
        watch = _WATCH.get(self.m.state)
        if watch is not None:
            watch(self)
        return self.watch_always()

    def watch_starting(self) -> None:
        """Repeat a start that did not reach the provider, if the machine is off; one that takes too long is late."""
        again, limit = self.m.again_at, self.policy.start_within
        if again is not None and self.now >= again and self.is_off_since(again):
            self.set(due="start", again_at=None, tried_at=self.now)
            self.do(p.LogNote("asking for the start again: the provider did not take it, and the machine is off"))
        elif limit is not None and self.now - self.m.tried_at >= limit and self.m.call is None:
            what = f"it is {self.m.reading or 'not seen'} {limit:g} s after the start"
            self.move(Signal.NO_CAPACITY, f"{what}, which counts as no capacity")
            self.set(late=True)

    def is_off_since(self, moment: float) -> bool:
        """Whether a look that began then or later found the machine off."""
        return self.m.reading == "stopped" and self.m.read_from >= moment

    def watch_capacity(self) -> None:
        # A late start may still be carried out: it is repeated only if the machine is known to be off.
        shown = self.m.tried_at + self.policy.shows_within
        may = self.is_off_since(shown) if self.m.late else self.m.reading != "stopping"
        if self.now >= self.m.retry_at and may:
            self.move(Signal.RETRY, "asking for capacity again")

    def believe_it_ready(self) -> None:
        """A running machine counts as online if neither the worker nor the hub can report that."""
        if self.m.state == "booted" and self.decides_alone() and not self.checks_health():
            wanted = self.m.wanted  # by a wake that is newer than the look which found it running
            self.move(Signal.READY, "it runs; this hub does not say when its worker is ready")
            self.set(wanted=wanted)

    def watch_always(self) -> None:
        self.watch_wanted()
        self.warn()
        self.answer_boots()

    def late(self) -> str:
        accepted = "the provider accepted the start, but the machine does not run"
        what = {
            "starting": accepted if self.m.again_at is None else f"the start failed: {self.m.reason}",
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


_WATCH: Mapping[PowerWord, Callable[[_Turn], None]] = {
    "starting": _Turn.watch_starting,
    "no_capacity": _Turn.watch_capacity,
    "online": _Turn.watch_use,
    "draining": _Turn.watch_draining,
    "stopping": _Turn.watch_stopping,
    "failed": _Turn.watch_failed,
}
"""What is checked in each state as time passes."""

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
    p.Released: _Turn.on_released,
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
        handlers = dict.fromkeys(_HANDLERS, self._handle)
        super().__init__(p.Machine, handlers, {p.MachineChanged: _change})

    def _handle(self, machine: p.Machine, event: p.PowerEvent, now: float, decision: p.PowerDecision) -> None:
        turn = _Turn(self.policy, self._random, machine, now, decision)
        _HANDLERS[type(event)](turn, event)
        turn.watch_the_clock()
        turn.issue_calls()
        decision.fact(*_changes(machine, turn.m))
