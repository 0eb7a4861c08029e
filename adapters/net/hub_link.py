"""A connection to the hub that reconnects by itself: one hot observable of events, and a `send`.

Client, monitor and worker use it. A session is a cold observable that ends with an error; `retry_backoff` makes a link
of it, whose subscribers see no error but `LinkDown`. Of the several hubs of a cluster, a session tries each once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from random import Random
from ssl import SSLContext
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from loguru import logger
from reactivex import Observable, abc
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.connection import broadcast
from websockets.exceptions import ConnectionClosedOK, InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException
from websockets.http11 import Response

from wakestream.adapters.net.connect_errors import no_connection
from wakestream.adapters.net.tls import explained, hung_up
from wakestream.operators.model.backoff import Backoff
from wakestream.operators.model.errors import HubError, HubRefused, HubUnreachable, Stalled
from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.operators.rx.core.observable import ForwardingObserver, LightObservable
from wakestream.operators.rx.core.scheduler import LoopScheduler
from wakestream.operators.rx.from_async import from_async
from wakestream.operators.rx.interval import interval
from wakestream.operators.rx.retry_backoff import retry_backoff
from wakestream.operators.rx.timeout import each_item, timeout
from wakestream.streams.jobs.hub_client import HubEvent as Event
from wakestream.streams.jobs.hub_client import HubNews
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol import wire
from wakestream.streams.recording.recording import Tap, untapped

T = TypeVar("T")


class HubLink(Protocol):
    """The connection to the hub, as monitors and workers use it."""

    @property
    def events(self) -> Observable[Event]:
        """A hot observable: the hub's messages, and each connect and disconnect."""

    @property
    def up(self) -> bool:
        """Whether there is a connection now."""

    def send(self, message: m.Message) -> bool:
        """Send a message; False while there is no connection."""


PING_EVERY = 25.0
"""Seconds between application pings, as deployed peers send them."""

SILENCE = 2 * PING_EVERY
"""Seconds without a message after which the connection counts as lost."""

ALONE: Mapping[str, Any] = {"open_timeout": 10.0, "ping_interval": 20.0, "ping_timeout": 20.0}
"""Seconds that the only hub has to answer the handshake, between two WebSocket pings, and to answer one."""

OF_SEVERAL: Mapping[str, Any] = {"open_timeout": 4.0, "ping_interval": 5.0, "ping_timeout": 10.0}
"""The same if there are other addresses: one that was switched off, paused or cut off is left soon for the leader."""

REGISTER_WITHIN = 10.0
"""Seconds that the hub has to answer `register`."""

RECONNECT = Backoff(initial=0.5, max_delay=30.0, reset_on_success=lambda event: type(event) is m.Pong)
"""The delay is reset after the first answered ping. A connection that ends at once (kicked, or replaced by another of
the same name) is retried later each time."""

FOR_GOOD = frozenset({"unauthorized", "forbidden", "bad_address", "kicked"})
"""Codes of refusals that a retry cannot change; any other refusal may pass."""


