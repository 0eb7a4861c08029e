"""A test's desk: one machine, a clock in hand, and what the monitor has said and done so far."""

from __future__ import annotations

from random import Random
from typing import Any, TypeVar

from wakestream.operators.model.ports import LinkDown, LinkUp, PowerState
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import Monitor
from wakestream.streams.protocol import messages as m

C = TypeVar("C")
M = TypeVar("M", bound=m.Message)


class Desk:
    def __init__(self, *, linked: bool = True, ours: bool = True, **settings: Any) -> None:
        self.policy = p.PowerPolicy(gpu="gpu-1", **settings)
        self.monitor = Monitor(self.policy, Random(7))
        self.machine = p.Machine()
        self.now = 1000.0
        self.commands: list[p.PowerCommand] = []
        if linked:
            self.happens(LinkUp(frozenset({"power_state"} if ours else ())))

    @property
    def state(self) -> str:
        return self.machine.state

    def happens(self, event: p.PowerEvent) -> list[p.PowerCommand]:
        commands = self.monitor.step(self.machine, event, self.now).commands
        self.commands.extend(commands)
        return commands

    def passes(self, seconds: float) -> list[p.PowerCommand]:
        self.now += seconds
        return self.happens(p.Tick())

    def did(self, kind: type[C]) -> list[C]:
        return [command for command in self.commands if isinstance(command, kind)]

    def said(self, kind: type[M]) -> list[M]:
        return [say.message for say in self.did(p.Say) if isinstance(say.message, kind)]

    def states(self) -> list[str]:
        return [message.state for message in self.said(m.PowerState)]

    def call(self) -> p.Start | p.Stop | p.Inspect:
        assert self.machine.call is not None
        return self.machine.call

    def reads(self, reading: PowerState, detail: str = "", **more: Any) -> None:
        """The provider's answer to the next look."""
        if self.machine.call is None:
            self.passes(max(0.0, self.machine.looks.next_at - self.now))
        assert isinstance(self.call(), p.Inspect)
        self.happens(p.Reading(self.call().number, reading, detail, **more))

    def taken(self) -> None:
        assert isinstance(self.call(), p.Start | p.Stop)
        self.happens(p.Taken(self.call().number))

    def fails(self, why: str = "it broke", *, no_capacity: bool = False, **more: Any) -> None:
        if self.machine.call is None:
            self.passes(max(0.0, self.machine.looks.next_at - self.now))
        self.happens(p.CallFailed(self.call().number, why, no_capacity, **more))

    def answers(self, active: int = 0, *, recent: bool = False) -> None:
        query = self.said(m.TaskQuery)[-1]
        self.happens(m.TaskQueryResponse(request_id=query.request_id, active_count=active, has_recent_active=recent))

    # --- how a machine gets into each state

    def unknown(self) -> Desk:
        return self

    def off(self) -> Desk:
        self.reads("stopped")
        return self

    def starting(self) -> Desk:
        self.off().happens(p.Wake("job-1"))
        self.taken()
        return self

    def no_capacity(self) -> Desk:
        self.off().happens(p.Wake("job-1"))
        self.fails("no stock", no_capacity=True)
        return self

    def booted(self) -> Desk:
        self.starting().reads("running")
        return self

    def online(self) -> Desk:
        self.booted().happens(p.HealthAnswer(True))
        return self

    def draining(self) -> Desk:
        """Idle: its worker has no task, and the hub said once that no job holds it."""
        self.online().is_idle()
        self.answers(0)
        return self

    def is_idle(self) -> None:
        """The idle time is over, and the worker answers that it has no task: the hub is asked."""
        self.passes(self.policy.idle_after)
        if self.policy.checks_health:
            self.happens(p.HealthAnswer(True))

    def drains(self) -> None:
        """It has been idle, and the hub says that no job holds it."""
        self.is_idle()
        self.answers(0)
        assert self.state == "draining"

    def stopping(self) -> Desk:
        self.draining()
        if self.state == "draining":  # at a deployed hub that is but a step on the way
            self.answers(0)
        self.taken()
        return self

    def failed(self) -> Desk:
        self.starting().reads("failed", "it fell over")
        return self

    def cut(self) -> None:
        self.happens(LinkDown("cut"))
