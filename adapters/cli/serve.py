"""What the lasting programs share: address, metrics, why they cannot listen, and the end when the hub refuses them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

from reactivex import Observable

from wakestream.adapters.config import addresses
from wakestream.adapters.config.settings import SettingsError
from wakestream.adapters.net.connection_limits import Room
from wakestream.adapters.net.silent_callers import MOST
from wakestream.adapters.runtime.printing import say
from wakestream.adapters.runtime.rlimits import connections_allowed
from wakestream.adapters.telemetry.metrics_server import Collect, metrics_listener
from wakestream.operators.model.errors import HubRefused
from wakestream.operators.model.ports import LinkDown


def announce(program: str, url: str) -> None:
    """The first line on standard output, from which callers who asked for port 0 learn the address."""
    say(f"wakestream {program} listening on {url}")


def caller_room() -> Room:
    """How many callers an HTTP server can take; each may also need a file."""
    return Room.of(connections_allowed(2 * MOST) // 2)


@contextlib.contextmanager
def listening(host: str, port: int, flag: str = "--listen") -> Iterator[None]:
    """Around whatever opens a listening socket: `SettingsError` says why `host:port` cannot be listened on."""
    try:
        yield
    except socket.gaierror:
        raise SettingsError(f"{flag}: this machine does not know the host {host!r}") from None
    except OSError as error:
        raise _cannot_listen(error, addresses.at_port(host, port), flag) from None


async def serve_metrics(stack: contextlib.AsyncExitStack, address: tuple[str, int], collect: Collect) -> None:
    """Answer Prometheus at `address` with what `collect` gives, until the stack is closed; `SettingsError` if taken."""
    with listening(*address, "--metrics"):
        await stack.enter_async_context(metrics_listener(address, collect))


def _cannot_listen(error: OSError, address: str, flag: str) -> Exception:
    # asyncio sums up several failed addresses in one OSError without a number; the text still tells.
    numbers = {error.errno, getattr(error, "winerror", None)}
    if numbers & {errno.EADDRINUSE, 10048} or "in use" in str(error):
        return SettingsError(f"{flag}: {address} is taken by another program; stop it or choose another port")
    absent = ("assign requested", "could not bind on any")  # the latter since Python 3.13
    if numbers & {errno.EADDRNOTAVAIL, 10049} or any(words in str(error) for words in absent):
        return SettingsError(f"{flag}: {address} is no address of this machine; use 127.0.0.1 or 0.0.0.0")
    if numbers & {errno.EACCES, 10013} or "ermission" in str(error):
        return SettingsError(f"{flag}: {address} is not allowed to this account; use a port above 1023")
    return error


class Refusal:
    """Watches a link where the user asked for it; sets `stop` at the first refusal."""

    def __init__(self, stop: asyncio.Event, args: argparse.Namespace) -> None:
        self._stop, self._asked = stop, getattr(args, "exit_on_refusal", False)
        self._refused: LinkDown | None = None

    def listen(self, events: Observable[Any]) -> None:
        """Hear what becomes of a link: its `events`."""

        def hear(event: object) -> None:
            if self._asked and isinstance(event, LinkDown) and event.code:
                self._refused = event
                self._stop.set()

        events.subscribe(hear)

    def check(self) -> None:
        """Raise `HubRefused` if that was why the program stopped."""
        if self._refused is not None and self._refused.code is not None:
            raise HubRefused(self._refused.reason, code=self._refused.code)
