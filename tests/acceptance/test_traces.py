"""`--trace` as its users run it: spans arrive by OTLP at a real server, and the hub gets the trace's id."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.support.programs import plain_server
from tests.support.programs.client_scene import User
from tests.support.programs.our_peers import Joining, Place
from wakestream.streams.jobs.hub_client import trace_of
from wakestream.streams.protocol import messages as m

pytest.importorskip("opentelemetry.sdk", reason="the extra wakestream[otel] is not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@asynccontextmanager
async def collector() -> AsyncIterator[tuple[str, list[Any]]]:
    """An OTLP receiver: its address, and the spans that came."""
    spans: list[Any] = []

    async def hear(request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        spans.extend(span for of in sent.resource_spans for scope in of.scope_spans for span in scope.spans)
        return web.Response(content_type="application/x-protobuf")

    async with plain_server.answering([web.post("/v1/traces", hear)]) as url:
        yield url, spans


async def test_the_spans_of_a_job_arrive_and_the_hub_learns_the_trace(user: User, place: Place) -> None:
    async with collector() as (url, spans), place.hub() as hub, place.worker(Joining()):
        told: list[m.Message] = []
        happen = hub.happen

        def heard(event: Any) -> None:
            told.append(getattr(event, "message", m.Ping()))
            happen(event)

        hub.happen = heard  # type: ignore[method-assign]
        ran = await user.submit("--job-id", "job-1", "--trace", OTEL_EXPORTER_OTLP_ENDPOINT=url)
        assert ran.code == 0, ran.err
    assert {span.trace_id.hex() for span in spans} == {trace_of("job-1")}
    assert {span.name for span in spans} >= {"wakestream.job", "wakestream.upload", "wakestream.render"}
    assert {message.trace_id for message in told if isinstance(message, m.Submit)} == {trace_of("job-1")}


async def test_an_unreachable_collector_does_not_delay_the_job(user: User, place: Place) -> None:
    async with asyncio.timeout(100), place.hub(), place.worker(Joining()):
        ran = await user.submit("--trace", "--log-json", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert ran.code == 0, ran.err
    assert ran.last["event"] == "done"
    assert any(json.loads(line)["stage"] == "opentelemetry" for line in ran.err.splitlines())
