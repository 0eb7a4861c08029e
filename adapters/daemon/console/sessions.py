"""Authorizes the console's page: a one-time link becomes a session, and a session makes tickets for single results.

A cookie would be sent to every port of this machine, also to servers of other users. So the page keeps its session in
the storage of its origin and sends it as a bearer token. A `<video>` or a download has a ticket in its address, which
is valid for one job and a few hours.

They all end with the program: after that another program may listen at its port and receive a page's session.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import secrets
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.disk.atomic import remove, write_atomic
from wakestream.adapters.runtime.printing import say
from wakestream.adapters.runtime.recent import Recent

LINK_LASTS: Final = 3600.0
SESSION_LASTS: Final = 30 * 24 * 3600.0
TICKET_LASTS: Final = 6 * 3600.0

LINKS_MOST: Final = 20
"""Unused links at a time; a further one replaces the oldest."""


class Sessions:
    """Links, sessions and tickets, signed with a key that exists in memory only. `now` gives UNIX seconds."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._key, self._now = secrets.token_bytes(32), now
        self._links: Recent[str, float] = Recent(LINKS_MOST)

    def new_link(self) -> str:
        """A code that is valid once, for an hour."""
        code = secrets.token_urlsafe(24)
        self._links[code] = self._now() + LINK_LASTS
        return code

    def redeem(self, code: str) -> str | None:
        """A session for a link's code; None when the code was used before, has expired or is unknown."""
        ends = self._links.pop(code, 0.0)
        return self.new_session() if ends > self._now() else None

    def new_session(self) -> str:
        """A session that is valid for a month, or until the program ends."""
        return self._signed("session", SESSION_LASTS)

    def is_session(self, token: str) -> bool:
        """Whether this session is valid."""
        return self._good("session", token)

    def ticket(self, job: str) -> str:
        """A ticket for the result of one job."""
        return self._signed(f"job {job}", TICKET_LASTS)

    def opens(self, job: str, ticket: str) -> bool:
        """Whether the ticket is valid for that job."""
        return self._good(f"job {job}", ticket)

    def _signed(self, purpose: str, lasts: float) -> str:
        ends = str(int(self._now() + lasts))
        return f"{ends}.{self._mark(purpose, ends)}"

    def _good(self, purpose: str, token: str) -> bool:
        ends, _, mark = token.partition(".")
        until = whole_number(ends, most=10**12)
        if until is None or not mark.isascii():
            return False
        return hmac.compare_digest(mark, self._mark(purpose, ends)) and until > self._now()

    def _mark(self, purpose: str, ends: str) -> str:
        return hmac.new(self._key, f"{purpose} {ends}".encode(), hashlib.sha256).hexdigest()


# A one-time link to the console, printed or opened in a browser.

PAGE: Final = "open-console.html"


def address(url: str, code: str) -> str:
    """The link. Browsers do not send the part after `#` to a server, and the page removes it from its address."""
    return f"{url}/#link={code}"


@contextmanager
def shown(state: Path, url: str, code: Callable[[], str], *, browser: bool) -> Iterator[None]:
    """Print the console's address; the link only on a terminal, since other readers may log it.

    `browser` also opens it in a browser.
    """
    if sys.stdout.isatty():
        say(f"web console: {address(url, code())}")
    else:
        say(f"web console: {url}/ (`wakestream console` gives a link that opens it)")
    if browser:
        in_browser(state, address(url, code()))
    try:
        yield
    finally:
        remove(state / PAGE)


def in_browser(state: Path, link: str) -> bool:
    """Open the link in the user's browser; False when that fails.

    The browser gets the path of a file that only this user can read, and that redirects to the link: all users of a
    machine can read the arguments of its processes.
    """
    path = state / PAGE
    text = f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={html.escape(link)}">'
    try:
        write_atomic(path, text.encode(), sync=False)
    except PermissionError:  # on Windows, while a browser still reads the last one
        return False
    return webbrowser.open(path.as_uri())
