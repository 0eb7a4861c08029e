"""The WebSocket of the operator's page: one message logs in, then the hub's state comes and calls are answered.

The server of the hub takes no bodies, so the key comes in the first message. It is in no address and in no log.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import orjson
from loguru import logger
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from wakestream.adapters.hub.licenses import LicenseError, key_mark
from wakestream.adapters.hub.operator.access import Caller, Session, Sessions
from wakestream.adapters.hub.operator.actions import Actions
from wakestream.adapters.hub.operator.planning import planned
from wakestream.adapters.runtime.tasks import background, tasks_of_block
from wakestream.adapters.telemetry.logs import RecentLog
from wakestream.streams.hub import status
from wakestream.streams.hub.state import Connection, HubState
from wakestream.streams.placement.simulate import DAY
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire

WITHIN: Final = 30.0
"""Seconds for the login."""

EVERY: Final = 1.0
"""Seconds between two looks at the hub's state."""

COSTS_EVERY: Final = 10.0
"""Seconds between two sums of the costs: they are expensive."""

PLAN_EVERY: Final = 3600.0
"""Seconds between two simulations of other settings, in which the jobs of PLAN_DAYS are simulated."""

PLAN_DAYS: Final = 30

BEAT: Final = 10.0
"""Seconds after which a message is sent even if nothing has changed, so that a page notices a dead connection."""

PAGES: Final = 20
"""Pages that may be open at once."""

LONGEST: Final = 16 * 1024
"""Bytes of a message of a page."""


