"""What follows when a machine enters a state, and which calls are made: the lower half of `monitor.py`."""

from __future__ import annotations

import math
from copy import copy
from random import Random
from typing import Any

from msgspec import structs

from wakestream.operators.model.ports import PowerWord
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.power_table import BOOTING, PAID, TABLE, Signal
from wakestream.streams.protocol import messages as m

FEATURE = "power_state"
"""What a hub announces that reads `gpu.power.state` and understands `drain` in `gpu.task.query`."""

AGE = "power_age"
"""What hub and monitor announce: `age` in `gpu.power.state`."""

RELEASE = "release"
"""What this monitor announces: it reads `gpu.power.release`."""

LONGEST_GAP = 86_400.0
"""Seconds between two alarms about one thing, at most."""

LONGEST_WHY = 1000
"""Characters of a reason; it may quote a program's output, and has to fit into a frame."""


class Moves:
    """One decision while it is made: `m` is a copy of the machine with all changes so far."""

    def __init__(
        self, policy: p.PowerPolicy, random: Random, machine: p.Machine, now: float, decision: p.PowerDecision
    ) -> None:
        self.policy, self.random, self.m, self.now = policy, random, copy(machine), now
        self.do = decision.command

    def set(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self.m, name, value)

    def say(self, message: m.Message) -> None:
        self.do(p.Say(message))

    def note_power(self) -> None:
        """Note when the machine was switched on or off. A machine that was found running may have run before."""
        on = self.m.on if self.m.state == "unknown" else self.m.state in PAID
        if on is not self.m.on:
            since = self.m.up_since if on else None
            self.set(on=on, on_or_off_since=self.now if since is None else since)

    def power_age(self) -> int | None:
        """For how many seconds the machine has been on or off; None for a hub that does not read it."""
        if self.m.on_or_off_since is None or self.m.state == "unknown" or AGE not in (self.m.features or ()):
            return None
        return round(self.now - self.m.on_or_off_since)

    # --- moves

    def move(self, signal: Signal, why: str) -> bool:
        target = TABLE[self.m.state].get(signal)
        if target is None:
            return False
        origin, why = self.m.state, why[:LONGEST_WHY]
        self.set(state=target, reason=why, query=None, again_at=None, late=False)
        self.note_power()
        if target == "no_capacity":
            self.plan_retry()
        self.do(p.LogNote(f"{origin} -> {target}: {why}", warning=target in ("failed", "no_capacity", "unknown")))
        self.announce()
        getattr(self, f"enter_{target}")(origin, signal)
        return True

    def hub_is_ours(self) -> bool:
        """Whether there is a hub that keeps account of the power, and asks again for those who wait."""
        return FEATURE in (self.m.features or ())

    def decides_alone(self) -> bool:
        """Whether the hub may never say who holds the machine."""
        return self.m.linked and not self.hub_is_ours()

    def announce(self, msg: str | None = None, stops_in: int | None = None) -> None:
        if self.hub_is_ours():
            told, url = msg or self.m.reason, self.m.address
            follows = url is None and self.policy.expects_address and self.m.state in (*BOOTING, "online", "unknown")
            self.say(
                m.PowerState(
                    gpu=self.policy.gpu,
                    state=self.m.state,
                    msg=told,
                    stops_in=stops_in,
                    orphan=self.m.orphan_unsaid or None,
                    url=url,
                    url_follows=follows or None,
                    retry_in=self.retry_in(),
                    age=self.power_age(),
                )
            )
            self.set(told_address=self.m.address, orphan_unsaid=False)

    def retry_in(self) -> int | None:
        """Whole seconds until the provider is asked for capacity again."""
        if self.m.state != "no_capacity" or math.isinf(self.m.retry_at):
            return None
        return max(0, math.ceil(round(self.m.retry_at - self.now, 3)))

    def checks_health(self) -> bool:
        """Whether the worker can be asked for its health; at a reported address only once it has answered there."""
        return self.policy.checks_health or self.m.answered

    def enter_unknown(self, _origin: PowerWord, _signal: Signal) -> None:
        self.set(ready=False, next_look=self.now if self.m.wanted else self.m.next_look)

    def enter_off(self, _origin: PowerWord, _signal: Signal) -> None:
        self.set(ready=False, up_since=None, active=None, served=False, warned=False, due=None)
        self.set(ours=False, orphan=False, orphan_unsaid=False, gone=False, start_at=None)
        if self.m.wanted:
            self.move(Signal.GO, "a wake came meanwhile")

    def enter_starting(self, origin: PowerWord, signal: Signal) -> None:
        if origin != "no_capacity":
            self.set(boot_since=self.now, retries=0)
        if signal in (Signal.GO, Signal.RETRY):
            self.set(due="start", reading=None, ours=True, orphan=False)
        self.set(wanted=False, ready=False, gone=False, up_since=None, active=None, served=False, warned=False)
        self.set(tried_at=self.now)

    def plan_retry(self) -> None:
        retries = self.m.retries + 1
        self.set(retries=retries, retry_at=self.now + self.policy.capacity.delay(retries, self.random))

    def enter_no_capacity(self, _origin: PowerWord, _signal: Signal) -> None:
        self.set(due=None, start_at=None)

    def enter_booted(self, origin: PowerWord, _signal: Signal) -> None:
        if origin not in BOOTING:  # it ran before, and jobs may hold it already
            self.set(boot_since=self.now, served=True)
        up_since = self.now if self.m.up_since is None else self.m.up_since
        self.set(up_since=up_since, wanted=False, due=None, misses=0, next_health=self.now, gone=False, start_at=None)
        if origin != "online":
            self.say_booted()
        if self.m.ready:
            self.move(Signal.READY, "the hub saw its worker come online")

    def say_booted(self) -> None:
        """To each boot request by its id, as their senders compare ids."""
        text = "the GPU is online" if self.m.state == "online" else "the machine is up, its worker is not ready yet"
        for request_id in self.m.boots or (self.m.request_id,):
            self.say(m.Booted(msg=text, request_id=request_id, gpu=self.policy.gpu))
        self.settle_boots()

    def settle_boots(self) -> None:
        if self.m.linked:
            self.set(boots=())

    def enter_online(self, _origin: PowerWord, _signal: Signal) -> None:
        last_use = self.m.last_use if self.m.remembered else self.now
        self.set(ready=True, served=True, misses=0, last_use=last_use, wanted=False, unsaid=None, remembered=False)

    def enter_draining(self, _origin: PowerWord, signal: Signal) -> None:
        if signal is Signal.IDLE and self.policy.asks_first and self.decides_alone():
            self.move(Signal.FREE, self.m.reason)  # such a hub was asked already, and cannot stop giving it work
        else:
            self.ask_the_hub(drain=True)

    def enter_stopping(self, _origin: PowerWord, signal: Signal) -> None:
        ours = signal in (Signal.FREE, Signal.UNUSABLE)
        self.set(ready=False, stop_ours=ours, stop_tries=0, due="stop" if ours else None)

    def enter_failed(self, origin: PowerWord, signal: Signal) -> None:
        self.set(due=None, ready=False, start_at=None)
        if origin in BOOTING or self.m.wanted:
            self.tell_failure(self.m.reason)
        if origin == "booted" and signal is Signal.TIMEOUT:
            self.give_up_on_machine()
        elif origin == "no_capacity" and signal is Signal.TIMEOUT and self.m.reading == "starting":
            self.move(Signal.UNUSABLE, "calling off the start that the provider has not carried out")

    def tell_failure(self, why: str) -> None:
        result = m.BootResult(request_id=self.m.request_id, status="failed", msg=why, gpu=self.policy.gpu)
        if self.m.linked:
            self.say_failure(result)
        self.set(wanted=False, unsaid=None if self.m.linked else result)

    def say_failure(self, result: m.BootResult) -> None:
        ids = dict.fromkeys((*self.m.boots, result.request_id))
        for request_id in ids:
            if request_id is not None or len(ids) == 1:
                self.say(structs.replace(result, request_id=request_id))
        self.settle_boots()

    def give_up_on_machine(self) -> None:
        # Switched off, so that the next wake is a cold start. Where jobs may have come to hold it, the hub is asked
        # first, however long that takes: perhaps it is only from here that its worker cannot be reached, and an old hub
        # does not say when one comes online.
        if self.m.served or self.m.active or not self.hub_is_ours():
            self.ask_the_hub(drain=False)
        else:
            self.move(Signal.UNUSABLE, "switching off the machine that did not come online")

    def ask_the_hub(self, *, drain: bool) -> None:
        number = self.m.queries + 1
        query = f"query-{self.policy.gpu}-{number}"
        self.set(queries=number, query=p.Query(query, self.now))
        if self.hub_is_ours():
            idle = self.worker_idle() or None
            self.say(m.TaskQuery(request_id=query, gpu=self.policy.gpu, drain=drain or None, idle=idle))
        else:
            self.say(m.TaskQuery(request_id=query))

    def idle(self) -> bool:
        return self.now - self.m.last_use >= self.policy.idle_after

    def worker_idle(self) -> bool:
        """Whether the worker itself has answered that it has no task, since the idle time was over."""
        answers = self.policy.asks_first and self.checks_health() and not self.m.misses
        return answers and self.idle() and self.m.health_at >= self.m.last_use + self.policy.idle_after

    def alarm(self, text: str) -> None:
        """Say it now and then, less and less often: it must not be missed, nor fill the log."""
        if self.now >= self.m.alarm_at:
            gap = min(LONGEST_GAP, self.policy.first_alarm * 2.0**self.m.alarms)
            self.set(alarms=self.m.alarms + 1, alarm_at=self.now + gap)
            self.do(p.LogNote(text, warning=True))

    # --- calls

    def issue_calls(self) -> None:
        call = self.m.call
        free = call is None or call.kind == "inspect"
        if self.m.due is not None and free:
            self.issue_due()
        elif call is None and self.m.due is None and self.now >= self.m.next_look:
            self.do(p.Inspect(self.begin("inspect")))
        can = self.policy.checks_health or self.m.address is not None
        up = self.m.state in ("booted", "online") and can
        if up and not self.m.checking and self.now >= self.m.next_health:
            self.set(checking=True)
            self.do(p.CheckHealth(self.m.address))

    def issue_due(self) -> None:
        if self.m.due == "start":
            self.do(p.Start(self.begin("start")))
            self.set(start_at=self.now, start_taken=False)
        else:
            self.set(stop_tries=self.m.stop_tries + 1)
            self.do(p.Stop(self.begin("stop")))
        # What was read before is no longer true of the machine that now starts or stops.
        self.set(due=None, reading=None)

    def begin(self, kind: p.CallKind) -> int:
        number = self.m.calls + 1
        self.set(calls=number, call=p.Call(kind, number), look_from=self.now if kind == "inspect" else self.m.look_from)
        return number
