"""Sessions of operators. They exist in memory only and end with the hub: after that another program may listen at its
port, and receive the session that a page sends."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LASTS: Final = 12 * 3600.0
"""Seconds for which a session is valid."""

MOST: Final = 100
"""Sessions at a time; a further one replaces the oldest."""


@dataclass(frozen=True, slots=True)
class Session:
    """One session: the license id, the mark of the key that was shown (`key_mark`), and its end in UNIX seconds."""

    license: str
    mark: str
    until: float


class Sessions:
    """The sessions of a running hub. `now` gives UNIX seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._open: dict[bytes, Session] = {}

    def begin(self, license_: str, mark: str) -> tuple[str, Session]:
        """A new session and its token."""
        token = secrets.token_urlsafe(32)
        session = Session(license_, mark, self._now() + LASTS)
        while len(self._open) >= MOST:
            del self._open[next(iter(self._open))]
        self._open[_hash(token)] = session
        return token, session

    def find(self, token: str) -> Session | None:
        """The valid session of a token. Only hashes are compared, so the time that it takes tells nothing."""
        found = self._open.get(_hash(token))
        return found if found is not None and found.until > self._now() else None

    def end(self, token: str) -> None:
        """End a session."""
        self._open.pop(_hash(token), None)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
