"""What the stand-ins of HTTP power providers share: one machine behind a real socket, and faults of any API."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from aiohttp import web

from tests.support.programs import plain_server
from wakestream.adapters.power.config import PowerConfig, Provider
from wakestream.adapters.testing.power_suite import CALL_TIMEOUT, Fault, PowerWorld
from wakestream.operators.model.ports import PowerState

ANY_API: frozenset[Fault] = frozenset(
    {"slow", "down", "denied", "busy", "broken", "garbage", "strange", "start_busy", "start_broken", "start_lost",
     "start_unknown", "start_ignored", "start_slow", "no_capacity", "quota"}
)  # fmt: skip

NOW = 1_790_000_000.0
"""The stand-ins' clock, in UNIX seconds, when it is right."""


@dataclass
class FakeMachine:
    """The machine. `becoming` is the state at the end of the change that goes on."""

    state: PowerState = "stopped"
    becoming: PowerState | None = None
    gpus: int = 1
    address: str = "203.0.113.7"
    odd: str | None = None


class ApiWorld(PowerWorld):
    """A stand-in on a free port. Subclasses add the routes, and say how their API refuses."""

    faults = ANY_API
    addresses = True
    make: ClassVar[Callable[[PowerConfig], Provider]]
    machine_id: ClassVar[str]
    keys: ClassVar[dict[str, str]]
    name = "studio gpu"

    def __init__(self) -> None:
        self.machine = FakeMachine()
        self.skewed = 0.0
        self.gone = False
        self.no_gpu = False
        self.url = ""
        self.options: dict[str, str] = {}
        self.secrets = tuple(self.keys.values())
        self.starts = self.calls = self.stops = 0
        self.fault: Fault | None = None
        self.requests = 0
        self.asked = asyncio.Condition()

    def provider(self, *, machine: str | None = None, timeout: float = CALL_TIMEOUT) -> Provider:
        return type(self).make(
            PowerConfig(
                machine or self.machine_id, self.options, self.keys.__getitem__, timeout=timeout, base_url=self.url
            )
        )

    async def become(self, state: PowerState) -> None:
        self.machine.state, self.machine.becoming, self.machine.odd = state, None, None
        self.machine.becoming = {"starting": "running", "stopping": "stopped"}.get(state)  # type: ignore[assignment]

    async def finish(self) -> None:
        if self.machine.becoming is not None:
            self.machine.state, self.machine.becoming = self.machine.becoming, None

    async def move(self) -> None:
        self.machine.address = "203.0.113.8"

    async def skew(self, seconds: float) -> None:
        self.skewed = seconds

    # --- for subclasses

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """The calls of this API."""

    @abstractmethod
    def denied(self) -> web.Response:
        """How it refuses credentials; it repeats them, as badly made APIs do."""

    @abstractmethod
    def refused(self, fault: Fault) -> web.Response:
        """How it refuses a start: `no_capacity`, `quota` or `start_unknown`."""

    @abstractmethod
    def is_start(self, request: web.Request, body: Any) -> bool:
        """Whether this is the call that starts."""

    def throttled(self) -> web.Response:
        """How it refuses calls that come too fast."""
        return web.json_response({"message": "slow down"}, status=429, headers={"Retry-After": "1"})

    def trusts(self, request: web.Request, body: Any) -> bool:
        """Whether the request has the right credentials."""
        raise NotImplementedError

    def start(self) -> None:
        """A start that is accepted."""
        self.starts += 1
        if self.fault != "start_ignored":
            self.machine.state = "starting"
            self.machine.becoming = None if self.fault == "start_slow" else "running"
            self.machine.gpus = 0 if self.no_gpu else 1

    def stop(self) -> None:
        """A stop that is accepted."""
        self.stops += 1
        if self.machine.state in ("running", "starting"):
            self.machine.state, self.machine.becoming = "stopping", "stopped"


@web.middleware
async def _faulty(request: web.Request, handler: Any) -> web.StreamResponse:
    world: ApiWorld = request.app[_WORLD]
    async with world.asked:
        world.requests += 1
        world.asked.notify_all()
    body = await _body(request)
    start = world.is_start(request, body)
    world.calls += start
    answer = await _general(world, request)
    if answer is not None:
        return answer
    if not world.trusts(request, body) or world.fault == "denied":
        return world.denied()
    if start and (refusal := _start_refused(world)) is not None:
        return refusal
    return await handler(request)  # type: ignore[no-any-return]


async def _body(request: web.Request) -> Any:
    if request.content_type == "application/json" and request.can_read_body:
        return await request.json()
    return dict(await request.post())


async def _general(world: ApiWorld, request: web.Request) -> web.Response | None:
    if world.fault == "slow":
        await asyncio.Event().wait()
    if world.fault == "down":
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
    answers = {
        "busy": world.throttled,
        "broken": lambda: web.Response(status=503, text="<h1>Service Unavailable</h1>", content_type="text/html"),
        "strange": lambda: web.json_response([{"hello": None}]),
        "garbage": lambda: web.Response(text="<html>please log in</html>", content_type="text/html"),
    }
    make = answers.get(world.fault or "")
    return make() if make is not None else None


def _start_refused(world: ApiWorld) -> web.Response | None:
    if world.fault == "start_busy":
        return world.throttled()
    if world.fault == "start_lost":
        world.start()
    if world.fault in ("start_broken", "start_lost"):
        return web.json_response({"message": "internal error"}, status=500)
    if world.fault in ("no_capacity", "quota", "start_unknown"):
        return world.refused(world.fault)
    return None


_WORLD = web.AppKey("world", ApiWorld)

W = TypeVar("W", bound=ApiWorld)


@asynccontextmanager
async def serving(world: W) -> AsyncIterator[W]:
    """Serve the stand-in."""
    app = web.Application(middlewares=[_faulty])
    app[_WORLD] = world
    app.add_routes(world.routes())
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    async with plain_server.serving(runner) as port:
        world.url = f"http://127.0.0.1:{port}"
        try:
            yield world
        finally:
            world.fault = None