class Link:
    """A connection to the hub, opened again whenever it is lost, until `close`. Needs a running loop.

    Args:
        url: The hub's WebSocket address, or those of several hubs, separated by commas.
        register: Makes the first message of each connection.
        tap: Records all messages.
        random: The source of the delays' jitter.
        ca: Verifies a hub whose certificate the system does not trust.

    Attributes:
        events: Hot, and without an error: `LinkUp` when the hub has answered `register`, `LinkDown` with the reason
            after each lost connection and failed attempt, and every message in between.
    """

    def __init__(
        self,
        url: str,
        register: Callable[[], m.Register],
        *,
        tap: Tap = untapped,
        random: Random | None = None,
        ca: SSLContext | None = None,
    ) -> None:
        self._urls = deque(url.split(","))
        self._cluster: str | None = None
        self._ca = ca
        self._register = register
        self._tap = tap
        self._scheduler = LoopScheduler()
        self._socket: ClientConnection | None = None
        self.events = HubNews(_fault)
        self._subscription = self._sessions(random or Random()).subscribe(self._feed, scheduler=self._scheduler)

    @property
    def url(self) -> str:
        """The address of the hub that registered us last; before that, the first one."""
        return self._urls[0]

    @property
    def up(self) -> bool:
        """Whether the connection is open and the hub has registered us."""
        return self._socket is not None

    def send(self, message: m.Message) -> bool:
        """Send a message; False, and nothing is sent, while there is no connection."""
        if self._socket is None:
            return False
        self._put(self._socket, message)
        return True

    async def close(self) -> None:
        """Close the connection and wait until it is closed."""
        self._subscription.dispose()
        await self._scheduler.close()

    def _sessions(self, random: Random) -> Observable[Event]:
        session: Observable[Event] = from_async(self._session, "hub link")
        alive = session.pipe(timeout(SILENCE, "silence", reset=each_item, error=Stalled))

        def subscribe(observer: abc.ObserverBase[Event], scheduler: abc.SchedulerBase | None) -> abc.DisposableBase:
            return alive.subscribe(_TellsWhy(observer, self), scheduler=scheduler)

        return LightObservable(subscribe).pipe(retry_backoff(RECONNECT, random))

    def _feed(self, event: Event) -> None:
        if isinstance(event, LinkUp):
            self._tap.row("conn", "up", {"features": sorted(event.features)})
        elif isinstance(event, LinkDown):
            said = "{}; trying again with increasing delays" if event.code else "{}; trying again"
            logger.bind(stage="link").log("ERROR" if event.code else "WARNING", said, event.reason)
            self._tap.row("conn", "down", {"why": event.reason, "code": event.code})
        self.events.feed(event)

    async def _session(self) -> AsyncIterator[Event]:
        async with contextlib.AsyncExitStack() as stack:
            socket, registered = await self._enter(stack)
            pings = interval(PING_EVERY, lambda _: m.Ping()).subscribe(
                lambda ping: self._put(socket, ping), scheduler=self._scheduler
            )
            self._socket = socket
            try:
                logger.bind(stage="link").info("connected to {}", self.url)
                yield LinkUp(frozenset(registered.features or ()), registered.capability_key)
                while True:
                    message = await self._next(socket)
                    if message is not None:
                        yield message
            finally:
                pings.dispose()
                self._socket = None if self._socket is socket else self._socket

    async def _enter(self, stack: contextlib.AsyncExitStack) -> tuple[ClientConnection, m.Registered]:

        async def enter(
            attempt: contextlib.AsyncExitStack, url: str, options: Mapping[str, Any]
        ) -> tuple[ClientConnection, m.Registered]:
            socket = await attempt.enter_async_context(connected(url, self._ca, options))
            self._put(socket, self._register())
            registered = await self._registered(socket)
            self._check(registered.cluster)
            return socket, registered

        return await first_hub(self._urls, stack, enter)

    def _check(self, cluster: str | None) -> None:
        """Refuse a hub of another cluster than the one that registered us before, if there are several addresses."""
        known = self._cluster = self._cluster or cluster
        if len(self._urls) > 1 and known is not None and cluster not in (None, known):
            what = f"it belongs to the cluster {cluster}, and this program uses {known}; correct the list of hubs"
            raise HubRefused(what, code="other_cluster")

    async def _registered(self, socket: ClientConnection) -> m.Registered:
        try:
            async with asyncio.timeout(REGISTER_WITHIN):
                while True:
                    message = await self._next(socket)
                    if isinstance(message, m.Registered):
                        return message
                    if isinstance(message, m.Error):
                        raise HubRefused(message.text, code=message.code or "unauthorized")
        except TimeoutError:
            raise HubUnreachable(f"it did not answer register within {REGISTER_WITHIN:g} s") from None

    async def _next(self, socket: ClientConnection) -> m.Message | None:
        """The next message, None for an invalid frame; answers pings."""
        try:
            raw = await socket.recv(decode=False)
        except ConnectionClosedOK:
            raise HubUnreachable(f"it closed the connection{_reason(socket)}") from None
        message = self._read(raw)
        if type(message) is m.Ping:
            self._put(socket, m.Pong())
        return message

    def _read(self, raw: bytes) -> m.Message | None:
        try:
            message = wire.decode(raw, strict=False)
        except wire.Malformed as error:
            logger.bind(stage="link").warning("the hub sent an invalid frame, which is ignored: {}", error)
            return None
        self._tap.frame("in", message)
        if type(message) is m.Kicked:
            raise HubRefused(message.msg or "the hub closed this connection permanently", code="kicked")
        return message

    def _put(self, socket: ClientConnection, message: m.Message) -> None:
        self._tap.frame("out", message)
        broadcast((socket,), wire.encode(message))


class _TellsWhy(ForwardingObserver[Event]):
    """Emits `LinkDown` before the error that ends a session."""

    __slots__ = ("link",)

    def __init__(self, observer: abc.ObserverBase[Event], link: Link) -> None:
        super().__init__(observer)
        self.link = link

    def on_error(self, error: Exception) -> None:
        code = error.code if isinstance(error, HubRefused) and error.code in FOR_GOOD else None
        why = f"no message arrived for {error.seconds:g} s" if isinstance(error, Stalled) else str(error)
        self.observer.on_next(LinkDown(f"hub {self.link.url}: {why}", code))
        self.observer.on_error(error)


