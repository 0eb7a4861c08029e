"""Run the monitor's decider again on a monitor's log: hub, provider and clock as they were. Pure."""

from __future__ import annotations

from random import Random
from typing import Any

from wakestream.streams.monitor import power_machine as p
from wakestream.streams.monitor.monitor import Monitor, to_event
from wakestream.streams.monitor.persistence import restore
from wakestream.streams.protocol import wire
from wakestream.streams.recording.config_json import config_from
from wakestream.streams.recording.recording import Log, MemoryTap, Row
from wakestream.streams.replay.input_rows import link_event, row_errors

RECORDED = p.PowerPolicy("", asks_first=False)
"""The policy where a log does not have it: older monitors drained without asking first."""


def replay_monitor(log: Log, policy: p.PowerPolicy | None = None) -> Log:
    """Run the monitor's decider on the inputs of `log`.

    Args:
        log: A monitor's log.
        policy: Another policy than the recorded one; the monitor then ticks once a second between the rows.

    Returns:
        The log of what the monitor sends now.

    Raises:
        UnusableLog: A row cannot be read as an event.
    """
    recorded = config_from(RECORDED, log.header.config.get("policy", {}))
    return _Replay(log, policy or recorded, ticking=policy is not None).run()


class _Replay:
    def __init__(self, log: Log, policy: p.PowerPolicy, *, ticking: bool) -> None:
        self.log = log
        self.monitor = Monitor(policy, Random(log.header.seed))
        self.machine = restore(log.header.config.get("recalled"), 0.0)
        self.ticking = ticking
        self.t = 0.0
        self.tap = MemoryTap(lambda: self.t)
        self.up = False

    def run(self) -> Log:
        for row in self.log.rows:
            while self.ticking and row.t - self.t > 1.0:
                self._handle(p.Tick(), self.t + 1.0)
            with row_errors(row):
                event = self._event(row)
            if event is not None:
                self._handle(event, row.t)
        return Log(self.log.header, tuple(self.tap.rows))

    def _event(self, row: Row) -> p.PowerEvent | None:
        if row.dir == "out" or (self.ticking and row.label == "tick"):
            return None
        self.tap.row(row.dir, row.label, row.data, row.job)
        if row.dir == "in":
            return to_event(wire.from_frame(row.data, strict=False), self.monitor.policy.gpu)
        event = monitor_event(row)
        if row.dir == "conn" and row.label != "tick":
            self.up = row.label == "up"
        return event

    def _handle(self, event: p.PowerEvent, t: float) -> None:
        self.t = t
        for command in self.monitor.step(self.machine, event, t).commands:
            if isinstance(command, p.Say) and self.up:
                self.tap.frame("out", command.message)


def monitor_event(row: Row) -> p.PowerEvent:
    """The event of a `conn` or `effect` row."""
    if row.dir == "conn":
        return p.Tick() if row.label == "tick" else link_event(row)
    data: dict[str, Any] = dict(row.data)
    if "initialized" in data:
        return p.HealthAnswer(**data)
    if "reading" in data:
        return p.Reading(**data)
    return p.CallFailed(**data) if "why" in data else p.Taken(**data)
