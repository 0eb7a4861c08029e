"""What the hub and the monitor say for themselves, asked as a client asks them."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp

from wakestream.adapters.cli.doctor.result import CheckResult, fault, ok, skipped, warning
from wakestream.adapters.cli.i18n.catalog import known, t, translated
from wakestream.adapters.client.hub_query import ANSWER_WITHIN, Answer, Query, first
from wakestream.adapters.config.addresses import HUB_PATH
from wakestream.adapters.net.hub_link import Link
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.hub.state import UNWATCHED
from wakestream.streams.monitor.readings import LEFT_ALONE
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import GPU_URL, HUB_STATUS, STATUS_OF_GPU


class Ask(Protocol):
    """Asks the hub over our own connection, or through the daemon."""

    async def __call__(self, query: Query, kind: type[Answer], /) -> Answer | None:
        """The answer, which is of this type; None without one."""


HUB_WITHIN = 15.0
"""Seconds that the hub has to connect and register us."""

SKEW = 5.0
"""Seconds that two clocks may differ before it is said, a minute before it is a fault."""


AMISS = ("unknown", "failed", "lost", "no_capacity", "not_ready", "paused")
"""Phases of a GPU that need attention."""

_TODO = dict.fromkeys(("not_ready", "paused"), "doctor.engine_loads.do") | {"lost": "doctor.lost.do"}


@dataclass(slots=True)
class Told:
    """What was learned on the way: the hub's version, as it is shown, and features; how the GPU is, and where.

    `ahead`: seconds that our clock is ahead of the hub's; None if that is not known. `depot`: what it says of that.
    `refused`: the hub is there and does not let us in.
    `online` has the address of each online GPU's worker; None where the hub names none.
    """

    hub_version: str = ""
    ahead: float | None = None
    depot: Mapping[str, Any] | None = None
    refused: bool = False
    features: frozenset[str] = frozenset()
    running: bool = False
    url: str | None = None
    online: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def by(cls, heard: Heard) -> Told:
        """What the headers say of the hub that answers first."""
        headers = next(filter(None, heard.values()), {})
        return cls(version_in(headers), skew(headers))

    @property
    def workers(self) -> list[str | None]:
        """The addresses that jobs are given now; nothing while all GPUs are off."""
        named = [*dict.fromkeys(self.online.values())] if GPU_URL in self.features else []
        return named or ([self.url] if self.running else [])

    @property
    def nowhere(self) -> bool:
        """Whether jobs are given a GPU, but no address: some hubs name it to jobs alone."""
        unnamed = GPU_URL in self.features and None in self.online.values()
        return bool(self.workers) and (HUB_STATUS not in self.features or unnamed)


async def hub_connects(link: Link, told: Told) -> AsyncIterator[CheckResult]:
    """Whether the hub is there and lets us in."""
    met: LinkUp | LinkDown | None = await first(link, _settled, HUB_WITHIN)
    if isinstance(met, LinkUp):
        features = ", ".join(sorted(met.features)) or t("doctor.field_hub")
        told.features = met.features
        yield ok("hub", t("doctor.hub", url=link.url, features=f"{told.hub_version}{features}"))
    elif met is None:
        says = t("doctor.hub_silent", url=link.url, seconds=f"{HUB_WITHIN:g}")
        yield fault("hub", says, t("doctor.hub_silent.do"))
    elif met.code in ("unauthorized", "forbidden", "kicked"):
        told.refused = True
        yield fault("license", met.reason, t("doctor.license.do"))
    else:
        yield fault("hub", met.reason, t("doctor.hub_down.do"))


def _settled(event: Any) -> LinkUp | LinkDown | None:
    if isinstance(event, LinkDown) and event.connecting:
        return None
    return event if isinstance(event, LinkUp | LinkDown) else None


async def headers_of(address: str, ssl: Any = None) -> Mapping[str, str]:
    """The headers of the hub's HTTP response, empty without one. `address` is its http(s) URL."""
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            options = {} if ssl is None else {"ssl": ssl}
            async with session.get(address, allow_redirects=False, **options) as response:
                return response.headers
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
        return {}


Heard = Mapping[str, Mapping[str, str]]
"""The headers of each hub of a list, by its address; empty of one that does not answer."""


async def heard_of(urls: str, ssl: Any = None) -> Heard:
    """Ask each hub of a list for its page."""
    hubs = urls.split(",")
    pages = [urlsplit(url)._replace(path=f"{urlsplit(url).path.removesuffix(HUB_PATH)}/").geturl() for url in hubs]
    answers = await asyncio.gather(*(headers_of(page.replace("ws", "http", 1), ssl) for page in pages))
    return dict(zip(hubs, answers, strict=True))


def hubs_stand(heard: Heard) -> Iterator[CheckResult]:
    """Of several hubs: which one leads, and whether the others can replace it."""
    ours = next((cluster for headers in heard.values() if (cluster := headers.get("Wakestream-Cluster"))), None)
    for url, headers in heard.items() if len(heard) > 1 else ():
        cluster, ahead = headers.get("Wakestream-Cluster", ours), skew(headers) or 0.0
        if not headers:
            yield warning("hub", t("doctor.hub_away", url=url), t("doctor.hub_down.do"))
        elif cluster != ours:
            yield fault("hub", t("doctor.other_cluster", url=url, cluster=cluster, ours=ours), t("doctor.hub_list.do"))
        elif "Retry-After" in headers:
            yield ok("hub", t("doctor.stands_by", url=url, leader=headers.get("Wakestream-Leader", "-")))
        else:
            yield ok("hub", t("doctor.leads", url=url))
        if abs(ahead) > SKEW:
            yield warning("clock", f"{url}: {_off(ahead)}", t("doctor.clock.do"))


