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
    monitor = Monitor(policy or config_from(RECORDED, log.header.config.get("policy", {})), Random(log.header.seed))
    machine = restore(log.header.config.get("recalled"), 0.0)
    now, up = 0.0, False
    tap = MemoryTap(lambda: now)

    def handle(event: p.PowerEvent, t: float) -> None:
        nonlocal now
        now = t
        for command in monitor.step(machine, event, t).commands:
            if isinstance(command, p.Say) and up:
                tap.frame("out", command.message)

    for row in log.rows:
        while policy is not None and row.t - now > 1.0:
            handle(p.Tick(), now + 1.0)
        if row.dir == "out" or (policy is not None and row.label == "tick"):
            continue
        with row_errors(row):
            tap.row(row.dir, row.label, row.data, row.job)
            if row.dir == "in":
                event = to_event(wire.from_frame(row.data, strict=False), monitor.policy.gpu)
            else:
                event = monitor_event(row)
        if row.dir == "conn" and row.label != "tick":
            up = row.label == "up"
        if event is not None:
            handle(event, row.t)
    return Log(log.header, tuple(tap.rows))


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
