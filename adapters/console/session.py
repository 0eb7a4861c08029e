"""Who may use the console's page: a link that is good once becomes a session, and a session opens single files.

A cookie would be sent to every port of this machine, other users' servers included. So the page keeps its session in
its origin's own storage and shows it as a bearer; what a `<video>` or a download asks for is opened by a ticket in the
address, which is good for one job and a few hours.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from wakestream.adapters.patience import put
from wakestream.operators.errors import FileUnusable

FILE: Final = "console.json"

LINK_LASTS: Final = 3600.0
SESSION_LASTS: Final = 30 * 24 * 3600.0
TICKET_LASTS: Final = 6 * 3600.0

LINKS_MOST: Final = 20
"""Links that may be out at once; a further one takes the place of the oldest."""


class Memory:
    """What outlives the program, in a file that only its user can read: the key of all sessions, and the last port."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        found = _read(self._path)
        self.key: str = found.get("key") if _is_key(found.get("key")) else secrets.token_hex(32)  # type: ignore[assignment]  # checked
        port = found.get("port")
        self.port: int = port if type(port) is int and 0 < port < 65536 else 0

    def keep(self, port: int) -> None:
        """Remember, with this port. `FileUnusable` when the file cannot be written."""
        self.port = port
        fresh = self._path.with_name(f".{FILE}.{os.getpid()}")
        try:
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(orjson.dumps({"key": self.key, "port": port}))
            put(fresh, self._path)
        except OSError as error:
            why = f"{self._path} cannot be written: {error.strerror or error}; choose another --state"
            raise FileUnusable(why) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        plain = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return plain if isinstance(plain, dict) else {}


def _is_key(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64


class Sessions:
    """Links, sessions and tickets, all made of `key`. `now` gives UNIX seconds."""

    def __init__(self, key: str, now: Callable[[], float] = time.time) -> None:
        self._key, self._now = key.encode(), now
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
        """A session that lasts a month."""
        return self._signed("session", SESSION_LASTS)

    def is_session(self, token: str) -> bool:
        """Whether this is a session of ours, and still good."""
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
        if not ends.isascii() or not ends.isdigit() or len(ends) > 12 or not mark.isascii():
            return False
        return hmac.compare_digest(mark, self._mark(purpose, ends)) and int(ends) > self._now()

    def _mark(self, purpose: str, ends: str) -> str:
        return hmac.new(self._key, f"{purpose} {ends}".encode(), hashlib.sha256).hexdigest()
