"""Machines that run without a request, and starts before a restart of the monitor whose result is unknown.

The middle part of `streams/monitor/monitor.py`. Such a machine is never assumed to be off.
"""

from __future__ import annotations

from collections.abc import Mapping

from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.idle import Idle
from wakestream.streams.monitor.power_table import BOOTING, Signal

_FOUND: Mapping[p.Orphans, str] = {
    "adopt": "it is taken over, and stopped when it has been idle for long enough",
    "stop": "it is stopped unless a job holds it",
    "report": "it is left alone until it is used",
}


class Findings(Idle):
    """One decision in the making."""

    def may_yet_start(self, signal: Signal) -> bool:
        """Whether this is a start from before the monitor was last started, which may only not show yet.

        Then nothing else is started. One that the provider took has as long as any; one that was about to be asked for
        when the monitor ended has as long as a call may take.
        """
        if self.m.state != "unknown" or self.m.start_at is None or signal not in (Signal.STOPPED, Signal.FAILED):
            return False
        patience = self.policy.boot_timeout if self.m.start_taken else self.policy.call_timeout
        if self.now - self.m.start_at < patience:
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
        return why

    def used(self) -> None:
        """The machine is used: from now on it is like any other, with the full boot timeout."""
        if self.m.orphan:
            self.set(orphan=False, ours=True, boot_since=self.now)

    def watch_orphan(self) -> None:
        state = self.m.state
        if self.policy.orphans == "report":
            self.alarm("it still runs without a request, and is left alone")
        elif state == "online" and self.m.linked:
            self.drain_orphan()
        elif state == "booted" and self.m.linked and not self.awaits_the_hub():
            self.stop_orphan()
        if state in BOOTING and self.overdue():
            self.move(Signal.TIMEOUT, "it runs without a request, and is on for the longest allowed time")

    def drain_orphan(self) -> None:
        if self.decides_alone():
            self.may_drain("it runs without a request", since=self.m.up_since or 0.0)
        else:
            self.move(Signal.IDLE, "it runs without a request")

    def stop_orphan(self) -> None:
        if self.decides_alone() and self.m.query is not None:
            self.move(Signal.UNUSABLE, "switching off the machine that runs without a request; the hub does not answer")
        else:
            self.ask_the_hub(drain=True)
