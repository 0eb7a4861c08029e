"""The events of jobs for readers: numbered and stored for a while. A slow reader does not delay others."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson
from aiohttp import hdrs, web

from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.runtime.recent import Recent
from wakestream.streams.recording.event_json import OUTCOME_KINDS

KEPT: Final = 5_000
"""Stored events of all jobs."""

KEPT_OF_JOB: Final = 200

FIRST_KEPT: Final = 50
"""So many of these are a job's first ones: they say when its work began."""

ENDED_KEPT: Final = 200
"""Ended jobs whose events are stored; of older ones only the outcome is."""

QUEUED: Final = 1_000
"""Events that wait for one reader. A slower reader is disconnected, and reconnects with its last number."""

STEADY: Final = frozenset({"waking", "uploading", "running", "downloading", "storing", "remote"})
"""Of several such events in a row, with one status, only the first and the newest are stored."""


@dataclass(frozen=True, slots=True)
class Item:
    """One event: its number, its job, its kind and its JSON."""

    number: int
    job: str
    kind: str
    data: bytes
    status: object = None

    def continues(self, before: Item) -> bool:
        """Whether it is in one row with the event before it."""
        return self.kind in STEADY and (self.kind, self.status) == (before.kind, before.status)


class Listener:
    """The events that wait for one reader. `on_cut` is called when it is too slow; `whose`: see `followers`."""

    def __init__(self, on_cut: Callable[[], None], *, whose: str | None = "") -> None:
        self.whose = whose
        self._items: asyncio.Queue[Item | None] = asyncio.Queue()
        self._on_cut = on_cut
        self.ended = False

    def put(self, item: Item) -> None:
        """Add an event; beyond `QUEUED` the reader is disconnected."""
        if not self.ended and self._items.qsize() >= QUEUED:
            self.end()
            self._on_cut()
        if not self.ended:
            self._items.put_nowait(item)

    def end(self) -> None:
        """End the stream; waiting events are dropped."""
        self.ended = True
        while not self._items.empty():
            self._items.get_nowait()
        self._items.put_nowait(None)

    async def next(self) -> Item | None:
        """The next event; None at the end, after which it is not called again."""
        return await self._items.get()


class EventFeed:
    """All events of this run of the program, which `boot` identifies. `on_event(item)` is called after each."""

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.on_event: Callable[[Item], object] = lambda _: None
        self._number = 0
        self._recent: deque[Item] = deque(maxlen=KEPT)
        self._open: dict[str, list[Item]] = {}  # an empty deque has 600 bytes
        self._ended: Recent[str, list[Item]] = Recent(ENDED_KEPT)
        self._listeners: dict[str | None, set[Listener]] = {}

    def followers(self, whose: str = "") -> int:
        """The number of readers of a program, or of the user. Those of None do not count."""
        return sum(listener.whose == whose for listeners in self._listeners.values() for listener in listeners)

    def publish(self, job: str, plain: Mapping[str, Any]) -> None:
        """Publish an event of a job as JSON (`event` is its kind)."""
        self._number += 1
        kind = str(plain["event"])
        # Not by orjson: each of its results keeps 4 KB, as long as it lives, and thousands of jobs wait for days.
        data = msgspec.json.encode({"job": job, **plain})
        item = Item(self._number, job, kind, data, plain.get("status"))
        self._recent.append(item)
        kept = self._open.setdefault(job, [])
        if len(kept) > 1 and item.continues(kept[-1]) and item.continues(kept[-2]):
            kept.pop()
        kept.append(item)
        del kept[FIRST_KEPT : FIRST_KEPT - KEPT_OF_JOB]
        if kind in OUTCOME_KINDS:
            self._ended[job] = self._open.pop(job)
        for listener in [*self._listeners.get(None, ()), *self._listeners.get(job, ())]:
            listener.put(item)
        self.on_event(item)

    def first(self, job: str) -> dict[str, Any] | None:
        """The first event of the row of equal ones that the job's newest event ends; None if it is the only one."""
        row = self._kept(job)[-2:]
        return orjson.loads(row[0].data) if len(row) > 1 and row[1].continues(row[0]) else None

    def last(self, job: str) -> dict[str, Any] | None:
        """The job's newest event."""
        kept = self._kept(job)
        return orjson.loads(kept[-1].data) if kept else None

    def of_job(self, job: str, after: int = 0) -> list[Item]:
        """The stored events of a job after that number."""
        return [item for item in self._kept(job) if item.number > after]

    def recent(self, after: int) -> list[Item] | None:
        """All events after that number; None when some are no longer stored."""
        oldest = self._recent[0].number if self._recent else self._number + 1
        if after + 1 < oldest:
            return None
        return [item for item in self._recent if item.number > after]

    def _kept(self, job: str) -> Sequence[Item]:
        return self._open.get(job) or self._ended.get(job) or ()

    def after(self, last_id: str) -> int | None:
        """The number in a reader's last id; None if it is invalid or of another run."""
        boot, _, number = last_id.rpartition("-")
        return whole_number(number, most=10**18) if boot == self.boot else None

    @contextmanager
    def follow(self, job: str | None, on_cut: Callable[[], None], *, whose: str | None = "") -> Iterator[Listener]:
        """New events of one job or of all, while the block runs."""
        listener = Listener(on_cut, whose=whose)
        listeners = self._listeners.setdefault(job, set())
        listeners.add(listener)
        try:
            yield listener
        finally:
            listeners.discard(listener)
            if not listeners and self._listeners.get(job) is listeners:
                del self._listeners[job]

    def close(self) -> None:
        """End all streams."""
        for listener in [listener for listeners in self._listeners.values() for listener in listeners]:
            listener.end()


# Writes server-sent events to one reader, for the API and for the console's page.

HEARTBEAT: Final = 10.0
"""Seconds without an event after which a comment keeps the connection open."""

_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_BEAT = b":\n\n"


async def stream(
    request: web.Request,
    first: bytes,
    listener: Listener | None,
    text: Callable[[Item], bytes],
    *,
    last: Callable[[Item], bool] = lambda _: False,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer with `first` and then with the events of `listener`, if any, up to the `last` one.

    Args:
        request: The request.
        first: Is sent at once.
        listener: Receives the events that follow.
        text: Formats an event, usually with `event`.
        last: Whether the stream ends with an event.
        headers: More headers of the answer.

    Raises:
        HTTPMethodNotAllowed: It is a HEAD request: what followed its answer would be taken as that of the next one.
    """
    if request.method == hdrs.METH_HEAD:
        raise web.HTTPMethodNotAllowed(request.method, [hdrs.METH_GET])
    response = web.StreamResponse(headers={**(headers or {}), **_HEADERS})
    with contextlib.suppress(ConnectionError):  # the reader has disconnected
        await response.prepare(request)
        await response.write(first)
        while listener is not None:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    item = await listener.next()
            except TimeoutError:
                await response.write(_BEAT)
                continue
            if item is None:
                break
            await response.write(text(item))
            if last(item):
                break
    return response


def event(kind: str, data: bytes) -> bytes:
    """An event."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)


def numbered(boot: str, item: Item) -> bytes:
    """An event with an id, from which a reader continues after a disconnect. `boot` identifies this run."""
    return b"id: %s-%d\n%s" % (boot.encode(), item.number, event(item.kind, item.data))


def cutting(request: web.Request) -> Callable[[], None]:
    """Aborts the connection of a reader that is too slow."""

    def cut() -> None:
        if request.transport is not None:
            request.transport.abort()

    return cut