class _Refused(Exception):
    """The page gets this code, and its connection is closed."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.code, self.more = code, more


@dataclass(slots=True)
class _Page:
    """One open page, and what it was sent last."""

    socket: ServerConnection
    session: Session
    host: str
    log: int = 0
    last: dict[str, bytes] = field(default_factory=dict)
    sent: float = 0.0
    soon: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Gate:
    """What the operator's page needs of the server.

    Attributes:
        look: Makes the hub notice changed licenses now.
        wrong_key: Counts a wrong key of a connection; returns the seconds that its address must wait.
        let_in: Tells that a connection has shown a valid key or session of this license.
        refused: Counts the pages that were refused, by the reason.
    """

    look: Callable[[], None]
    wrong_key: Callable[[ServerConnection], float]
    let_in: Callable[[ServerConnection, str], None]
    refused: Callable[[str], object]


class OperatorDesk:
    """Serves the open pages of a hub.

    Args:
        state: The hub's state; it is read only.
        actions: What a page may ask for.
        log: The hub's latest log lines.
        clock: Gives UNIX seconds.
        gate: What the pages need of the server.
    """

    def __init__(
        self, state: HubState, actions: Actions, log: RecentLog, clock: Callable[[], float], gate: Gate
    ) -> None:
        self._state, self._actions, self._log, self._clock, self._gate = state, actions, log, clock, gate
        self._book, self._sessions = actions.book, Sessions(clock)
        self._pages = 0
        self._state_told: tuple[float, dict[str, Any]] = (-math.inf, {})
        self._costs_told: tuple[float, dict[str, Any]] = (-math.inf, {})
        self._plan_told: tuple[float, dict[str, Any] | None] = (-math.inf, None)
        self._planning: asyncio.Task[None] | None = None

    async def serve(self, socket: ServerConnection, caller: Caller) -> None:
        """Serve one page, which came as `caller`, until its connection ends."""
        try:
            page, token = await self._enter(socket, caller)
            self._gate.let_in(socket, page.session.license)
            await self._serve(page, token)
        except _Refused as refused:
            self._gate.refused(f"page_{refused.code}")
            await _send(socket, {"type": "refused", "code": refused.code, **refused.more})
        except (TimeoutError, ConnectionClosed):
            logger.debug("a page of the operator has gone")
        finally:
            await socket.close()

    # Login

    async def _enter(self, socket: ServerConnection, caller: Caller) -> tuple[_Page, str]:
        """The page and the token of its session, when its first message allows it."""
        self._gate.look()
        await _send(socket, {"type": "hello", "secure": caller.secure, "admins": self._book.has_admin})
        if not caller.secure:
            raise _Refused("not_secure")
        async with asyncio.timeout(WITHIN):
            message = await _receive(socket)
        kind, given = message.get("type"), message.get("session") or message.get("key")
        if kind not in ("enter", "login") or not isinstance(given, str):
            raise _Refused("bad_message")
        if kind == "login":
            token, session = self._login(given.strip(), socket)
        else:
            token, session = given, self._continued(given)
        return _Page(socket, session, caller.host), token

    def _continued(self, token: str) -> Session:
        session = self._sessions.find(token)
        if session is None:
            raise _Refused("no_session")
        self._check(session)
        return session

    def _login(self, key: str, socket: ServerConnection) -> tuple[str, Session]:
        known = self._book.find(key, self._clock())
        if known is None:
            wait = self._gate.wrong_key(socket)
            raise _Refused("too_many_keys", wait=math.ceil(wait)) if wait > 0 else _Refused("wrong_key")
        if known.revoked is not None:
            raise _Refused("revoked")
        if known.role != "admin":
            raise _Refused("no_admin", role=known.role)
        logger.info("the operator's page was opened with license {}", known.id, stage="hub")
        return self._sessions.begin(known.id, key_mark(key))

    def _check(self, session: Session) -> None:
        """Refuse a session that has ended, or whose license or key is no longer valid."""
        if session.until <= self._clock():
            raise _Refused("no_session")
        if not self._book.is_valid(session.mark, self._clock()):
            raise _Refused("revoked")

    # An open page

    async def _serve(self, page: _Page, token: str) -> None:
        if self._pages >= PAGES:
            raise _Refused("too_many_pages", most=PAGES)
        self._pages += 1
        try:
            welcome = {"session": token, "license": page.session.license, "until": page.session.until}
            await _send(page.socket, {"type": "welcome", **welcome, "version": version("wakestream")})
            await self._run(page, token)
        finally:
            self._pages -= 1
            if not self._pages and self._planning is not None:
                self._planning.cancel()
                await asyncio.wait([self._planning])

    async def _run(self, page: _Page, token: str) -> None:
        """Send news and answer calls until one of both ends."""
        async with tasks_of_block() as start:
            hearing = start(self._hear(page, token))
            while not hearing.done():
                if self._sessions.find(token) is None:  # another tab has logged out
                    raise _Refused("no_session")
                self._check(page.session)
                is_due = time.monotonic() - self._plan_told[0] >= PLAN_EVERY
                if is_due and (self._planning is None or self._planning.done()):
                    self._planning = background("the simulation of other settings", self._plan())
                await self._tell(page)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY):
                        await page.soon.wait()
                page.soon.clear()

    async def _hear(self, page: _Page, token: str) -> None:
        try:
            while (message := await _receive(page.socket)).get("type") != "leave":
                await self._answer(page, message)
                page.soon.set()
            self._sessions.end(token)
        finally:
            page.soon.set()

    async def _answer(self, page: _Page, message: Mapping[str, Any]) -> None:
        self._check(page.session)
        given = message.get("with")
        asked = str(message.get("name", "")), given if isinstance(given, dict) else {}
        reply: dict[str, Any] = {"type": "answer", "id": message.get("id")}
        try:
            reply["value"] = await asyncio.to_thread(self._actions.call, *asked, page.session.license, page.host)
        except LicenseError as error:
            reply["error"] = str(error)
        self._gate.look()
        await _send(page.socket, reply)

    async def _tell(self, page: _Page) -> None:
        """Send what has changed."""
        now = time.monotonic()
        # The state, for all pages together.
        if now - self._state_told[0] >= EVERY / 2:
            self._state_told = now, state_of(self._state, self._clock(), self._note_of)
        await self._tell_if_new(page, "state", self._state_told[1])
        # The costs, for all pages together.
        if now - self._costs_told[0] >= COSTS_EVERY:
            self._costs_told = now, costs_of(self._state, self._clock())
        await self._tell_if_new(page, "costs", self._costs_told[1])
        if self._plan_told[1] is not None:
            await self._tell_if_new(page, "plan", self._plan_told[1])
        await self._tell_if_new(page, "invites", await asyncio.to_thread(self._pending, page.host))
        await self._tell_if_new(page, "book", self._book.stamp)
        if lines := self._log.since(page.log):
            page.log = lines[-1]["n"]
            await _send(page.socket, {"type": "log", "value": lines})
        if now - page.sent >= BEAT:
            page.sent = now
            await _send(page.socket, {"type": "beat"})

    async def _plan(self) -> None:
        """Simulate other settings, once for all pages together, until the last of them has gone."""
        first = int(self._clock() // DAY) - PLAN_DAYS
        history = status.history(self._state, first, 0, sys.maxsize)
        gpus = _answer(self._state, self._clock(), costs=False).get("gpus", ())
        told = self._plan_told[1]
        try:
            told = await planned(gpus, history)
        except (OSError, ValueError) as error:
            logger.warning("other settings could not be simulated: {}", error, stage="hub")
        self._plan_told = time.monotonic(), told

    async def _tell_if_new(self, page: _Page, kind: str, value: Any) -> None:
        compared = {name: told for name, told in value.items() if name != "ts"} if isinstance(value, dict) else value
        text = orjson.dumps(compared)
        if page.last.get(kind) != text:
            page.last[kind] = text
            await _send(page.socket, {"type": kind, "value": value})

    def _pending(self, host: str) -> list[dict[str, Any]]:
        try:
            return self._actions.pending(host)
        except LicenseError:  # a damaged file; the call `invite` says so
            return []

    def _note_of(self, license_: str) -> str:
        entry = self._book.get(license_)
        return entry.note if entry is not None else ""


async def _send(socket: ServerConnection, message: Mapping[str, Any]) -> None:
    await socket.send(orjson.dumps(message).decode())


async def _receive(socket: ServerConnection) -> dict[str, Any]:
    data = await socket.recv(decode=False)
    try:
        message = orjson.loads(data) if len(data) <= LONGEST else None
    except orjson.JSONDecodeError:
        message = None
    if not isinstance(message, dict):
        raise _Refused("bad_message")
    return message


# What the page shows of the hub's state, as plain values. It uses the same answers as `status` and `cost`.

MOST: Final = 200
"""Leases, and licenses with jobs, that are shown; the others are counted."""

ROLES: Final = ("client", "worker", "monitor")


def state_of(state: HubState, now: float, note_of: Callable[[str], str]) -> dict[str, Any]:
    """GPUs, leases, jobs by license, connections and budgets.

    Args:
        state: The hub's state.
        now: UNIX seconds.
        note_of: Returns the note of a license by its id.
    """
    told = _answer(state, now, costs=False)
    leases = [
        {"job": job.id, "kind": job.kind, "gpu": job.gpu, "license": job.owner, "since": int(job.since)}
        for gpu in state.gpus.values()
        for job in (state.jobs[id_] for id_ in gpu.leases)
    ]
    jobs = _jobs(state)
    users = (told.get("depot") or {}).get("licenses", ())
    shown = {row["license"] for row in (*leases[:MOST], *jobs[:MOST], *users)}
    # The open connections by role; `other` have not registered yet.
    roles = Counter(peer.role for peer in state.connections.values())
    return {
        **told,
        "leases": leases[:MOST], "all_leases": len(leases),
        "licenses": jobs[:MOST], "all_licenses": len(jobs),
        "notes": {id_: note for id_ in sorted(shown) if (note := note_of(id_))},
        "peers": {**{role: roles[role] for role in ROLES}, "other": roles[None]},
        "disk_low": state.disk_low,
    }  # fmt: skip


def costs_of(state: HubState, now: float) -> dict[str, Any]:
    """The cost of each day, of today and of this month, and the forecast."""
    costs = _answer(state, now, costs=True)["costs"]
    return {name: costs[name] for name in ("today", "totals", "days", "forecast")}


def _answer(state: HubState, now: float, *, costs: bool) -> dict[str, Any]:
    asker = Connection(fd=-1, opened=now, role="client", admin=True)
    query = m.HubStatusQuery(request_id="-", costs=costs or None)
    told = status.answer(state, asker, query, now)
    plain = {name: value for name, value in wire.to_frame(told).get("data", {}).items() if name != "own_queued"}
    return {"ts": told.ts, **plain}


def _jobs(state: HubState) -> list[dict[str, Any]]:
    """The waiting and running jobs of each license; those with most jobs first."""
    waiting = Counter(state.jobs[id_].owner for id_ in state.queue)
    running = Counter(job.owner for job in state.jobs.values() if job.gpu is not None)
    rows = [{"license": id_, "waiting": waiting[id_], "running": running[id_]} for id_ in waiting | running]
    return sorted(rows, key=lambda row: (-row["waiting"] - row["running"], row["license"]))
