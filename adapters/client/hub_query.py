"""Questions to the hub over a link: send a message, wait for its answer."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from msgspec.structs import replace

from wakestream.adapters.config.settings import Settings
from wakestream.adapters.net.hub_link import Link, open_link
from wakestream.adapters.net.tls import client_context
from wakestream.operators.model.errors import HubError, HubRefused, HubUnreachable
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.hub.status import FEATURE
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.kinds import KINDS
from wakestream.streams.protocol.known_kinds import UNKNOWN, KnownKinds, from_frames

T = TypeVar("T")

Query = m.HubStatusQuery | m.StatusQuery | m.GpuAdmin
Answer = TypeVar("Answer", m.HubStatus, m.StatusResponse, m.GpuAdminDone)

ANSWER_WITHIN = 15.0
"""Seconds that the hub has to connect, register us and answer."""


MAX_PARTS = 1000
"""The most messages of one answer; a hub keeps 16 MiB of kinds at most."""


@asynccontextmanager
async def _linked(settings: Settings, *features: str) -> AsyncIterator[Link]:
    """A connection to the hub that announces these features, while the block runs."""
    register = m.Register(key=settings.needs_key(), device_type="pc", features=features)
    link = open_link(settings.needs_hub(), lambda: register, ca=client_context(settings.ca))
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
    found: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def look(event: Any) -> None:
        if found.done():
            return
        try:
            value = answer(event)
        except HubError as error:
            found.set_exception(error)
        else:
            if value is not None:
                found.set_result(value)

    subscription = link.events.subscribe(look)
    try:
        if question is not None:
            link.send(question)
        async with asyncio.timeout(within):
            return await found
    except TimeoutError:
        return None
    finally:
        subscription.dispose()


async def ask_kinds(link: Link, within: float = ANSWER_WITHIN) -> KnownKinds | None:
    """Ask the hub of an open connection what the GPUs can do.

    Args:
        link: The connection; the hub has announced `kinds`, as has this peer.
        within: Seconds to wait.

    Returns:
        The kinds; None when no answer came in time.

    Raises:
        HubRefused: The hub refuses the question.
        HubUnreachable: The connection broke.
    """
    query = m.KindsQuery(request_id=f"kinds-{uuid.uuid4().hex}")
    parts: dict[int, m.KindsResponse] = {}
    return await first(link, lambda event: _kinds(event, query, parts), within, query)


def _kinds(event: Any, query: m.KindsQuery, parts: dict[int, m.KindsResponse]) -> KnownKinds | None:
    """The answer to the query when its last part has come; None for any other event."""
    match event:
        case LinkDown(reason=reason):
            raise HubUnreachable(reason)
        case m.Error(request_id=query.request_id):
            raise HubRefused(event.text, code=event.code)
        case m.KindsResponse(request_id=query.request_id) if event.of <= MAX_PARTS:
            parts[event.number] = event
            return from_frames(parts.values()) if len(parts) == event.of else None
    return None


async def hub_kinds(settings: Settings) -> KnownKinds:
    """Connect to the hub, ask what the GPUs can do and disconnect.

    Args:
        settings: Name the hub and the key.

    Returns:
        The kinds. Of a hub that does not tell its kinds, nothing is known.

    Raises:
        HubUnreachable: no connection, or no answer in time.
        HubRefused: the hub refuses the connection.

    Example:
        >>> kinds = await hub_kinds(settings)
        >>> [each.kind.name for each in kinds.kinds]
        ['lipsync', 'upscale']
    """
    async with _linked(settings, FEATURE, KINDS) as link:
        up = await first(link, _up, ANSWER_WITHIN)
        if up is not None and KINDS not in up.features:
            return UNKNOWN
        found = await ask_kinds(link) if up is not None else None
    if found is None:
        raise HubUnreachable(f"hub {link.url}: no answer within {ANSWER_WITHIN:g} s; look at its log")
    return found


def _up(event: Any) -> LinkUp | None:
    """The first connection; None for any other event."""
    match event:
        case LinkUp():
            return event
        case LinkDown(reason=reason, code=str(code)):
            raise HubRefused(reason, code=code)
        case LinkDown(reason=reason, connecting=False):
            raise HubUnreachable(reason)
    return None


async def ask_hub(settings: Settings, since: int | None = None, *, costs: bool = False) -> m.HubStatus:
    """Connect to the hub, ask for its status and disconnect.

    Args:
        settings: Name the hub and the key.
        since: UNIX seconds; asks for the costs from that day on as well.
        costs: Asks for the costs by day, job and license, too.

    Raises:
        HubUnreachable: no connection, or no answer in time.
        HubRefused: the hub refuses the connection, or is too old for this question.
    """
    async with _linked(settings, FEATURE) as link:
        return await ask(link, m.HubStatusQuery(request_id="", since=since, costs=costs or None), m.HubStatus)


async def order_gpu(settings: Settings, order: m.GpuAdmin) -> m.GpuAdminDone:
    """Connect to the hub, give an order for a GPU and disconnect. Raises as `ask_hub`."""
    async with _linked(settings, FEATURE, m.GpuAdmin.FEATURE) as link:
        return await ask(link, order, m.GpuAdminDone)


def feature_of(query: Query | None) -> str:
    """The feature of the hubs that read this question or order."""
    return m.GpuAdmin.FEATURE if isinstance(query, m.GpuAdmin) else FEATURE


def old_hub(query: Query | None = None) -> HubRefused:
    """The error for a hub that cannot answer this question."""
    what = "takes no orders for a GPU" if isinstance(query, m.GpuAdmin) else "does not report its status"
    return HubRefused(f"this hub {what}; it is older than this program", code="old_hub")


async def ask(link: Link, query: Query, kind: type[Answer], within: float = ANSWER_WITHIN) -> Answer:
    """Ask the hub over a connection that may still be opening.

    Args:
        link: The connection. If it is open, the hub has announced `hub_status`.
        query: The question; its id is replaced by a new one.
        kind: The type of its answer.
        within: Seconds to wait.

    Raises:
        HubUnreachable: no connection, or no answer in time.
        HubRefused: the hub refuses the connection or the question, or is too old for it.
    """
    query = replace(query, request_id=f"ask-{uuid.uuid4().hex}")
    found = await first(link, lambda event: _answer(event, link, query, kind), within, query if link.up else None)
    if found is None:
        raise HubUnreachable(f"hub {link.url}: no answer within {within:g} s; look at its log")
    return found


def _answer(event: Any, link: Link, query: Query, kind: type[Answer]) -> Answer | None:
    """The answer to the query, which is sent when the link is up; None for any other event."""
    match event:
        case LinkUp(features=features) if feature_of(query) not in features:
            raise old_hub(query)
        case LinkUp():
            link.send(query)
        case LinkDown(reason=reason, code=str(code)):
            raise HubRefused(reason, code=code)
        case LinkDown(reason=reason, connecting=False):
            raise HubUnreachable(reason)
        case m.Error(request_id=query.request_id):
            raise HubRefused(event.text, code=event.code)
        case kind(request_id=query.request_id):
            return event
    return None


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
    async with _linked(settings, FEATURE) as link:
        link.events.subscribe(events.put_nowait)
        while True:
            try:
                async with asyncio.timeout_at(due if due < math.inf else None):
                    event = await events.get()
            except TimeoutError:
                event = None
            match event:
                case LinkUp(features=features) if FEATURE not in features:
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
