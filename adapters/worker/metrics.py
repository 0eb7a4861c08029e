"""The metrics of a worker: its queue, its engine, its disk."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from wakestream.adapters.telemetry import metric_families as ff
from wakestream.adapters.telemetry.link_metrics import LinkWatch
from wakestream.adapters.worker.file_store import FileStore
from wakestream.adapters.worker.program import RunningWorker
from wakestream.streams.worker import state as w

OUTCOMES = ("done", "failed", "cancelled")


class WorkerMetrics:
    """A callable that returns the families; a worker without a hub has no `link`."""

    def __init__(self, worker: RunningWorker, link: LinkWatch | None = None) -> None:
        self._worker, self._link = worker, link
        text = "From the engine's start with a task to its end, by outcome."
        self._renders = ff.histogram("wakestream_worker_render_seconds", text, ("outcome",))
        for outcome in OUTCOMES:
            self._renders.labels(outcome)
        self._started: dict[str, float] = {}
        worker.queue.facts.subscribe(self._hear)

    def _hear(self, fact: w.Fact) -> None:
        if not isinstance(fact, w.Changed):
            return
        task = fact.task
        if task.status == "running" and task.started_at is not None:
            self._started.setdefault(task.id, task.started_at)
        elif (began := self._started.pop(task.id, None)) is not None and task.finished_at is not None:
            self._renders.labels(task.status).observe(max(0.0, task.finished_at - began))

    def __call__(self) -> Iterator[Metric]:
        """All families of a worker, or of a depot."""
        worker, store = self._worker, self._worker.store
        program = "worker" if store.most is None else "depot"
        yield ff.build(program)
        yield from self._of_tasks() if store.most is None else _of_files(store)
        yield ff.refusals(program, worker.server.refused)
        if self._link is not None:
            yield from self._link.families(program)
        yield from ff.journal(program, worker.journal)
        yield from ff.disk(program, store.root)

    def _of_tasks(self) -> Iterator[Metric]:
        worker, state = self._worker, self._worker.queue.state
        ready = worker.server.calls.readiness.initialized
        yield ff.gauge("wakestream_worker_initialized", "1 when the engine can work.", ready)
        yield ff.gauge("wakestream_worker_queue_length", "Tasks that wait for the engine.", len(state.line))
        yield ff.gauge("wakestream_worker_rendering", "Tasks that the engine has.", len(state.busy))
        yield from ff.observed(self._renders)
        moved = worker.server.calls.transfers.moved
        text = "Bytes of files from the depot (`fetched`), and of results that went there (`delivered`)."
        bytes_moved = {how: float(moved[how]) for how in ("fetched", "delivered")}
        yield ff.counters("wakestream_worker_depot_bytes_total", text, ["direction"], bytes_moved)


def _of_files(store: FileStore) -> Iterator[Metric]:
    yield ff.gauge("wakestream_depot_room_bytes", "Bytes that the depot still takes.", store.free())
    yield ff.gauge("wakestream_depot_size_bytes", "Bytes that it takes in all.", store.size())
