"""The base of a stand-in for an HTTP API with one machine: a real server on loopback, and the faults of any API."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import pytest
from aiohttp import web

from wakestream.adapters.power.config import PowerConfig, Provider
from wakestream.adapters.testing.power_world import CALL_TIMEOUT, Fault, PowerWorld
from wakestream.operators.model.ports import PowerState

ANY_API: frozenset[Fault] = frozenset(
    {"slow", "down", "denied", "busy", "broken", "garbage", "strange", "missing", "lags", "start_denied", "start_busy",
     "start_broken", "start_lost", "start_unknown", "start_ignored", "start_slow", "stop_denied", "stop_busy",
     "stop_broken"}
)  # fmt: skip
"""The faults that every HTTP API can have. Add `no_capacity` and `quota` where `refusals` has them."""

Act = Literal["start", "stop", ""]


@dataclass
class FakeMachine:
    """The machine. `becoming` is the state at the end of a change, `odd` a word that is shown instead of the state."""

    state: PowerState = "stopped"
    becoming: PowerState | None = None
    gpus: int = 1
    address: str = "203.0.113.7"
    odd: str | None = None


class HttpStandIn(PowerWorld):
    """A stand-in on a free port. A subclass has the calls of its API, and says which ones start and stop the machine.

    Attributes:
        make: Makes the provider: the `create` of its module.
        machine_id: The id of the machine. `replace` changes its last character.
        keys: The credentials, by the names of their environment variables.
        refusals: HTTP status and message with which the API refuses a start: `no_capacity`, `quota`, `start_unknown`.
        options: The options of the provider (`--power-option`).
        machine: The machine, as it really is. What the API shows is `state`.
        url: The address of the stand-in.
        asked: Notified after each request.

    Example:
        >>> class AcmeStandIn(HttpStandIn):
        ...     make = staticmethod(acme.create)
        ...     machine_id, keys = "m-1", {"ACME_KEY": "k-0123456789"}
        ...
        ...     def routes(self):
        ...         return [web.get("/machines/{id}", self._describe), web.post("/machines/{id}/{act}", self._act)]
        ...
        ...     def act(self, request, body):
        ...         return request.match_info.get("act", "")
    """

    faults = ANY_API
    make: ClassVar[Callable[..., Provider]]
    machine_id: str
    keys: ClassVar[Mapping[str, str]] = {}
    refusals: ClassVar[Mapping[Fault, tuple[int, str]]] = {"start_unknown": (418, "E7731: no document knows this")}

    def __init__(self) -> None:
        self.machine, self.__shown, self.__since = FakeMachine(), FakeMachine().state, time.time()
        self.skewed, self.no_gpu, self.url = 0.0, False, ""
        self.options: dict[str, str] = {}
        self.asked = asyncio.Condition()
        self.secrets = tuple(self.keys.values())

    # --- for subclasses

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """The calls of this API. Their handlers call `start` and `stop`, and show `state`."""

    @abstractmethod
    def act(self, request: web.Request, body: Any) -> Act:
        """Whether this call starts or stops the machine; `body` is the JSON or the form of the request."""

    @property
    def state(self) -> PowerState:
        """The state that the API shows; `terminated` while the machine is not found."""
        if self.fault == "missing":
            return "terminated"
        return self.__shown if self.fault == "lags" else self.machine.state

    @property
    def changed_at(self) -> float:
        """When the machine came into its state, in UNIX seconds of the provider's clock."""
        return self.__since + self.skewed

    def trusts(self, request: web.Request, body: Any) -> bool:
        """Whether the request has the right credentials: the first one, in the header `Authorization`."""
        return not self.secrets or self.secrets[0] in request.headers.get("Authorization", "")

    def denied(self) -> web.StreamResponse:
        """How the API refuses credentials. It repeats them, as badly made APIs do."""
        return web.json_response({"message": f"wrong credentials: {' '.join(self.secrets)}"}, status=401)

    def refused(self, fault: Fault) -> web.StreamResponse:
        """How the API refuses a start; as `refusals` says."""
        status, message = self.refusals[fault]
        return web.json_response({"message": message}, status=status)

    def throttled(self) -> web.StreamResponse:
        """How the API refuses calls that come too fast."""
        return web.json_response({"message": "slow down"}, status=429, headers={"Retry-After": "1"})

    def start(self) -> None:
        """A start that is accepted."""
        self.starts += 1
        if self.fault != "start_ignored":
            self.__change("starting", None if self.fault == "start_slow" else "running")
            self.machine.gpus = 0 if self.no_gpu else 1

    def stop(self) -> None:
        """A stop that is accepted."""
        self.stops += 1
        if self.machine.state in ("running", "starting"):
            self.__change("stopping", "stopped")

    # --- PowerWorld

    def provider(self, *, machine: str | None = None, timeout: float = CALL_TIMEOUT) -> Provider:
        """See `PowerWorld.provider`."""
        which = machine or self.machine_id
        config = PowerConfig(which, self.options, self.keys.__getitem__, timeout=timeout, base_url=self.url)
        return type(self).make(config)

    async def become(self, state: PowerState) -> None:
        """See `PowerWorld.become`."""
        ends: Mapping[PowerState, PowerState] = {"starting": "running", "stopping": "stopped"}
        self.machine.odd = None
        self.__change(state, ends.get(state))
        self.__shown = state

    async def finish(self) -> None:
        """See `PowerWorld.finish`."""
        if self.machine.becoming is not None:
            await self.become(self.machine.becoming)

    async def move(self) -> None:
        """See `PowerWorld.move`."""
        if not self.addresses:
            pytest.skip("this stand-in has no addresses")
        self.machine.address = "203.0.113.8"

    async def replace(self) -> None:
        """See `PowerWorld.replace`."""
        self.machine_id = self.machine_id[:-1] + ("0" if self.machine_id[-1] != "0" else "1")

    async def skew(self, seconds: float) -> None:
        """See `PowerWorld.skew`."""
        self.skewed = seconds

    def __change(self, state: PowerState, becoming: PowerState | None) -> None:
        self.machine.state, self.machine.becoming, self.__since = state, becoming, time.time()

    # --- the server

    @web.middleware
    async def faulty(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Answer a request as the fault says, or by its handler."""
        try:
            return await self.__respond(request, handler)
        finally:
            async with self.asked:
                self.asked.notify_all()

    async def __respond(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body: Any = await request.json() if request.content_type == "application/json" else dict(await request.post())
        act = self.act(request, body)
        self.calls += act == "start"
        fault: str = self.fault or ""
        of, _, rest = fault.partition("_")
        if of in ("start", "stop"):  # these are faults of one kind of call
            fault = rest if of == act and rest in ("denied", "busy", "broken", "lost", "unknown") else ""
        answer = await self.__general(fault, request)
        if answer is not None:
            return answer
        if fault == "denied" or not self.trusts(request, body):
            return self.denied()
        if act == "start" and fault in ("no_capacity", "quota", "unknown"):
            return self.refused(self.fault or "start_unknown")
        served: web.StreamResponse = await handler(request)
        return web.json_response({"message": "internal error"}, status=500) if fault == "lost" else served

    async def __general(self, fault: str, request: web.Request) -> web.StreamResponse | None:
        match fault:
            case "slow":
                await asyncio.Event().wait()
            case "down" if request.transport is not None:
                request.transport.abort()
                return web.Response()
            case "busy":
                return self.throttled()
            case "broken":
                return web.Response(status=503, text="<h1>Service Unavailable</h1>", content_type="text/html")
            case "garbage":
                return web.Response(text="<html>please log in</html>", content_type="text/html")
            case "strange":
                return web.json_response([{"hello": None}])
        return None


W = TypeVar("W", bound=HttpStandIn)


@asynccontextmanager
async def serving(world: W) -> AsyncIterator[W]:
    """Serve the stand-in; its `url` is set.

    Example:
        >>> async with serving(AcmeStandIn()) as world:
        ...     power = world.provider()
    """
    app = web.Application(middlewares=[world.faulty])
    app.add_routes(world.routes())
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    world.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield world
    finally:
        world.fault = None
        await runner.cleanup()
