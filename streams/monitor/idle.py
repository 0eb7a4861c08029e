"""When a machine that is on may be stopped: after the idle time, or because it runs without a request.

Part of `monitor.py`. A hub that keeps account of the power is asked twice: first whether a job holds the machine, then
to give it no more work. A deployed hub knows no such question and may never answer. Then the idle time decides, with
what the worker reports over HTTP.
"""

from __future__ import annotations

from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.power_table import BOOTING, Signal
from wakestream.streams.monitor.transitions import Moves


class Idle(Moves):
    """One decision in the making."""

    def awaits_the_hub(self) -> bool:
        """Whether the monitor waits for the hub's answer: later, an answer could be out of date."""
        query = self.m.query
        return query is not None and self.now - query.asked_at < self.policy.query_timeout

    # --- the longest uptime

    def overdue(self) -> bool:
        return self.over(0.0)

    def over(self, offset: float) -> bool:
        """Whether the longest allowed uptime, moved by `offset` seconds, has passed."""
        limit, since = self.policy.max_uptime, self.m.up_since
        return limit is not None and since is not None and self.now - since >= limit + offset

    # --- the idle time

    def watch_use(self) -> None:
        if self.overdue():
            self.move(Signal.OVERDUE, f"on for the longest allowed time of {self.policy.max_uptime:g} s")
        elif self.m.linked and not self.m.orphan and self.idle():
            self.may_drain(self.no_work(), since=self.m.last_use + self.policy.idle_after)

    def no_work(self) -> str:
        return f"no work for {self.policy.idle_after:g} s"

    def may_drain(self, why: str, since: float) -> None:
        """Drain if, after `since`, the worker had no task and the hub says that no job holds the machine."""
        if not self.policy.asks_first:
            self.move(Signal.IDLE, why)
        elif self.checks_health() and self.m.health_at < since:
            self.set(next_health=min(self.m.next_health, self.now))
        elif self.m.query is None or self.m.query.asked_at < since:
            self.ask_the_hub(drain=False)
        elif self.awaits_the_hub():
            return
        elif not self.decides_alone():
            self.ask_the_hub(drain=False)
        elif not self.m.misses:
            self.move(Signal.IDLE, f"{why}, and {self.unanswered()}")

    def unanswered(self) -> str:
        if self.checks_health():
            return "its worker has no task; the hub does not say who holds it"
        return "the hub does not say who holds it; set the worker's URL, and its tasks will count"

    def on_answer(self, event: p.InUseAnswer) -> None:
        query = self.m.query
        if query is None or query.id != event.request_id or not self.awaits_the_hub():
            return  # the hub may have granted the GPU since
        held = event.active_count != 0 or event.has_recent_active
        self.set(active=event.active_count, orphan=self.m.orphan and not held)
        if self.m.state == "draining":
            self.answered_in_drain(event, held=held)
        elif self.m.state == "online":
            self.answered_when_idle(held=held)
        else:
            self.answered_after_failure(held=held)

    def answered_in_drain(self, event: p.InUseAnswer, *, held: bool) -> None:
        if not held:
            self.move(Signal.FREE, "nobody holds it")
        elif not self.overdue():
            self.move(Signal.KEPT, f"still in use ({event.active_count} jobs)")

    def answered_when_idle(self, *, held: bool) -> None:
        self.set(query=None)
        if held:
            self.set(last_use=self.now)
        elif self.m.orphan:
            self.move(Signal.IDLE, "it runs without a request")
        elif self.idle():
            self.move(Signal.IDLE, self.no_work())

    def answered_after_failure(self, *, held: bool) -> None:
        self.set(query=None)
        if not held:
            self.move(Signal.UNUSABLE, self.unusable())
        elif self.m.state == "failed":
            self.set(next_look=self.now)

    def unusable(self) -> str:
        if self.m.orphan:
            return "switching off the machine that runs without a request; no job holds it"
        return "switching off the machine that did not come online; no job holds it"

    def watch_draining(self) -> None:
        if self.over(self.policy.warning):
            why = "the longest allowed uptime is long over"
            self.do(p.LogNote(f"stopping although jobs may hold it: {why}", warning=True))
            self.move(Signal.FREE, why)
        elif self.m.query is None or self.awaits_the_hub():
            return
        elif self.overdue():
            self.ask_the_hub(drain=True)
        else:
            self.move(Signal.KEPT, "the hub does not say who holds it")

    def watch_failed(self) -> None:
        """Stop a machine that runs and did not come online after the idle time, if the hub does not answer."""
        unanswered = self.m.query is not None and not self.awaits_the_hub()
        if self.m.reading == "running" and unanswered and self.decides_alone() and self.idle():
            self.move(Signal.UNUSABLE, "switching off the machine that did not come online; the hub does not answer")

    # --- a machine that runs without a request

    def used(self) -> None:
        """A job uses the machine: from now on it is treated like one that was started for a job."""
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
