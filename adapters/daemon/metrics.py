"""Metrics of a daemon: its jobs, the duration of their stages, and sent and saved bytes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric

from wakestream.adapters.daemon.program import RunningDaemon
from wakestream.adapters.telemetry import metric_families as ff
from wakestream.adapters.telemetry.link_metrics import LinkWatch
from wakestream.adapters.telemetry.stage_events import STAGE_NAMES, StageEvents
from wakestream.streams.recording.event_json import OUTCOME_KINDS
from wakestream.streams.recording.recording import Direction

WAITING = "waiting"
"""In place of a stage: the job has not started."""


class JobWatch(StageEvents):
    """A tap that counts events. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.link = LinkWatch()
        self.outcomes: Counter[str] = Counter()
        self.sums: Counter[str] = Counter()
        text = "Time that jobs spent in each stage, waits and retries included."
        self.stages = ff.histogram("wakestream_daemon_stage_seconds", text, ("stage",))
        for stage in STAGE_NAMES:
            self.stages.labels(stage)
        self._clock = clock
        self._since: dict[str, float] = {}

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """See `Tap.row`."""
        self.link.row(direction, label, data, job)
        super().row(direction, label, data, job)

    def began(self, job: str, data: Mapping[str, Any]) -> None:
        """See `StageEvents`."""
        self._since[job] = self._clock()

    def happened(self, job: str, kind: str, data: Mapping[str, Any]) -> None:
        """See `StageEvents`."""
        match kind:
            case "uploaded":
                self.sums.update(sent=data["sent"], saved=data["saved"])
            case "done":
                self.sums["result"] += data["size"]
            case "retrying":
                self.sums["retries"] += 1

    def moved(self, job: str, before: str, stage: str) -> None:
        """See `StageEvents`."""
        now = self._clock()
        self.stages.labels(before).observe(now - self._since.get(job, now))
        self._since[job] = now

    def ended(self, job: str, before: str, outcome: str, data: Mapping[str, Any]) -> None:
        """See `StageEvents`."""
        self.outcomes[outcome] += 1
        self.moved(job, before, outcome)
        del self._since[job]


class DaemonMetrics:
    """Collects the families when it is called. `folder` is the daemon's."""

    def __init__(self, daemon: RunningDaemon, watch: JobWatch, folder: Path) -> None:
        self._daemon, self._watch, self._folder = daemon, watch, folder

    def __call__(self) -> Iterator[Metric]:
        """Every family of a daemon."""
        daemon, watch = self._daemon, self._watch
        yield ff.build("daemon")
        open_ = [entry for entry in daemon.outbox.state.jobs.values() if entry.ended is None]
        by_stage = Counter(entry.stage.stage or WAITING if entry.stage is not None else WAITING for entry in open_)
        now = {stage: by_stage[stage] for stage in (WAITING, *STAGE_NAMES)}
        text = "Jobs that have not ended, by stage; waiting: not begun."
        yield ff.gauges("wakestream_daemon_jobs_open", text, ("stage",), now)
        ended = {outcome: watch.outcomes[outcome] for outcome in sorted(OUTCOME_KINDS)}
        yield ff.counters("wakestream_daemon_jobs_ended_total", "Jobs that ended, by outcome.", ("outcome",), ended)
        yield from ff.observed(watch.stages)
        for name, what, text in _SUMS:
            yield ff.counter(f"wakestream_daemon_{name}_total", text, watch.sums[what])
        yield from watch.link.families("daemon")
        if daemon.webhooks is not None:
            owed = len(daemon.outbox.state.pending)
            yield ff.gauge("wakestream_daemon_webhooks_owed", "Ends of jobs that the webhook has yet to take.", owed)
            results = {result: daemon.webhooks.counted[result] for result in ("delivered", "failed", "given_up")}
            text = "Attempts to tell the webhook, by result; failed ones are tried again."
            yield ff.counters("wakestream_daemon_webhook_attempts_total", text, ("result",), results)
        yield from ff.journal("daemon", daemon.journal)
        yield from ff.disk("daemon", self._folder)


_SUMS = (
    ("sent_bytes", "sent", "Bytes of files that were sent to workers."),
    ("saved_bytes", "saved", "Bytes of files that need not be sent, as the worker had them."),
    ("result_bytes", "result", "Bytes of results that were brought home."),
    ("retries", "retries", "Times that a job or a call was tried again."),
)
