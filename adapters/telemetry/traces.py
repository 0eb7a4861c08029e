"""Traces of jobs for OpenTelemetry: a span for each job, with a child span for each stage. Needs `wakestream[otel]`.

The standard variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME and so on) configure the exporter.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Span, StatusCode, set_span_in_context

from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.runtime.known_secrets import redacted_text
from wakestream.adapters.telemetry.stage_events import FIRST, StageEvents
from wakestream.streams.jobs.hub_client import trace_of

LONGEST: Final = 200
"""Characters of an attribute."""

GOODBYE: Final = 3.0
"""Seconds to send the last spans when the program ends."""

_SAID: Final = {
    "granted": ("branch", "waited", "gpu"), "uploaded": ("sent", "saved"), "submitted": ("cached",),
    "done": ("size",), "failed": ("code", "why"), "timed_out": ("stage", "seconds", "why"),
}  # fmt: skip
"""The fields of an event that become attributes of the spans of the job and its stage."""


class Traces(StageEvents):
    """A tap that makes spans with a tracer of `provider`; it does not close the provider."""

    def __init__(self, provider: TracerProvider) -> None:
        super().__init__()
        self._tracer = provider.get_tracer("wakestream", version("wakestream"))
        self._ids = provider.id_generator
        self._jobs: dict[str, Span] = {}
        self._stages: dict[str, Span] = {}

    def began(self, job: str, data: Mapping[str, Any]) -> None:
        """See `StageEvents`."""
        if job in self._jobs:  # it was interrupted and runs again
            self._interrupted(job)
        if isinstance(self._ids, JobIds):
            self._ids.next = int(trace_of(job), 16)
        about = {"wakestream.job.id": _short(job), "wakestream.task_type": _short(data.get("task_type", ""))}
        self._jobs[job] = self._tracer.start_span("wakestream.job", Context(), attributes=about)
        self._begin(job, FIRST)

    def happened(self, job: str, kind: str, data: Mapping[str, Any]) -> None:
        """See `StageEvents`."""
        said = {f"wakestream.{kind}.{name}": _short(data[name]) for name in _SAID.get(kind, ()) if data.get(name)}
        for span in (self._jobs[job], self._stages[job]):
            span.set_attributes(said)
        if kind == "retrying":
            about = {"attempt": data["attempt"], "delay": data["delay"], "why": _short(data["why"])}
            self._jobs[job].add_event("retrying", about)

    def moved(self, job: str, before: str, stage: str) -> None:
        """See `StageEvents`."""
        self._stages.pop(job).end()
        self._begin(job, stage)

    def ended(self, job: str, before: str, outcome: str, data: Mapping[str, Any]) -> None:
        """See `StageEvents`."""
        failed = outcome in ("failed", "timed_out")
        for span in (self._stages.pop(job), self._jobs.pop(job)):
            span.set_attribute("wakestream.outcome", outcome)
            if failed:
                span.set_status(StatusCode.ERROR, str(_short(data.get("why", ""))))
            span.end()

    def let_go(self) -> None:
        """End the spans of unfinished jobs. After a restart these jobs continue in the same trace."""
        for job in tuple(self._jobs):
            self._interrupted(job)

    def _interrupted(self, job: str) -> None:
        for span in (self._stages.pop(job), self._jobs.pop(job)):
            span.set_attribute("wakestream.outcome", "interrupted")
            span.end()

    def _begin(self, job: str, stage: str) -> None:
        self._stages[job] = self._tracer.start_span(f"wakestream.{stage}", set_span_in_context(self._jobs[job]))


def _short(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else redacted_text(str(value))[:LONGEST]


class JobIds(RandomIdGenerator):
    """Random ids; `next` sets the id of the next trace."""

    next: int | None = None

    def generate_trace_id(self) -> int:
        """See `IdGenerator`."""
        trace_id, self.next = self.next, None
        return trace_id or super().generate_trace_id()


def provider_for(exporter: SpanExporter | None, *, at_once: bool = False) -> TracerProvider:
    """A provider that sends spans to `exporter`, if any, in batches or `at_once`."""
    is_named = os.environ.get("OTEL_SERVICE_NAME") or SERVICE_NAME in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = {} if is_named else {SERVICE_NAME: "wakestream"}
    provider = TracerProvider(resource=Resource.create(named), id_generator=JobIds(), shutdown_on_exit=False)
    if exporter is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter))
    return provider


@asynccontextmanager
async def tracing() -> AsyncIterator[Traces]:
    """Traces until the block ends; then it sends the last spans. Raises `SettingsError` for an unknown exporter."""
    provider = provider_for(_exporter())
    traces = Traces(provider)
    try:
        yield traces
    finally:
        traces.let_go()
        # Send the last spans within `GOODBYE` seconds, in a daemon thread: it may hang with the collector.
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(sent.set)

        threading.Thread(target=close, name="traces", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await sent.wait()


def _exporter() -> SpanExporter | None:
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if wanted == "none":
        return None
    if wanted == "console":
        return ConsoleSpanExporter(out=sys.stderr)
    if wanted != "otlp":
        raise SettingsError(f"OTEL_TRACES_EXPORTER is {wanted[:40]!r}; write otlp, console or none")
    return OTLPSpanExporter()
