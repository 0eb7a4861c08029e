"""Questions to the hub over a link: send a message, wait for its answer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from wakestream.adapters.config.settings import Settings
from wakestream.adapters.net.hub_link import Link, open_link
from wakestream.adapters.net.tls import client_context
from wakestream.operators.model.errors import HubError, HubRefused, HubUnreachable
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.hub.status import FEATURE
from wakestream.streams.protocol import messages as m

T = TypeVar("T")

ANSWER_WITHIN = 15.0
"""Seconds that the hub has to connect, register us and answer."""


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


async def ask_hub(settings: Settings, since: int | None = None) -> m.HubStatus:
    """Connect to the hub, ask for its status and disconnect.

    Args:
        settings: Name the hub and the key.
        since: UNIX seconds; asks for the costs from that day on as well.

    Raises:
        HubUnreachable: no connection, or no answer in time.
        HubRefused: the hub refuses the connection, or is too old for this question.
    """
    register = m.Register(key=settings.needs_key(), device_type="pc", features=(FEATURE,))
    query = m.HubStatusQuery(request_id=f"status-{uuid.uuid4().hex}", since=since)
    link = open_link(settings.needs_hub(), lambda: register, ca=client_context(settings.ca))

    try:
        found = await first(link, lambda event: _status(event, link, query), ANSWER_WITHIN)
    finally:
        await link.close()
    if found is None:
        raise HubUnreachable(f"hub {link.url}: no answer within {ANSWER_WITHIN:g} s; look at its log")
    return found


def _status(event: Any, link: Link, query: m.HubStatusQuery) -> m.HubStatus | None:
    """The answer to the query, which is sent when the link is up; None for any other event."""
    match event:
        case LinkUp(features=features) if FEATURE not in features:
            raise HubRefused("this hub does not report its status; it is older than this program", code="old_hub")
        case LinkUp():
            link.send(query)
        case LinkDown(reason=reason, code=str(code)):
            raise HubRefused(reason, code=code)
        case LinkDown(reason=reason, connecting=False):
            raise HubUnreachable(reason)
        case m.Error(request_id=query.request_id):
            raise HubRefused(event.text, code=event.code)
        case m.HubStatus(request_id=query.request_id):
            return event
    return None
