"""Spans of jobs and their stages, kept in memory."""

from __future__ import annotations

import sys
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra wakestream[otel] is not installed")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from wakestream.adapters.client.client import open_client
from wakestream.adapters.config.settings import Secret, Settings, SettingsError
from wakestream.adapters.telemetry import traces as tr
from wakestream.adapters.testing.fakes import FakeWorker, FakeWorkers
from wakestream.adapters.testing.harness import GPU, PipelineHarness, asleep, sample_job
from wakestream.operators import TaskReport
from wakestream.streams import job_pipeline
from wakestream.streams.jobs.hub_client import trace_of


class Spans:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = tr.provider_for(self.exporter, at_once=True)
        self.traces = tr.Traces(self.provider)

    def feed(self, rehearsal: PipelineHarness) -> Spans:
        for row in rehearsal.log.rows:
            self.traces.row(row.dir, row.label, row.data, row.job)
        return self

    @property
    def all(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.all if span.name == f"wakestream.{name}"]
        return found


def said(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix("wakestream."): value for name, value in (span.attributes or {}).items()}


@pytest.mark.virtual
async def test_a_job_is_one_trace_with_a_span_for_each_stage() -> None:
    rehearsal = PipelineHarness(asleep)
    rehearsal.at(60, rehearsal.wake)
    await rehearsal.run()
    spans = Spans().feed(rehearsal)
    assert [span.name for span in spans.all] == [
        f"wakestream.{name}" for name in ("wake", "check", "upload", "render", "download", "job")
    ]
    job = spans.named("job")
    assert job.parent is None
    assert job.context is not None
    assert f"{job.context.trace_id:032x}" == trace_of("job-1")
    for span in spans.all[:-1]:
        assert span.parent is not None
        assert span.context is not None
        assert (span.parent.span_id, span.context.trace_id) == (job.context.span_id, job.context.trace_id)
    told = said(job)
    assert (told["job.id"], told["outcome"], told["granted.branch"]) == ("job-1", "done", "offline")
    assert said(spans.named("upload"))["uploaded.sent"] > 0
    assert job.status.is_ok or job.status.is_unset


@pytest.mark.virtual
async def test_a_failure_marks_its_stage_and_the_job() -> None:
    worker = FakeWorker(reports=[TaskReport("error", 0.0, error="no face " + "x" * 1000)])
    rehearsal = PipelineHarness(workers=FakeWorkers({GPU: worker}, GPU))
    await rehearsal.run()
    spans = Spans().feed(rehearsal)
    for name in ("render", "job"):
        span = spans.named(name)
        assert not span.status.is_ok
        assert not span.status.is_unset
        assert said(span)["failed.code"] == "task_failed"
        assert all(len(str(value)) <= tr.LONGEST for value in said(span).values())
    assert spans.named("upload").status.is_unset


@pytest.mark.virtual
async def test_jobs_side_by_side_do_not_mix() -> None:
    rehearsal = PipelineHarness()
    await rehearsal.run(job_pipeline, sample_job("job-1"), sample_job("job-2"))
    spans = Spans().feed(rehearsal)
    by_trace = {span.context.trace_id for span in spans.all if span.context is not None}
    assert {f"{trace:032x}" for trace in by_trace} == {trace_of("job-1"), trace_of("job-2")}
    assert len(spans.all) == 12


def test_an_interrupted_job_and_its_next_run_share_a_trace() -> None:
    spans = Spans()
    spans.traces.row("in", "job.accept", {"task_type": "x"}, "job-1")
    spans.traces.row("out", "retrying", {"event": "retrying", "attempt": 1, "delay": 2.0, "why": "down"}, "job-1")
    spans.traces.let_go()
    spans.traces.row("in", "job.accept", {"task_type": "x"}, "job-1")
    spans.traces.row("in", "job.accept", {"task_type": "x"}, "job-1")
    assert [said(span)["outcome"] for span in spans.all] == ["interrupted"] * 4
    assert len({span.context.trace_id for span in spans.all if span.context is not None}) == 1
    (retry,) = spans.all[1].events
    assert (retry.name, dict(retry.attributes or {})) == ("retrying", {"attempt": 1, "delay": 2.0, "why": "down"})


def test_a_job_that_never_began_has_no_span() -> None:
    spans = Spans()
    spans.traces.row("out", "done", {"event": "done"}, "ghost")
    assert spans.all == ()


@pytest.mark.parametrize(("given", "kind"), [("none", "NoneType"), ("console", "ConsoleSpanExporter")])
def test_the_standard_variable_chooses_where_spans_go(given: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", given)
    assert type(tr._exporter()).__name__ == kind


def test_an_unknown_exporter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(SettingsError, match="write otlp, console or none"):
        tr._exporter()


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "wakestream"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs"}, "theirs"),
    ],
)
def test_the_service_has_the_users_name(variables: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert tr.provider_for(None).resource.attributes["service.name"] == name


async def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wakestream.adapters.telemetry.traces", None)
    asked = Settings(hub_url="ws://127.0.0.1:9/dsp", key=Secret("any-key-0123456789"), trace=True)
    with pytest.raises(SettingsError, match=r'pip install "wakestream\[otel\]"'):
        async with open_client(asked):
            raise AssertionError("it must not get here")
