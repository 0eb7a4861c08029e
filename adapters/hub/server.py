"""The hub's WebSocket server: it turns frames into events and executes the decider's commands."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from loguru import logger
from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from wakestream.adapters.config.addresses import HUB_PATH, at_port
from wakestream.adapters.depot.builtin import BuiltinDepot
from wakestream.adapters.hub.admission import (
    FRONTS,
    Admission,
    GuardedConnection,
    is_for_operator,
    listening_at,
    path_of,
)
from wakestream.adapters.hub.config import HubConfig
from wakestream.adapters.hub.depot_desk import DepotDesk
from wakestream.adapters.hub.fact_log import log_fact
from wakestream.adapters.hub.fronts import FrontDesk, Fronted, Known
from wakestream.adapters.hub.hub_page import hub_page
from wakestream.adapters.hub.invites import Invites
from wakestream.adapters.hub.license_watch import LicenseWatch, bearer
from wakestream.adapters.hub.operator.actions import Actions
from wakestream.adapters.hub.operator.desk import Gate
from wakestream.adapters.hub.operator.operator import Operator
from wakestream.adapters.hub.outbound import Outbound
from wakestream.adapters.hub.pairing_desk import PairingDesk
from wakestream.adapters.net.acceptor import accept_no_more
from wakestream.adapters.net.connection_limits import ConnectionLimits, Proxies
from wakestream.adapters.net.pairing import PATH
from wakestream.adapters.net.refusals import noted
from wakestream.adapters.net.webhooks import Webhooks, telling
from wakestream.adapters.runtime.decider_runner import DeciderRunner
from wakestream.adapters.runtime.tasks import supervised
from wakestream.adapters.runtime.wall_clock import WallClock
from wakestream.operators.model.errors import JournalError
from wakestream.operators.model.ports import Journal
from wakestream.streams.decider import Decision
from wakestream.streams.hub import depot, hub, relays
from wakestream.streams.hub import events as f
from wakestream.streams.hub.rows import event_row
from wakestream.streams.hub.state import HubState
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.recording import untapped
from wakestream.streams.webhooks import WebhookSettled

_last_id = itertools.count(time.time_ns() // 1000)


def _make_id(prefix: str) -> str:
    """A unique id for a frame without one: 13 hex digits, as old hubs use."""
    return f"{prefix}{next(_last_id):013x}"


_OLD_SUBMIT = f'"{m.Submit.OLD}"'.encode()


class HubServer:
    """A running hub. `url` is its address, `refused` counts refusals by reason. Created by `open_hub`.

    `on_fact` is called with each fact, `on_news` with each webhook that is to be sent, `on_stopped` when nothing is
    decided any more and the connections are still open.
    """

    def __init__(self, config: HubConfig, journal: Journal[f.Fact], state: HubState | None = None) -> None:
        self._config = config
        self.url = ""
        self.port = 0
        self.refused = noted("hub")
        self.on_fact: Callable[[f.Fact], None] | None = None
        self.webhooks: Webhooks | None = None
        self.on_news: Callable[[f.PowerNews], object] = lambda _: None
        self.on_stopped: Callable[[], Awaitable[None]] | None = None
        self._sockets: dict[int, GuardedConnection | Fronted] = {}
        own = BuiltinDepot(self._depot, config.signer, config.ca, config.clock)
        self.depot = DepotDesk(config.bucket or own, self.happen, config.clock)
        self._outbound = Outbound(self._sockets, self.refused, config, self.depot.with_links)
        now = WallClock("leases and time limits keep their lengths", config.clock, config.steady)
        now.on_step = lambda step: self.runner.happen(f.ClockMoved(round(step.by, 3)), step.now)
        self._disk_known = True
        self.runner: DeciderRunner[hub.HubState, f.Event, f.Fact, f.Command] = DeciderRunner(
            "the hub",
            hub.DECIDER,
            hub.DECIDER.recover(journal.read(), state or hub.HubState(config.limits), journal.restore()),
            journal,
            self._execute,
            flush=self._outbound.flush,
            clock=now,
            durable=lambda facts: [fact for fact in facts if fact.DURABLE],
            on_decision=None if config.tap is untapped else self._record,
            on_fact=self._note,
        )
        self.licenses = LicenseWatch(config, self.state, self.happen)
        places = ConnectionLimits(config.room, config.limits.per_address, self.refused, Proxies(config.proxies))
        self.pairing: PairingDesk | None = None
        self._invites = Invites(config.book.documents)
        self._operator = Operator(
            self.state,
            Actions(config.book, self._invites, config.public, config.clock),
            config,
            Gate(self.licenses.look, lambda socket: self._gate.wrong_key(socket), self._let_in, self.refused.count),
            places.proxies,
        )
        self._gate = Admission(places, self._judge, self.page, self._operator.answer, config.leadership)
        self.fronts = FrontDesk(self._opened, self._frame, self._closed, self.runner.room)
        self._fds = itertools.count(1)

    @property
    def state(self) -> hub.HubState:
        """What the hub knows; read only."""
        return self.runner.state

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._sockets)

    # Events in, commands out

    def happen(self, event: f.Event) -> None:
        """Decide on an event; its commands follow when its facts are journaled."""
        self.runner.happen(event)

    def lose(self, error: JournalError) -> None:
        """Execute nothing more and cut all connections at once: nothing can be journaled, as another hub may lead."""
        self.runner.fail(error)
        for socket in self._sockets.values():
            socket.transport.abort()

    def report_webhook(self, settled: WebhookSettled) -> None:
        """Report the outcome of a webhook that was passed to `on_news`."""
        self.happen(f.NewsSettled(settled.delivery))

    def _execute(self, command: f.Command) -> None:
        if isinstance(command, f.Notify):
            self.on_news(command.news)
        elif isinstance(command, f.AskDepot):
            self.depot.ask(command)
        else:
            self._outbound.execute(command)

    def _depot(self) -> tuple[str, str] | None:
        """The address and the name of our own depot, while it is connected."""
        url = self.state.depot_url
        return None if url is None else (url, self.state.depot_name)

    def _record(self, event: f.Event, decision: Decision[f.Fact, f.Command], now: float) -> None:
        if any(decision) or not isinstance(event, f.Tick):
            self._config.tap.row(*event_row(event, now))

    def _note(self, fact: f.Fact) -> None:
        log_fact(fact, self.state, self._config.host)
        if isinstance(fact, f.ConnectionRegistered):
            socket = self._sockets.get(fact.fd)
            self.licenses.note_registered(fact, self._gate.address_of(socket))
            if isinstance(socket, Fronted):
                self._outbound.tell(socket.front, Known(socket.number))
            elif socket is not None:
                self._gate.registered(socket)
        elif isinstance(fact, f.ConnectionClosed):
            self.licenses.note_closed(fact.fd)
        if self.on_fact is not None:
            self.on_fact(fact)

    # Connections

    async def serve_connection(self, socket: ServerConnection) -> None:
        """Serve one connection until it closes."""
        assert isinstance(socket, GuardedConnection)  # noqa: S101 - the gate made it
        path = path_of(socket.request) if socket.request is not None else HUB_PATH
        if path == PATH and self.pairing is not None:
            await self.pairing.serve(socket)
            return
        if is_for_operator(path):
            await self._operator.serve(socket)
            return
        if path.startswith(FRONTS):
            key = bearer(socket.request) or ""
            if (known := self.licenses.known(key)) is not None:
                self._let_in(socket, known.id)
                await self.fronts.serve(socket, key)
            return
        fd = self._opened(socket)
        try:
            while True:
                data = await socket.recv(decode=False)
                self._frame(fd, socket, data)
                if self.runner.crowded:
                    await self.runner.room()
        except ConnectionClosed:
            logger.debug("connection {} is gone", fd)
        finally:
            self._closed(fd)

    def _judge(self, request: Request) -> tuple[bool, tuple[str, str] | None]:
        path = path_of(request)
        if path.startswith(FRONTS):
            return self.fronts.judge(path, self.licenses.known(bearer(request)))
        return self.licenses.judge(request)

    def _opened(self, socket: GuardedConnection | Fronted) -> int:
        fd = next(self._fds)
        self._sockets[fd] = socket
        self.happen(f.Opened(fd))
        return fd

    def _closed(self, fd: int) -> None:
        del self._sockets[fd]
        self.happen(f.Closed(fd))

    def _close(self, command: f.Close) -> None:
        self._outbound.close(command)
        self._outbound.flush()

    def _let_in(self, socket: ServerConnection, license_: str) -> None:
        """A page of the operator, or a front, has shown a valid key or session of this license."""
        assert isinstance(socket, GuardedConnection)  # noqa: S101 - the gate made it
        self._gate.registered(socket)
        self.licenses.note_page(license_, self._gate.address_of(socket))

    def _frame(self, fd: int, socket: GuardedConnection | Fronted, data: bytes, size: int = 0) -> None:
        if socket.turned_away:  # sent before the close frame arrived
            return
        try:
            self._read(fd, socket, data, size)
        except Exception:  # whatever the fault, one peer's frame must not end the hub, nor the other peers of its front
            logger.exception("internal error on connection {}; it is closed", fd)
            socket.turned_away = True
            self._close(f.Close(fd, 1011, ""))

    def _read(self, fd: int, socket: GuardedConnection | Fronted, data: bytes, size: int) -> None:
        if max(size, len(data)) > wire.MAX_FRAME:
            why = f"a frame may have {wire.MAX_FRAME} bytes at most, this one has {max(size, len(data))}"
            self.happen(f.Unreadable(fd, why, "too_large"))
            return
        try:
            message = wire.decode(data, make_id=_make_id)
        except wire.Malformed as error:
            self.happen(f.Unreadable(fd, str(error)))
            return
        if isinstance(message, m.Register):
            self._register(fd, socket, message)
        else:
            if isinstance(message, m.Unknown) and message.type in relays.BEAR_A_KEY:
                message = self.licenses.with_license(message)
            self.happen(f.Received(fd, message, old=_OLD_SUBMIT in data))

    def _register(self, fd: int, socket: GuardedConnection | Fronted, message: m.Register) -> None:
        credential = message.token or message.key or bearer(socket.request)
        self.licenses.look()
        known = self.licenses.known(credential)
        if credential is not None:
            if known is None and (wait := self._gate.wrong_key(socket)) > 0:
                why = f"too many wrong keys came from this address: try again in {math.ceil(wait)} s"
                socket.turned_away = True
                self._close(f.Close(fd, hub.UNAUTHORIZED, why))
                return
            self.licenses.shown(fd, credential)
        self.happen(f.Registering(fd, message, credential, known))

    # Time

    async def keep_time(self) -> None:
        """Once a second: report the time, and look for revoked licenses, replaced keys and a full disk."""
        while True:
            await asyncio.sleep(1)
            self.licenses.look()
            self.licenses.end_replaced_keys()
            self.fronts.end_invalid(lambda mark: self._config.book.is_valid(mark, self._config.clock()))
            self.look_at_disk()
            self.happen(f.Tick())
            await self.licenses.keep_uses()

    def page(self, languages: str) -> bytes:
        """The status page for a browser, in one of these `languages`."""
        return hub_page(self.state, self._config.clock(), languages)

    def look_at_disk(self) -> None:
        """Report when the disk becomes nearly full or has room again."""
        try:
            low = self._config.disk_low()
        except OSError as error:  # what is known of the disk stays; the next second asks again
            logger.log("ERROR" if self._disk_known else "DEBUG", "the hub's disk cannot be checked: {}", error)
            self._disk_known = False
            return
        self._disk_known = True
        if low != self.state.disk_low:
            logger.log("ERROR" if low else "INFO", "the hub's disk is nearly full" if low else "there is room again")
            self.happen(f.DiskSeen(low))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen until the block ends."""
        tls = self._config.tls
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._operator.logging())
            listening = listening_at(self._config.host, self._config.port, tls, self._gate, self.serve_connection)
            servers = await stack.enter_async_context(listening)
            at, self.port = servers[0].sockets[0].getsockname()[:2]
            self.url = f"{'wss' if tls else 'ws'}://{at_port(at, self.port)}{HUB_PATH}"
            rows = () if self._config.tap is untapped else tuple(hub.DECIDER.snapshot(self.state))
            role = self._config.leadership
            self.happen(f.ProcessStarted(rows, journal=role.cluster, seq=role.seq))
            self.licenses.begin()

            def refusal(role: str) -> str:
                return (depot.refusal(self.state, role, "") or ("", ""))[1]

            self.pairing = PairingDesk(self._config, self._invites, self._gate.address_of, self.state.named, refusal)
            stack.push_async_callback(self._end, servers)
            tasks = await stack.enter_async_context(supervised("the hub"))
            tasks.needs("the journal", self.runner.ended)
            tasks.needs("the clock", self.keep_time)  # without it, no lease and no GPU would ever end
            if tls is not None:
                tasks.keeps("the watch of the certificate", tls.watch)
            yield

    async def _end(self, servers: Sequence[Server]) -> None:
        """Accept no more connections, stop, and close those that are open."""
        try:
            for server in servers:
                await accept_no_more(server)
        finally:
            await self.depot.close()
            await self.runner.close()
            if self.on_stopped is not None:
                await self.on_stopped()
            self._gate.cut_handshakes()
            for server in servers:
                server.close()
            await self.licenses.keep_uses(last=True)


@contextlib.asynccontextmanager
async def open_hub(
    config: HubConfig, journal: Journal[f.Fact], state: HubState | None = None
) -> AsyncIterator[HubServer]:
    """Run a hub until the block ends.

    Args:
        config: Its settings.
        journal: Stores the facts.
        state: What the facts say that were read from the journal already.

    Yields:
        The running hub.

    Raises:
        OSError: It cannot listen at this address.
        LicenseError: The license file is broken.
    """
    config.book.refresh()
    running = HubServer(config, journal, state)
    async with contextlib.AsyncExitStack() as stack:
        if config.webhook is not None:
            running.webhooks = await stack.enter_async_context(telling(config.webhook, running.report_webhook))
            running.on_news = running.webhooks.tell
        await stack.enter_async_context(running.serving())
        yield running
