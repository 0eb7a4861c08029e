"""What the provider's answers say of the machine, and what is done if it gives none.

Part of `monitor.py`. A machine that runs without a request is never assumed to be off, nor is one that was started
before a restart of the monitor and does not show yet.
"""

from __future__ import annotations

from collections.abc import Mapping

from wakestream.operators.model.ports import PowerState
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.idle import Idle
from wakestream.streams.monitor.power_table import BOOTING, STATUS, Signal
from wakestream.streams.monitor.transitions import LONGEST_WHY
from wakestream.streams.protocol import messages as m

_FOUND: Mapping[p.Orphans, str] = {
    "adopt": "it is taken over, and stopped when it has been idle for long enough",
    "stop": "it is stopped unless a job holds it",
    "report": "it is left alone until it is used",
}


class Readings(Idle):
    """One decision while it is made."""

    def may_yet_start(self, signal: Signal) -> bool:
        """Whether this is a start from before the monitor was last started, which may only not show yet.

        Then nothing else is started. One that the provider took has as long as any; one that was about to be asked for
        when the monitor ended has as long as a call may take.
        """
        if self.m.state != "unknown" or self.m.start_at is None or signal not in (Signal.STOPPED, Signal.FAILED):
            return False
        limit = self.policy.boot_timeout if self.m.start_taken else self.policy.call_timeout
        if self.now - self.m.start_at < limit:
            return True
        self.set(start_at=None)
        return False

    def found_running(self, why: str) -> str:
        """Note that the machine runs without a request."""
        known = self.m.ours or self.m.served or self.m.wanted
        self.set(start_at=None)
        if known or self.m.state not in ("unknown", "off"):
            return why
        self.set(orphan=self.policy.orphans != "adopt", ours=self.policy.orphans == "adopt", alarms=0)
        why = f"it runs without a request: {_FOUND[self.policy.orphans]} ({why})"
        self.set(alarm_at=self.now)
        self.alarm(why)
        self.set(orphan_unsaid=True)
        return why

    def serves(self) -> bool:
        """Whether the machine serves jobs, as far as is known."""
        return self.m.state == "online" or (self.m.state == "booted" and self.m.served)

    def lives(self) -> None:
        """The machine runs, so that the last wake needs no start."""
        if self.serves():
            self.set(wanted=False)

    def alone_tells(self) -> bool:
        """Whether the provider is the only source of the machine's state."""
        return not self.checks_health() and not self.m.gone

    def want(self) -> None:
        self.set(wanted=True, wanted_at=self.m.wanted_at if self.m.wanted else self.now)

    def finish(self, number: int) -> p.Call | None:
        """The call that ended, or None when its number is not the one that is awaited."""
        call = self.m.call
        if call is None or call.number != number:
            return None
        self.set(call=None)
        return call

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
        self.set(reading=event.reading, read_at=self.now, read_from=self.m.look_from)
        self.learn(event)
        stale, wanted = event.number <= self.m.seen_from, self.m.wanted
        if event.reading == "running" and not stale and self.alone_tells():
            self.lives()
        if not self.lacks_its_gpu(event):
            self.believe(event.reading, before, event.detail or f"the provider says {event.reading}")
        if self.m.told_address != self.m.address:
            self.announce()
        if wanted and stale and self.serves() and not self.hub_is_ours():
            self.want()
        pause = self.policy.look_soon if self.m.gone else self.policy.look_every(self.m.state)
        self.set(next_look=self.now + pause)
        self.answer_asked()

    def learn(self, event: p.Reading) -> None:
        """Note what a reading says beside the state."""
        on = event.reading in ("starting", "running", "stopping")
        if on:
            self.set(again_at=None)
        address = (event.address or self.m.address) if on and self.policy.follows_address else None
        if address != self.m.address:
            self.set(address=address, answered=False, misses=0, next_health=self.now)
        if event.reading == "running" and event.age is not None and self.m.state in ("unknown", "off"):
            self.set(up_since=self.now - event.age)

    def lacks_its_gpu(self, event: p.Reading) -> bool:
        """Whether the machine was started and came without its GPU. It is stopped, and the boot has failed."""
        mid_start = self.m.state == "unknown" and self.m.start_at is not None
        booting = self.m.state in BOOTING and not self.m.served
        if event.reading != "running" or event.gpus != 0 or not (mid_start or booting):
            return False
        self.move(Signal.FAILED, f"it started without its GPU: {event.detail or 'the provider gave it none'}")
        return self.move(Signal.UNUSABLE, "switching off the machine that started without its GPU")

    def believe(self, reading: PowerState, before: PowerState | None, why: str) -> None:
        signal = Signal.STOPPED if reading == "no_capacity" else Signal[reading.upper()]
        if self.may_yet_start(signal) or self.given_up_on(signal):
            return
        if self.m.late and signal is Signal.STARTING:
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

    def meaning(self, reading: PowerState, before: PowerState | None, signal: Signal) -> Signal:
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
        wait = event.retry_after or 0.0
        if event.fault == "gone":
            self.is_terminated(event.why)
        elif call.kind == "inspect":
            self.cannot_say(event.why, wait, denied=event.fault == "denied")
        elif call.kind == "start":
            self.start_failed(event)
        else:
            delay = self.policy.trouble.delay(self.m.stop_tries, self.random)
            self.set(next_look=self.now, stop_at=self.now + max(delay, wait))
            self.do(p.LogNote(f"the provider did not stop it: {event.why}", warning=True))

    def is_terminated(self, why: str) -> None:
        self.set(reading="terminated", read_at=self.now, unread=0, address=None, answered=False)
        self.set(next_look=self.now + self.policy.look_rarely)
        self.move(Signal.TERMINATED, why)
        self.answer_asked()

    def start_failed(self, event: p.CallFailed) -> None:
        self.set(next_look=self.now)
        if event.no_capacity or event.fault != "transient":
            self.move(Signal.NO_CAPACITY if event.no_capacity else Signal.FAILED, event.why)
        elif self.m.state == "starting":
            # Without the provider's word that it had no effect, it may have been accepted, and shows only later.
            wait = self.policy.shows_within if event.retry_after is None else event.retry_after
            self.set(again_at=self.now + wait, reason=event.why[:LONGEST_WHY])
            self.do(p.LogNote(f"the start failed, and is tried again in {wait:g} s: {event.why}", warning=True))
            self.announce()

    def cannot_say(self, why: str, wait: float = 0.0, *, denied: bool = False) -> None:
        unread = self.m.unread + 1
        since = self.m.unread_since if self.m.unread else self.now
        self.set(unread=unread, unread_since=since, reading=None)
        self.set(next_look=self.now + max(wait, self.policy.trouble.delay(unread, self.random)))
        alive = self.m.state == "online" and self.checks_health() and not self.m.misses
        self.say_unread(f"cannot look at the machine ({unread} times in a row): {why}", alive=alive)
        self.set(asked=())
        if (unread >= self.policy.misses or denied) and not alive:
            self.lost_sight(f"cannot look at the machine: {why}")
        if denied and self.m.wanted and not self.serves():
            self.tell_failure(f"cannot look at the machine: {why}")

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
