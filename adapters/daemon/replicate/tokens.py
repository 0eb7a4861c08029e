"""The tokens of programs that use the API, and what each may do. The file has hashes, and no token.

`wakestream token` writes the file; a running daemon reads it again when it has changed.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.disk.state_file import keep_state, read_state
from wakestream.streams.protocol.printable import LONGEST_NAME, is_name

FILE: Final = "tokens.json"
USES: Final = "token-uses.json"

MEND: Final = "restore it from a backup, or remove it and make new tokens"
"""What to do about a damaged file. It is not moved aside, since that would shut out all programs."""

PREFIX: Final = "wst_"
"""What tokens begin with, so that a search for forgotten secrets finds them."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A program's token.

    Attributes:
        name: The program.
        hash: SHA-256 of the token, in hex.
        secret: Signs the webhooks for this program.
        made: When it was made, in UNIX seconds.
        kinds: The kinds that it may use; all, if it is empty.
        per_day: The predictions that it may start each day (UTC); 0: any number.
    """

    name: str
    hash: str
    secret: str
    made: float
    kinds: tuple[str, ...] = ()
    per_day: int = 0

    def allows(self, kind: str) -> bool:
        """Whether the program may use this kind."""
        return not self.kinds or kind in self.kinds


class _File(msgspec.Struct):
    tokens: list[Token] = []
    v: int = 1


class _Uses(msgspec.Struct):
    day: str = ""
    used: dict[str, int] = {}
    v: int = 1


class Tokens:
    """The tokens in a daemon's folder. `now` gives UNIX seconds.

    Example:
        >>> tokens = Tokens(folder)
        >>> text = tokens.add("shop", ("upscale",), per_day=100)
        >>> tokens.of(text).name
        'shop'
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._path, self._uses_path, self._now = folder / FILE, folder / USES, now
        self._seen: tuple[int, int] | None = None
        self._known: dict[str, Token] = {}
        self._uses = read_state(self._uses_path, msgspec.json.Decoder(_Uses).decode, _Uses(), cache=True)

    def all(self) -> list[Token]:
        """All tokens, in the order in which they were made. `SettingsError` if their file cannot be used."""
        try:
            status = self._path.stat()
            seen = status.st_mtime_ns, status.st_size
        except OSError:
            seen = None
        if seen != self._seen:
            file = read_state(self._path, msgspec.json.Decoder(_File).decode, _File(), mend=MEND)
            self._known, self._seen = {token.hash: token for token in file.tokens}, seen
        return [*self._known.values()]

    def of(self, text: str) -> Token | None:
        """The token with this text."""
        self.all()
        return self._known.get(_hash(text))

    def named(self, name: str) -> Token | None:
        """The token of this program."""
        return next((token for token in self.all() if token.name == name), None)

    def add(self, name: str, kinds: tuple[str, ...] = (), per_day: int = 0) -> str:
        """Make a token, and return its text, which is not stored. `SettingsError` if the name cannot be used."""
        if not is_name(name) or " " in name:
            raise SettingsError(
                f"{name[:40]!r} is no name; give 1 to {LONGEST_NAME} printable characters without blanks"
            )
        if self.named(name) is not None:
            raise SettingsError(f"there is a token {name} already; remove it first: wakestream token rm {name}")
        text = PREFIX + secrets.token_urlsafe(32)
        secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        made = Token(name=name, hash=_hash(text), secret=secret, made=self._now(), kinds=kinds, per_day=per_day)
        self._write([*self.all(), made])
        return text

    def remove(self, name: str) -> None:
        """Remove the token of a program. `SettingsError` if it has no token."""
        if self.named(name) is None:
            raise SettingsError(f"there is no token {name[:40]!r}; `wakestream token list` shows those that are")
        self._write([token for token in self.all() if token.name != name])

    def _write(self, tokens: list[Token]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self._path, msgspec.json.encode(_File(tokens)))

    def used(self, token: Token) -> int:
        """The predictions that it has started today."""
        return self._uses.used.get(token.name, 0) if self._uses.day == self._today() else 0

    def take(self, token: Token) -> bool:
        """Count one more prediction of today; False if that is one too many."""
        used = self.used(token)
        if token.per_day and used >= token.per_day:
            return False
        if self._uses.day != self._today():
            self._uses = _Uses(self._today())
        self._uses.used[token.name] = used + 1
        return True

    def give_back(self, token: Token) -> None:
        """Do not count a prediction that was refused."""
        self._uses.used[token.name] = max(0, self.used(token) - 1)

    async def keep(self) -> None:
        """Store what was counted."""
        await keep_state(self._uses_path, msgspec.json.encode(self._uses))

    def _today(self) -> str:
        return time.strftime("%Y-%m-%d", time.gmtime(self._now()))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