def version_in(headers: Mapping[str, str]) -> str:
    """`wakestream 1.2.3: ` where the hub says so, and no proxy has put its own name there."""
    program, slash, number = headers.get("Server", "").partition("/")
    return f"{program} {number[:20]}: " if program == "wakestream" and slash else ""


def skew(headers: Mapping[str, str]) -> float | None:
    """How many seconds our clock is ahead of the one in an HTTP answer; None if it does not say its time."""
    try:
        return time.time() - parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return None


def clocks_agree(ahead: float | None) -> Iterator[CheckResult]:
    """The hub's clock beside ours, which is so many seconds `ahead`."""
    if ahead is None:
        yield skipped("clock", t("doctor.clock_unknown"))
    elif abs(ahead) <= SKEW:
        yield ok("clock", t("doctor.clock"))
    else:
        level = fault if abs(ahead) > 60 else warning
        yield level("clock", _off(ahead), t("doctor.clock.do"))


def _off(ahead: float) -> str:
    return t("doctor.clock_ahead" if ahead > 0 else "doctor.clock_behind", seconds=f"{abs(ahead):.0f}")


async def gpus_stand(ask: Ask, told: Told) -> AsyncIterator[CheckResult]:
    """The monitor of each GPU, and the GPUs as the hub knows them: whether a provider can be reached and has any."""
    answer = None
    if HUB_STATUS in told.features:
        answer = await ask(m.HubStatusQuery(request_id="-"), m.HubStatus)
    gpus = answer.gpus if answer is not None else ()
    told.depot = answer.depot if answer is not None else None
    names: list[str | None] = [str(gpu.get("gpu")) for gpu in gpus if STATUS_OF_GPU in told.features]
    for finding in await asyncio.gather(*(_monitor_answers(ask, told, name) for name in names or [None])):
        yield finding
    for gpu in gpus:
        phase, why = str(gpu.get("phase", "unknown")), gpu.get("why")
        if phase == "online":
            told.online[str(gpu.get("gpu", "?"))] = gpu.get("url")
        clause = t(f"status.{phase}") if known(f"status.{phase}") else phase
        says = t("doctor.gpu", gpu=gpu.get("gpu", "?"), phase=clause)
        cause = t("why.says", why=translated(str(why)) or why) if why else ""
        orphan = str(gpu.get("orphan") or "")
        runs_on = orphan == UNWATCHED or LEFT_ALONE in orphan  # nothing switches it off
        if phase in AMISS or runs_on:
            level = fault if phase == "unknown" else warning
            what = "doctor.on.do" if runs_on else _TODO.get(phase, "doctor.gpu.do")
            yield level("gpu", says + cause, t(what))
        elif gpu.get("amiss"):
            yield warning("gpu", says + cause)
        else:
            yield ok("gpu", says + (cause if orphan else ""))


def depot_connected(told: Told) -> Iterator[CheckResult]:
    """Whether the hub has its depot; the daemon cannot try it."""
    if told.depot is not None and told.depot["up"]:
        yield ok("depot", t("doctor.depot_up"))
    elif told.depot is not None:
        yield warning("depot", t("depot.down"), t("doctor.depot.down.do"))


async def _monitor_answers(ask: Ask, told: Told, gpu: str | None) -> CheckResult:
    """Whether the monitor of a GPU, or any, is connected and answers."""
    answer = await ask(m.StatusQuery(request_id="-", gpu=gpu), m.StatusResponse)

    def of_it(says: str) -> str:
        return says if gpu is None else t("doctor.gpu", gpu=gpu, phase=says)

    if answer is None:
        says = of_it(t("doctor.gpu_silent", seconds=f"{ANSWER_WITHIN:g}"))
        return warning("monitor", says, t("doctor.gpu_silent.do"))
    if answer.source != "gpu_monitor":
        says = t("doctor.no_monitor") if gpu is None else of_it(t("doctor.no_monitor_of"))
        return fault("monitor", says, t("doctor.no_monitor.do"))
    told.running = told.running or answer.status == "running"
    return ok("monitor", of_it(t("doctor.monitor", status=translated(answer.status) or answer.status)))


async def wake(link: Link, within: float, told: Told) -> AsyncIterator[CheckResult]:
    """A real wake, without a job: the GPU goes to sleep again by itself when it is idle."""
    request, began = f"doctor-{uuid.uuid4().hex[:12]}", time.monotonic()

    def ended(event: Any) -> m.Online | m.Booted | m.BootResult | m.Error | None:
        if isinstance(event, m.Online) or (isinstance(event, m.Booted) and event.source == "hub"):
            return event
        mine = isinstance(event, m.BootResult | m.Error) and event.request_id == request
        return event if mine and not getattr(event, "success", False) else None

    answer = await first(
        link, ended, within, m.Boot(request_id=request, source="doctor", msg="wakestream doctor --wake")
    )
    took = time.monotonic() - began
    match answer:
        case m.Online():
            told.url, told.running = answer.url, True
            yield ok("wake", t("doctor.woken", seconds=f"{took:.0f}"))
        case m.Booted():
            yield ok("wake", t("doctor.awake"))
        case m.BootResult():
            yield fault("wake", t("doctor.not_woken", why=answer.msg or answer.status), t("doctor.not_woken.do"))
        case m.Error():
            yield fault("wake", t("doctor.hub_says", why=answer.text), t("doctor.hub_says.do"))
        case None:
            yield fault("wake", t("doctor.not_online", seconds=f"{within:g}"), t("doctor.not_woken.do"))
