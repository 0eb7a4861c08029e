"""The monitor as it is deployed: its memory, its silences and its idle clock, over a WebSocket to any hub.

Its cloud is a `FieldCloud` that the test controls. All times are in `MonitorTimes`, so that a test need not wait.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, fields

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.field.frames import Frame, Frames, dsp

_KNOWN = ("starting", "running", "stopping", "stopped")
_WAKES = ("url", "chatglm_video", "gpu.job.submit", "gpu_task", "gpu.power.boot")


@dataclass(frozen=True)
class MonitorTimes:
    """Seconds, as deployed; `scaled` makes all of them shorter."""

    check: float = 10.0
    first_look: float = 10.0
    look_every: float = 5.0
    start: float = 305.0
    task_query: float = 30.0
    idle: float = 1800.0
    stop: float = 180.0
    ping: float = 25.0
    reconnect: float = 5.0

    def scaled(self, by: float) -> MonitorTimes:
        """All times multiplied."""
        return MonitorTimes(**{field.name: getattr(self, field.name) * by for field in fields(self)})


class FieldCloud:
    """The provider's page. `status` is what a look finds; `start` and `stop` are counted and change it.

    `look_takes`: seconds of a look. `refuses`: a start that does nothing. `fault`: what start and look raise.
    `on_start` and `on_stop` let a test start and end the worker with the machine.
    """

    def __init__(
        self,
        status: str = "stopped",
        *,
        on_start: Callable[[], Awaitable[None]] | None = None,
        on_stop: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.status = status
        self.starts = self.stops = 0
        self.look_takes = 0.0
        self.refuses = False
        self.fault: Exception | None = None
        self.stopped = asyncio.Event()
        self._on_start, self._on_stop = on_start, on_stop

    async def look(self) -> str:
        """What the page says."""
        await asyncio.sleep(self.look_takes)
        if self.fault is not None:
            raise self.fault
        return self.status

    async def start(self) -> None:
        """The click on "start"."""
        self.starts += 1
        if self.fault is not None:
            raise self.fault
        if not self.refuses:
            self.stopped.clear()
            self.status = "running"
            if self._on_start is not None:
                await self._on_start()

    async def stop(self) -> None:
        """The click on "stop"."""
        self.stops += 1
        self.status = "stopped"
        if self._on_stop is not None:
            await self._on_stop()
        self.stopped.set()


class FieldMonitor:
    """The deployed monitor; `published` is the older version (ed8281c), else the one of HEAD.

    `heard` and `said` are its frames. `status` is its memory of the machine.
    """

    def __init__(
        self, hub_url: str, cloud: FieldCloud, *, times: MonitorTimes | None = None, published: bool = False
    ) -> None:
        self.url = dsp(hub_url)
        self.cloud = cloud
        self.times = times or MonitorTimes()
        self.published = published
        self.heard, self.said = Frames(), Frames()
        self.status = "unknown"
        self.used = self._asked = time.monotonic()
        self._socket: ClientConnection | None = None
        self._starting = self._stopping = self._wanted = self._again = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._checks())
                group.create_task(self._connections())
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The connection

    async def _connections(self) -> None:
        while True:
            with suppress(OSError, ConnectionClosed):
                async with connect(self.url, ping_interval=None, compression=None) as socket:
                    self._socket = socket
                    try:
                        await self._say(type="register", role="gpu_monitor")
                        await self._listen(socket)
                    finally:
                        self._socket = None
            await asyncio.sleep(self.times.reconnect)

    async def _listen(self, socket: ClientConnection) -> None:
        async with asyncio.TaskGroup() as group:
            pings = group.create_task(self._ping())
            try:
                async for text in socket:
                    try:
                        frame = json.loads(text)
                    except ValueError:
                        continue
                    if not isinstance(frame, dict) or not await self._hear(frame):
                        await socket.close(1011)
                        break
            finally:
                pings.cancel()

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self.times.ping)
            await self._say(type="ping")

    async def _say(self, **frame: object) -> None:
        """A frame, if it is connected; else it is lost."""
        if self._socket is None:
            return
        with suppress(ConnectionClosed):
            await self._socket.send(json.dumps(frame, ensure_ascii=False))
            await self.said.add(dict(frame))

    async def _hear(self, frame: Frame) -> bool:
        """Whether it can go on with this connection."""
        await self.heard.add(frame)
        kind = frame.get("type")
        if kind in _WAKES:
            self._begin(self._wake(frame))
        elif kind == "gpu.status.query":
            self._begin(self._tell_status(frame.get("request_id")))
        elif kind == "gpu.task.active":
            self.used = time.monotonic()
            self._wanted = self._wanted or self.status != "running"
        elif kind == "gpu.task.query.response" and not self.published:
            count = frame.get("active_count", 0)
            if not isinstance(count, int | float):
                return False
            if count > 0 or frame.get("has_recent_active"):
                self.used = time.monotonic()
        return True

    async def _tell_status(self, request_id: object) -> None:
        """At once from memory, then as the cloud says it now."""
        answer = {"type": "gpu.status.response", "request_id": request_id, "source": "gpu_monitor"}
        await self._say(**answer, status=self.status)
        with suppress(Exception):
            found = await self.cloud.look()
            if found in _KNOWN:
                await self._say(**answer, status=found, fresh=True)

    # Power

    async def _look(self) -> str:
        try:
            found = await self.cloud.look()
        except Exception:
            return "unknown"
        return found if found in _KNOWN else "unknown"

    async def _wake(self, frame: Frame) -> None:
        boot = frame.get("request_id") if frame.get("type") == "gpu.power.boot" else None
        if self._stopping:
            if self.published:
                self._wanted = True
                await self._failed(boot, "failed", "GPU 开机失败")
            return
        self.used = time.monotonic()
        if self._starting:
            return
        if self.status == "running" or await self._look() == "running":
            await self._is_up(boot)
        elif not self._starting:
            await self._start(boot, silent=False)

    async def _is_up(self, boot: object) -> None:
        named = {"request_id": boot} if boot else {}
        kind, status = ("gpu.power.online", "running") if self.published else ("gpu.power.booted", "booted")
        await self._say(type=kind, status=status, msg="GPU 已开机", source="gpu_monitor", **named)

    async def _failed(self, boot: object, status: str, msg: str) -> None:
        if boot:
            await self._say(type="gpu.power.boot.result", request_id=boot, success=False, status=status, msg=msg)

    async def _start(self, boot: object, *, silent: bool) -> None:
        """Start the machine and look until it is up; after a failure the checks try again without end, silently."""
        self._starting, self.status, self._wanted = True, "starting", False
        try:
            await self.cloud.start()
            up = await self._comes_up()
        except Exception as error:
            self._again = True
            await self._failed(boot, "error", f"GPU 开机异常: {error}")
            return
        finally:
            self._starting = False
        self.status = "running" if up else "stopped"
        self._again = not up
        self.used = time.monotonic()
        if not up:
            await self._failed(boot, "failed", "GPU 开机失败")
        elif not silent:
            await self._is_up(boot)

    async def _comes_up(self) -> bool:
        begun = time.monotonic()
        await asyncio.sleep(self.times.first_look)
        while time.monotonic() - begun <= self.times.start:
            found = await self._look()
            if found == "running":
                return True
            if found in ("stopped", "stopping") and not self.published:
                return False
            await asyncio.sleep(self.times.look_every)
        return False

    async def _checks(self) -> None:
        while True:
            if not self._starting and not self._stopping:
                await self._check()
            await asyncio.sleep(self.times.check)

    async def _check(self) -> None:
        before, self.status = self.status, await self._look()
        if self._starting:
            return
        now = time.monotonic()
        if self.status == "running":
            self._wanted = self._again = False
            if before != "running":
                self.used = now
            asked = not self.published and now - self._asked >= self.times.task_query
            if asked:
                self._asked = now
                await self._say(type="gpu.task.query", request_id=f"tq_{int(time.time())}")
            elif now - self.used >= self.times.idle:
                await self._stop()
        elif self._wanted or self._again:
            self._begin(self._start(None, silent=True))

    async def _stop(self) -> None:
        """No frame tells of it."""
        self._stopping, self.status = True, "stopping"
        try:
            with suppress(Exception):
                await self.cloud.stop()
                async with asyncio.timeout(self.times.stop):
                    while await self._look() != "stopped":  # noqa: ASYNC110 - as the deployed one does
                        await asyncio.sleep(self.times.look_every)
        finally:
            self._stopping = False
        self.status = await self._look()


@asynccontextmanager
async def field_monitor(
    hub_url: str, cloud: FieldCloud, *, times: MonitorTimes | None = None, published: bool = False
) -> AsyncIterator[FieldMonitor]:
    """A deployed monitor that has registered, while the block lasts."""
    monitor = FieldMonitor(hub_url, cloud, times=times, published=published)
    running = asyncio.create_task(monitor.run())
    try:
        await monitor.heard.wait("registered")
        yield monitor
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
