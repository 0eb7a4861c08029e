"""A monitor's log drives its decider again: hub, provider and clock as they were, and what it would say now. Pure."""

from __future__ import annotations

from random import Random
from typing import Any

from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import Monitor, hear
from wakestream.streams.monitor.persistence import recalled
from wakestream.streams.protocol import wire
from wakestream.streams.recording.config_json import config_from
from wakestream.streams.recording.recording import Log, MemoryTap, Row, UnusableLog

RECORDED = p.PowerPolicy("", asks_first=False)
"""The policy of a log as far as it does not say: older monitors drained first, and asked then."""


def replay_monitor(log: Log, policy: p.PowerPolicy | None = None) -> Log:
    """The log of what the monitor says now; under another `policy`, seconds of its own pass between the rows."""
    recorded = config_from(RECORDED, log.header.config.get("policy", {}))
    return _Replay(log, policy or recorded, ticking=policy is not None).run()


class _Replay:
    def __init__(self, log: Log, policy: p.PowerPolicy, *, ticking: bool) -> None:
        self.log = log
        self.monitor = Monitor(policy, Random(log.header.seed))
        self.machine = recalled(log.header.config.get("recalled"), 0.0)
        self.ticking = ticking
        self.t = 0.0
        self.tap = MemoryTap(lambda: self.t)
        self.up = False

    def run(self) -> Log:
        for row in self.log.rows:
            if self.ticking:
                self._pass_time(row.t)
            event = self._heard(row)
            if event is not None:
                self._happen(event, row.t)
        return Log(self.log.header, tuple(self.tap.rows))

    def _pass_time(self, until: float) -> None:
        while until - self.t > 1.0:
            self._happen(p.Tick(), self.t + 1.0)

    def _heard(self, row: Row) -> p.PowerEvent | None:
        try:
            return self._event(row)
        except (LookupError, TypeError, ValueError) as error:
            raise UnusableLog(f"row {row.seq} ({row.dir} {row.label}) cannot be replayed: {error!r}") from error

    def _event(self, row: Row) -> p.PowerEvent | None:
        if row.dir != "out" and not (self.ticking and row.label == "tick"):
            self.tap.row(row.dir, row.label, row.data, row.job)
        if row.dir == "conn":
            return self._conn(row)
        if row.dir == "effect":
            return outcome_from(row)
        if row.dir == "in":
            return hear(wire.from_frame(row.data, strict=False), self.monitor.policy.gpu)
        return None

    def _conn(self, row: Row) -> p.PowerEvent | None:
        if row.label == "tick":
            return None if self.ticking else p.Tick()
        self.up = row.label == "up"
        if self.up:
            return LinkUp(frozenset(row.data.get("features", ())))
        return LinkDown(row.data.get("why", ""), row.data.get("code"))

    def _happen(self, event: p.PowerEvent, t: float) -> None:
        self.t = t
        self.machine, commands = self.monitor.decide(self.machine, event, t)
        for command in commands:
            if isinstance(command, p.Say) and self.up:
                self.tap.frame("out", command.message)


def outcome_from(row: Row) -> p.PowerEvent:
    """The event that an effect's row tells of."""
    data: dict[str, Any] = dict(row.data)
    if "initialized" in data:
        return p.HealthAnswer(**data)
    if "reading" in data:
        return p.Reading(**data)
    return p.CallFailed(**data) if "why" in data else p.Taken(**data)
