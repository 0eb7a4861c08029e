"""Asks the hub once how its GPUs are."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from wakestream.adapters.config.settings import Settings
from wakestream.adapters.net.hub_link import Link, open_link
from wakestream.adapters.net.tls import client_context
from wakestream.operators.model.errors import HubRefused, HubUnreachable
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.hub.status import FEATURE
from wakestream.streams.protocol import messages as m

ANSWER_WITHIN = 15.0
"""Seconds that the hub has to connect, register us and answer."""


async def ask_hub(settings: Settings, since: int | None = None) -> m.HubStatus:
    """The hub's answer; `since` (UNIX seconds) asks for the costs from that day on as well.

    `HubUnreachable` when there is none in time, `HubRefused` when the hub turns us away or knows no such question.
    """
    register = m.Register(key=settings.needs_key(), device_type="pc", features=(FEATURE,))
    query = m.HubStatusQuery(request_id=f"status-{uuid.uuid4().hex}", since=since)
    link = open_link(settings.needs_hub(), lambda: register, ca=client_context(settings.ca))
    answer: asyncio.Future[m.HubStatus] = asyncio.get_running_loop().create_future()
    subscription = link.events.subscribe(_Asking(link, query, answer).hear)
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            return await answer
    except TimeoutError:
        raise HubUnreachable(f"hub {link.url}: no answer within {ANSWER_WITHIN:g} s; look at its log") from None
    finally:
        subscription.dispose()
        await link.close()


class _Asking:
    """One question, until it is answered."""

    def __init__(self, link: Link, query: m.HubStatusQuery, answer: asyncio.Future[m.HubStatus]) -> None:
        self._link, self._query, self._answer = link, query, answer

    def hear(self, event: Any) -> None:
        """What the link says."""
        if self._answer.done():
            return
        match event:
            case LinkUp(features=features) if FEATURE not in features:
                self._fail(
                    HubRefused("this hub does not tell its state; it is older than this program", code="old_hub")
                )
            case LinkUp():
                self._link.send(self._query)
            case LinkDown(reason=why, code=str(code)):
                self._fail(HubRefused(why, code=code))
            case LinkDown(reason=why, connecting=False):
                self._fail(HubUnreachable(why))
            case m.HubStatus(request_id=self._query.request_id):
                self._answer.set_result(event)
            case m.Error(request_id=self._query.request_id):
                self._fail(HubRefused(event.text, code=event.code))

    def _fail(self, error: Exception) -> None:
        self._answer.set_exception(error)
