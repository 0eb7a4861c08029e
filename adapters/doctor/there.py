"""What the hub and the monitor say for themselves, asked as a client asks them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import aiohttp

from wakestream.adapters.doctor.findings import Finding, fault, ok, skipped, warning
from wakestream.adapters.websocket.link import Link
from wakestream.operators.ports import LinkDown, LinkUp
from wakestream.streams import messages as m

T = TypeVar("T")

HUB_WITHIN = 15.0
"""Seconds that the hub has to connect and register us."""

ANSWER_WITHIN = 12.0
"""Seconds that hub and monitor have to answer a question."""

SKEW = 5.0
"""Seconds that two clocks may differ before it is said, a minute before it is a fault."""


async def first(link: Link, wanted: Callable[[Any], T | None], within: float) -> T | None:
    """The first event of the link that `wanted` makes something of, or None when none comes in time."""
    found: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def look(event: Any) -> None:
        value = wanted(event)
        if value is not None and not found.done():
            found.set_result(value)

    subscription = link.events.subscribe(look)
    try:
        async with asyncio.timeout(within):
            return await found
    except TimeoutError:
        return None
    finally:
        subscription.dispose()


async def hub_connects(link: Link) -> AsyncIterator[Finding]:
    """Whether the hub is there and lets us in."""
    met: LinkUp | LinkDown | None = await first(link, _settled, HUB_WITHIN)
    if isinstance(met, LinkUp):
        known = ", ".join(sorted(met.features)) or "nothing beyond the field's protocol"
        yield ok("hub", f"{link.url} answers and knows the license ({known})")
    elif met is None:
        yield fault("hub", f"{link.url}: no answer within {HUB_WITHIN:g} s", "is this the right address and port?")
    elif met.code in ("unauthorized", "forbidden", "kicked"):
        yield fault("license", met.why, "put a key into .license that this hub issued for a client")
    else:
        yield fault("hub", met.why, "is the hub running, is the address right, does a firewall or proxy stand between?")


def _settled(event: Any) -> LinkUp | LinkDown | None:
    if isinstance(event, LinkDown) and event.connecting:
        return None
    return event if isinstance(event, LinkUp | LinkDown) else None


async def clocks_agree(address: str, ssl: Any = None) -> AsyncIterator[Finding]:
    """The time in the hub's HTTP answer beside ours. `address` is its http(s) URL."""
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            options = {} if ssl is None else {"ssl": ssl}
            async with session.get(address, allow_redirects=False, **options) as response:
                said = response.headers.get("Date")
        skew = time.time() - parsedate_to_datetime(said).timestamp() if said else None
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
        skew = None
    if skew is None:
        yield skipped("clock", "the hub does not say what time it has")
    elif abs(skew) <= SKEW:
        yield ok("clock", "this clock and the hub's agree")
    else:
        which = "ahead of" if skew > 0 else "behind"
        level = fault if abs(skew) > 60 else warning
        yield level("clock", f"this clock is {abs(skew):.0f} s {which} the hub's", "let both set their clock by NTP")


async def monitor_answers(link: Link) -> AsyncIterator[Finding]:
    """Whether somebody is there who can switch the GPU on, and how it is."""
    request = _id()

    def mine(event: Any) -> m.StatusResponse | None:
        return event if isinstance(event, m.StatusResponse) and event.request_id == request else None

    asked = asyncio.create_task(first(link, mine, ANSWER_WITHIN))
    await asyncio.sleep(0)
    link.send(m.StatusQuery(request_id=request))
    answer = await asked
    if answer is None:
        yield warning("monitor", f"no answer about the GPU within {ANSWER_WITHIN:g} s", "look at the hub's log")
    elif answer.source != "gpu_monitor":
        todo = "start `wakestream monitor`, or look at its log: wrong key, wrong hub address?"
        yield fault("monitor", "no monitor is connected to the hub, so nobody can start the GPU", todo)
    else:
        yield ok("monitor", f"the monitor answers: the GPU is {answer.status}")


@dataclass(slots=True)
class Told:
    """What the hub let fall on the way: where the worker is."""

    url: str | None = None


async def wake(link: Link, within: float, told: Told) -> AsyncIterator[Finding]:
    """A real wake, without a job: the GPU goes to sleep again by itself when it is idle."""
    request, began = _id(), time.monotonic()

    def ended(event: Any) -> m.Online | m.BootResult | m.Error | None:
        if isinstance(event, m.Online):
            return event
        mine = isinstance(event, m.BootResult | m.Error) and event.request_id == request
        return event if mine and not getattr(event, "success", False) else None

    asked = asyncio.create_task(first(link, ended, within))
    await asyncio.sleep(0)
    link.send(m.Boot(request_id=request, source="doctor", msg="wakestream doctor --wake"))
    answer = await asked
    took = time.monotonic() - began
    match answer:
        case m.Online():
            told.url = answer.url
            yield ok("wake", f"the GPU came online after {took:.0f} s; it goes to sleep again when it is idle")
        case m.BootResult():
            yield fault("wake", f"the GPU did not start: {answer.msg or answer.status}", "look at the monitor's log")
        case m.Error():
            yield fault("wake", f"the hub says: {answer.text}", "start `wakestream monitor`, then try again")
        case None:
            yield fault("wake", f"the GPU did not come online within {within:g} s", "look at the monitor's log")


def _id() -> str:
    return f"doctor-{uuid.uuid4().hex[:12]}"
