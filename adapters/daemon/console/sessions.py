"""Who may use the console's page: a link that is good once becomes a session, and a session opens single files.

A cookie would be sent to every port of this machine, other users' servers included. So the page keeps its session in
its origin's own storage and shows it as a bearer; what a `<video>` or a download asks for is opened by a ticket in the
address, which is good for one job and a few hours.

All of them end with the program: while it is away any other may listen at its port and is shown a page's session.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson

from wakestream.adapters.config.numbers import whole_number
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.operators.model.errors import FileUnusable

FILE: Final = "console.json"

LINK_LASTS: Final = 3600.0
SESSION_LASTS: Final = 30 * 24 * 3600.0
TICKET_LASTS: Final = 6 * 3600.0

LINKS_MOST: Final = 20
"""Links that may be out at once; a further one takes the place of the oldest."""


def last_port(state: Path) -> int:
    """The port of the last run, 0 where none is known."""
    try:
        plain = orjson.loads((state / FILE).read_bytes())
    except (OSError, ValueError):
        return 0
    port = plain.get("port") if isinstance(plain, dict) else None
    return port if type(port) is int and 0 < port < 65536 else 0


def keep_port(state: Path, port: int) -> None:
    """Remember it for the next run. `FileUnusable` when the file cannot be written."""
    path = state / FILE
    try:
        write_atomic(path, orjson.dumps({"port": port}), sync=False)
    except OSError as error:
        why = f"{path} cannot be written: {error.strerror or error}; choose another --state"
        raise FileUnusable(why) from error


class Sessions:
    """Links, sessions and tickets, all made of one key that is kept nowhere else. `now` gives UNIX seconds."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._key, self._now = secrets.token_bytes(32), now
        self._links: dict[str, float] = {}

    def new_link(self) -> str:
        """A code that is good once, within the hour."""
        code = secrets.token_urlsafe(24)
        while len(self._links) >= LINKS_MOST:
            del self._links[next(iter(self._links))]
        self._links[code] = self._now() + LINK_LASTS
        return code

    def redeem(self, code: str) -> str | None:
        """A session for a link's code; None when it was used already, or is too old, or was never given out."""
        ends = self._links.pop(code, 0.0)
        return self.new_session() if ends > self._now() else None

    def new_session(self) -> str:
        """A session that lasts a month, if the program does."""
        return self._signed("session", SESSION_LASTS)

    def is_session(self, token: str) -> bool:
        """Whether this session exists and is still valid."""
        return self._good("session", token)

    def ticket(self, job: str) -> str:
        """Opens the result of one job."""
        return self._signed(f"job {job}", TICKET_LASTS)

    def opens(self, job: str, ticket: str) -> bool:
        """Whether the ticket is for that job, and still good."""
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
