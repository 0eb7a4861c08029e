"""The server of `--metrics`: `GET /metrics` for Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from aiohttp import hdrs, web
from loguru import logger
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from wakestream.adapters.config import addresses
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.net.http_server import listening
from wakestream.adapters.net.silent_callers import SilentCallers

PATH = "/metrics"
_CALLERS = 32
"""Connections at a time, where others can reach the address; without authorization here, the oldest ones make room."""

Collect = Callable[[], Iterable[Metric]]


class _Scrape(Collector):
    """Collects the program's metrics at each scrape."""

    def __init__(self, families: Collect) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()


@asynccontextmanager
async def metrics_listener(address: tuple[str, int], collect: Collect) -> AsyncIterator[str]:
    """Serve the metrics of `collect` at `address` until the block ends; yields the URL.

    Raises `OSError` when the address is in use. Each listener has its own registry: programs may share a process.
    """
    host, port = address
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(collect))
    ProcessCollector(registry=registry)

    async def answer(request: web.Request) -> web.Response:
        encode, kind = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=encode(registry), headers={hdrs.CONTENT_TYPE: kind})

    local = addresses.is_loopback(host)
    silent = None if local else SilentCallers(room=Room(0, _CALLERS), per_address=_CALLERS)
    app = web.Application(client_max_size=0)
    app.router.add_get(PATH, answer)
    async with listening(app, "metrics", silent, host, port) as taken:
        url = f"http://{addresses.at_port(host, taken)}{PATH}"
        logger.bind(stage="metrics").info("metrics at {}", url)
        yield url
