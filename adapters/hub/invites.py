"""The hub's invitations: codes that are good once, for a quarter of an hour, and give a license of one role."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import orjson

from wakestream.adapters.disk.documents import Documents
from wakestream.adapters.disk.state_file import later_format
from wakestream.adapters.hub.license_entries import INVITED_ROLES, check_wanted
from wakestream.adapters.hub.licenses import Document, LicenseBook, LicenseError
from wakestream.adapters.net.pairing import Code, new_code

LASTS: Final = 15 * 60.0
"""Seconds for which a code is valid."""

TRIES: Final = 3
"""Guesses of a code. One guess is right with a chance of one in a million."""

_FILE: Final = "invites.json"

MOST: Final = 100
"""Codes that may be valid at once."""


@dataclass(frozen=True, slots=True)
class Invite:
    """An invitation.

    Attributes:
        code: The code.
        role: The role of the license that it gives.
        until: When it ends (Unix seconds).
        note: What the license is for, in the owner's words.
        gpus: The GPUs that a worker or monitor may serve; empty for any.
        public: The hub's address for the guest; empty for the one that it used.
        tries: Guesses so far.
    """

    code: Code
    role: str
    until: float
    note: str = ""
    gpus: tuple[str, ...] = ()
    public: str = ""
    tries: int = 0


class Invites:
    """The invitations beside a hub's licenses. Several processes may change them; the hub reads them at each use."""

    def __init__(self, documents: Path | Documents) -> None:
        self._book = LicenseBook(documents)
        self._file = Document(self._book.documents, _FILE)

    def create(self, role: str, now: float, note: str = "", gpus: Sequence[str] = (), public: str = "") -> Invite:
        """Make an invitation. Raises `LicenseError`: role or GPUs are wrong, or the folder cannot be written."""
        check_wanted(role, note, gpus)
        if role not in INVITED_ROLES:
            raise LicenseError("a front joins without a code; run: wakestream license issue --role front > front.key")
        with self._file.locked():
            known = self._unended(now)
            if len(known) >= MOST:
                raise LicenseError(f"{MOST} codes are valid at once; wait until some have ended")
            taken = [other.code.name for other in known]
            code = next(code for code in iter(new_code, None) if code.name not in taken)
            invite = Invite(code, role, now + LASTS, note, tuple(gpus), public)
            self._write([*known, invite])
        return invite

    def find(self, name: str, now: float) -> Invite | None:
        """The valid invitation whose code has this name."""
        return next((invite for invite in self.valid(now) if invite.code.name == name), None)

    def reserve(self, invite: Invite, now: float) -> int | None:
        """Count a guess before it is checked; returns how many are left after it.

        None: it may not be checked, since none was left or the invitation was used.
        """
        with self._file.locked():
            valid = next((other for other in self.valid(now) if other.code == invite.code), None)
            if valid is None:
                return None
            counted = replace(valid, tries=valid.tries + 1)
            self._write(counted if other == valid else other for other in self._unended(now))
        return TRIES - counted.tries

    def redeem(self, invite: Invite, now: float, note: str) -> tuple[str, str]:
        """Issue the license of an invitation, and use the invitation up; returns the license's id and its key.

        Raises `LicenseError`: it was used in the meantime, or one of both files cannot be written. It stays valid then.
        """
        with self._file.locked():
            known = self._unended(now)
            if all(other.code != invite.code for other in known):
                raise LicenseError("this code was used already; ask for a new one")
            license_, key = self._book.issue(invite.role, invite.note or note, now, invite.gpus)
            try:
                self._write([other for other in known if other.code != invite.code])
            except LicenseError:
                self._book.revoke(license_.id, now)
                raise
        return license_.id, key

    def valid(self, now: float) -> list[Invite]:
        """The codes that can be guessed, the oldest first. Raises `LicenseError`: the file cannot be used."""
        return [invite for invite in self._unended(now) if invite.tries < TRIES]

    def _unended(self, now: float) -> list[Invite]:
        """The codes that are valid, with those whose last guess is being checked."""
        text = self._file.read() or b"[]"
        try:
            if later := later_format(self._file.where, text):
                raise LicenseError(later)
            invites = msgspec.convert(orjson.loads(text), list[Invite])
        except (ValueError, msgspec.ValidationError) as error:
            raise LicenseError(f"{self._file.where} is damaged; remove it, and make new codes") from error
        # A clock that was set back must not extend a code.
        return [invite for invite in invites if now < invite.until <= now + LASTS]

    def _write(self, invites: Iterable[Invite]) -> None:
        self._file.write(orjson.dumps([asdict(invite) for invite in invites]))
