"""The metrics of a monitor: the state of its machine, and the provider's answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from prometheus_client.metrics_core import Metric

from wakestream.adapters.disk.journal import SqliteJournal
from wakestream.adapters.monitor.runner import MonitorProgram
from wakestream.adapters.telemetry import metric_families as ff
from wakestream.adapters.telemetry.link_metrics import LinkWatch
from wakestream.operators.model.ports import PowerWord
from wakestream.streams.recording.recording import Direction

STATES = get_args(PowerWord)
CALLS = ("start", "stop", "inspect")
RESULTS = ("ok", "failed", "no_capacity")
_EFFECT = "power."


class PowerWatch(LinkWatch):
    """A tap that also counts the provider's answers."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[tuple[str, str]] = Counter()

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """See `Tap.row`."""
        super().row(direction, label, data, job)
        if direction == "effect" and label.startswith(_EFFECT):
            result = "no_capacity" if data.get("no_capacity") else "failed" if "why" in data else "ok"
            self.calls[label.removeprefix(_EFFECT), result] += 1


class MonitorMetrics:
    """A callable that returns the families. `folder` has the program's journal, if there is one."""

    def __init__(self, program: MonitorProgram, watch: PowerWatch, folder: Path | None = None) -> None:
        self._program, self._watch, self._folder = program, watch, folder

    def __call__(self) -> Iterator[Metric]:
        """All families of a monitor."""
        machine, watch = self._program.machine, self._watch
        yield ff.build("monitor")
        text = "1 for the state that the machine is in, 0 for the others."
        yield ff.gauges("wakestream_monitor_power_state", text, ("state",), ff.one_of(STATES, machine.state))
        entered = {state: self._program.entered[state] for state in STATES}
        text = "How often the machine came into this state: starting, stopping, failed and so on."
        yield ff.counters("wakestream_monitor_power_changes_total", text, ("state",), entered)
        calls = {(call, result): watch.calls[call, result] for call in CALLS for result in RESULTS}
        text = "The provider's answers to what it was asked for."
        yield ff.counters("wakestream_monitor_provider_calls_total", text, ("call", "result"), calls)
        since = machine.use.up_since
        up = asyncio.get_running_loop().time() - since if since is not None else 0.0
        yield ff.gauge("wakestream_monitor_uptime_seconds", "Since the machine was first seen running; 0 if off.", up)
        text = "Looks at the machine in a row that failed."
        yield ff.gauge("wakestream_monitor_looks_failed", text, machine.looks.failed)
        yield from watch.families("monitor")
        if isinstance(self._program.journal, SqliteJournal) and self._folder is not None:
            yield from ff.journal("monitor", self._program.journal)
            yield from ff.disk("monitor", self._folder)