async def first_hub(
    urls: deque[str],
    stack: contextlib.AsyncExitStack,
    enter: Callable[[contextlib.AsyncExitStack, str, Mapping[str, Any]], Awaitable[T]],
) -> T:
    """Connect to the first hub that takes us, beginning with the last one that did.

    Args:
        urls: The addresses of the hubs; the one that took us comes first afterwards.
        stack: Closes the connection.
        enter: Connects to an address with these options of `connected`. Its contexts end if it raises.

    Returns:
        What `enter` returned.

    Raises:
        HubError: No hub takes us.
    """
    failed: list[tuple[str, HubError]] = []
    for url in tuple(urls):
        hosts: list[str | None] = [None]
        for host in hosts:
            options = ALONE if len(urls) == 1 else OF_SEVERAL
            try:
                async with contextlib.AsyncExitStack() as attempt:
                    entered = await enter(attempt, url, options if host is None else {**options, "host": host})
                    stack.push_async_exit(attempt.pop_all())
                    return entered
            except HubError as error:
                failed.append((url, error))
                if host is None and _stands_by(error):
                    hosts += await _hosts_of(url)
        urls.rotate(-1)
    raise _together(failed)


def _together(failed: Sequence[tuple[str, HubError]]) -> HubError:
    """Why no address can be used; the first one's is not named."""
    if len(failed) == 1:
        return failed[0][1]
    said = dict.fromkeys(str(error) if url == failed[0][0] else f"hub {url}: {error}" for url, error in failed)
    code = next((error.code for _, error in failed if error.code in FOR_GOOD), None)
    text = "; ".join(said)
    return HubUnreachable(text) if code is None else HubRefused(text, code=code)


def _stands_by(error: HubError) -> bool:
    cause = error.__cause__
    return isinstance(cause, InvalidStatus) and cause.response.status_code == 503


async def _hosts_of(url: str) -> list[str]:
    """The addresses of a name that has several: another one of them may lead."""
    parts = urlsplit(url)
    if getproxies().keys() - {"no"}:
        return []
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port, type=sockets.SOCK_STREAM)
    except OSError:  # the name is not known at the moment
        return []
    hosts = list(dict.fromkeys(str(info[4][0]) for info in infos))
    return hosts if len(hosts) > 1 else []


def _reason(socket: ClientConnection) -> str:
    said = socket.close_reason or ""
    return f" ({socket.close_code}{' ' + said if said else ''})" if socket.close_code else ""


class _ConnectHere(connect):
    """Does not follow redirects: the key is for the hub that the user has set."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """See `connect.process_redirect`."""
        return exc


@contextlib.asynccontextmanager
async def connected(url: str, ca: SSLContext | None, options: Mapping[str, Any]) -> AsyncIterator[ClientConnection]:
    """A WebSocket; errors of the library and the system become `HubError`. `options` are those of `connect`."""
    usual = {"compression": None, "max_size": wire.MAX_FRAME, "close_timeout": 2}
    tls = ca or True if url.startswith("wss:") else None
    try:
        async with _ConnectHere(url, ssl=tls, **{**usual, **options}) as socket:
            try:
                yield socket
            finally:
                # Otherwise the library reports an internal error (1011) to the hub when the session is cancelled.
                await socket.close()
    except (HubError, asyncio.CancelledError):
        raise
    except InvalidURI as error:
        raise HubRefused(f"{url} is not a WebSocket address; correct it", code="bad_address") from error
    except InvalidStatus as error:
        raise HubUnreachable(turned_away(error.response)) from error
    except InvalidHandshake as error:
        raise HubUnreachable(_no_hub(url, error)) from error
    except (OSError, TimeoutError) as error:
        ended = url.startswith("wss:") and isinstance(error, ConnectionResetError)
        raise HubUnreachable(hung_up() if ended else _plain(error, options["open_timeout"])) from error
    except WebSocketException as error:
        raise HubUnreachable(f"the connection broke ({error})") from error


def _no_hub(url: str, error: InvalidHandshake) -> str:
    """A TLS port closes a connection without TLS and gives no reason; so does a proxy whose hub is down."""
    tls = url.startswith("wss:")
    if isinstance(error.__cause__, EOFError):
        said = "it closed the connection without an answer; start the hub there"
        return said if tls else f"{said}, or, if it needs TLS, write https:// or wss://"
    return f"it did not answer as a hub ({error})" + ("" if tls else "; if it needs TLS, write https:// or wss://")


def turned_away(response: Response) -> str:
    """The reason in an HTTP answer instead of a handshake; our hub sends one line of plain text."""
    said = ""
    if 300 <= response.status_code < 400:
        there = response.headers.get("Location", "elsewhere")[:200]
        said = f"it redirects to {there!r}; if that is your hub, set this address"
    elif response.headers.get("Content-Type", "").startswith("text/plain"):
        said = " ".join((response.body or b"")[:300].decode(errors="replace").split())
    return f"the connection was refused with HTTP {response.status_code}{f': {said}' if said else ''}"


def _plain(error: OSError, within: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {within:g} s"
    return explained(error) or no_connection(error)


def _fault(error: Exception, item: Any) -> None:
    logger.bind(stage="link").opt(exception=error).error("a subscriber failed at {}", type(item).__name__)
