"""Questions to the hub over a link: send a message, wait for its answer."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from msgspec.structs import replace

from wakestream.adapters.config.settings import Settings
from wakestream.adapters.net.hub_link import Link
from wakestream.adapters.net.tls import client_context
from wakestream.operators.model.errors import HubError, HubRefused, HubUnreachable
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import GPU_URL, HUB_STATUS, STATUS_OF_GPU
from wakestream.streams.protocol.kinds import KINDS
from wakestream.streams.protocol.known_kinds import UNKNOWN, KnownKinds, from_frames

T = TypeVar("T")

Query = m.HubStatusQuery | m.StatusQuery | m.GpuAdmin | d.DepotList | d.DepotRemove
Answer = TypeVar("Answer", m.HubStatus, m.StatusResponse, m.GpuAdminDone, d.DepotListed)

ANSWERS: Mapping[type[Query], type[m.Message]] = {
    m.HubStatusQuery: m.HubStatus, m.StatusQuery: m.StatusResponse, m.GpuAdmin: m.GpuAdminDone,
    d.DepotList: d.DepotListed, d.DepotRemove: d.DepotListed,
}  # fmt: skip
"""The answer to each question."""

ANSWER_WITHIN = 15.0
"""Seconds that the hub has to connect, register us and answer."""

MAX_PARTS = 1000
"""The most messages of one answer; a hub keeps 16 MiB of kinds at most."""

QUESTIONS = (HUB_STATUS, GPU_URL, STATUS_OF_GPU, m.GpuAdmin.FEATURE)
"""What a client announces to ask the hub for its status and to give orders for a GPU."""


@asynccontextmanager
async def _linked(settings: Settings, *features: str) -> AsyncIterator[Link]:
    """A connection to the hub that announces these features, while the block runs."""
    register = m.Register(key=settings.needs_key(), device_type="pc", features=features)
    link = Link(settings.needs_hub(), lambda: register, ca=client_context(settings.ca))
    try:
        yield link
    finally:
        await link.close()


async def first(
    link: Link, answer: Callable[[Any], T | None], within: float, question: m.Message | None = None
) -> T | None:
    """Send a question and wait for the first event of the link for which `answer` returns a value.

    Args:
        link: The connection to the hub.
        answer: Returns None for events that are not the answer. What it raises is raised here.
        within: Seconds to wait.
        question: Sent when this begins to wait; None to send nothing.

    Returns:
        What `answer` returned; None when no such event came in time.
    """
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def look(event: Any) -> None:
        if future.done():
            return
        try:
            value = answer(event)
        except HubError as error:
            future.set_exception(error)
        else:
            if value is not None:
                future.set_result(value)

    subscription = link.events.subscribe(look)
    try:
        if question is not None:
            link.send(question)
        async with asyncio.timeout(within):
            return await future
    except TimeoutError:
        return None
    finally:
        subscription.dispose()


async def ask_kinds(link: Link) -> KnownKinds:
    """Ask the hub what the GPUs can do, over a connection that may still be opening. Raises as `ask`.

    Args:
        link: The connection, on which this peer announces `kinds`.

    Returns:
        The kinds. Of a hub that does not tell its kinds, nothing is known.
    """
    parts: dict[int, m.KindsResponse] = {}

    def take(event: Any) -> KnownKinds | None:
        if isinstance(event, m.KindsResponse) and event.of <= MAX_PARTS:
            parts[event.number] = event
        return from_frames(parts.values()) if isinstance(event, m.KindsResponse) and len(parts) == event.of else None

    try:
        return await _asked(link, m.KindsQuery(request_id=f"kinds-{uuid.uuid4().hex}"), take, ANSWER_WITHIN)
    except HubRefused as error:
        if error.code == "old_hub":
            return UNKNOWN
        raise


async def hub_kinds(settings: Settings) -> KnownKinds:
    """Connect to the hub, ask what the GPUs can do and disconnect. See `ask_kinds`.

    Example:
        >>> kinds = await hub_kinds(settings)
        >>> [each.kind.name for each in kinds.kinds]
        ['lipsync', 'upscale']
    """
    async with _linked(settings, HUB_STATUS, KINDS) as link:
        return await ask_kinds(link)


async def ask_hub(
    settings: Settings, since: int | None = None, *, costs: bool = False, history: tuple[int, int] | None = None
) -> m.HubStatus:
    """Connect to the hub, ask for its status and disconnect.

    Args:
        settings: Name the hub and the key.
        since: UNIX seconds; asks for the costs from that day on as well.
        costs: Asks for the costs by day, job and license, too.
        history: Asks for the arrivals of jobs, too: the first day, and how many jobs of it to leave out.

    Raises:
        HubUnreachable: no connection, or no answer in time.
        HubRefused: the hub refuses the connection, or is too old for this question.
    """
    async with _linked(settings, HUB_STATUS) as link:
        query = m.HubStatusQuery(request_id="", since=since, costs=costs or None, history=history)
        return await ask(link, query, m.HubStatus)


async def order(settings: Settings, order: Query, kind: type[Answer]) -> Answer:
    """Connect to the hub, give an order for a GPU or about the depot, and disconnect. Raises as `ask_hub`."""
    async with _linked(settings, HUB_STATUS, m.GpuAdmin.FEATURE, d.FEATURE) as link:
        return await ask(link, order, kind)


def old_hub(query: Query | m.KindsQuery | None = None) -> HubRefused:
    """The error for a hub that cannot answer this question."""
    if isinstance(query, d.DepotList | d.DepotRemove):
        return HubRefused("this hub has no depot; start one with `wakestream depot run`", code="no_depot")
    what = "takes no orders for a GPU" if isinstance(query, m.GpuAdmin) else "does not report its status"
    return HubRefused(f"this hub {what}; it is older than this program", code="old_hub")


async def ask(link: Link, query: Query, kind: type[Answer], within: float = ANSWER_WITHIN) -> Answer:
    """Ask the hub over a connection that may still be opening.

    Args:
        link: The connection, on which this peer announces `QUESTIONS`.
        query: The question; its id is replaced by a new one.
        kind: The type of its answer.
        within: Seconds to wait.

    Raises:
        HubUnreachable: no connection, or no answer in time.
        HubRefused: the hub refuses the connection or the question, or is too old for it.
    """
    query = replace(query, request_id=f"ask-{uuid.uuid4().hex}")
    return await _asked(link, query, lambda event: event if isinstance(event, kind) else None, within)


async def _asked(link: Link, query: Query | m.KindsQuery, take: Callable[[Any], T | None], within: float) -> T:
    """Send the query when the link is up, and wait for the first answer that `take` turns into a value."""
    of_depot = dict.fromkeys((d.DepotList, d.DepotRemove), d.FEATURE)
    feature = {m.GpuAdmin: m.GpuAdmin.FEATURE, m.KindsQuery: KINDS, **of_depot}.get(type(query), HUB_STATUS)

    def look(event: Any) -> T | None:
        match event:
            case LinkUp(features=features) if feature not in features:
                raise old_hub(query)
            case LinkUp():
                link.send(query)
            case LinkDown(reason=reason, code=str(code)):
                raise HubRefused(reason, code=code)
            case LinkDown(reason=reason, connecting=False):
                raise HubUnreachable(reason)
            case m.Error(request_id=query.request_id):
                raise HubRefused(event.text, code=event.code)
            case _ if getattr(event, "request_id", None) == query.request_id:
                return take(event)
        return None

    if (answer := await first(link, look, within)) is None:
        raise HubUnreachable(f"hub {link.url}: no answer within {within:g} s; look at its log")
    return answer


async def hub_statuses(settings: Settings, every: float) -> AsyncGenerator[m.HubStatus | LinkDown, None]:
    """Ask the hub for its status again and again over one connection, which is opened again when it is lost.

    Args:
        settings: Name the hub and the key.
        every: Seconds between two questions.

    Yields:
        Each answer, and each loss of the connection.

    Raises:
        HubRefused: The hub refuses the connection, or is too old for this question.
    """
    events: asyncio.Queue[Any] = asyncio.Queue()
    loop, due = asyncio.get_running_loop(), math.inf
    async with _linked(settings, HUB_STATUS) as link:
        link.events.subscribe(events.put_nowait)
        while True:
            try:
                async with asyncio.timeout_at(due if due < math.inf else None):
                    event = await events.get()
            except TimeoutError:
                event = None
            match event:
                case LinkUp(features=features) if HUB_STATUS not in features:
                    raise old_hub()
                case LinkDown(reason=reason, code=str(code)):
                    raise HubRefused(reason, code=code)
                case LinkUp() | None:
                    link.send(m.HubStatusQuery(request_id=f"top-{uuid.uuid4().hex}"))
                    due = loop.time() + every
                case LinkDown(connecting=False):
                    due = math.inf
                    yield event
                case m.HubStatus():
                    yield event
