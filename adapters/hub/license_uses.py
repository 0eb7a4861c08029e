"""When and from where each license was last used, and which GPU names it came to hold: what a hub notes for `audit`.

The hub replaces this small file now and then, not at each use: after `kill -9` the last seconds are missing. What
decides about names is in the hub's journal; here they are only to be read by other programs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from loguru import logger

from wakestream.adapters.disk.atomic import write_atomic

LEAST_PAUSE = 10.0
"""Seconds between two times that the file is written."""

REFRESH = 300.0
"""Seconds after which the use of licenses that stay connected is noted again."""


class Use(msgspec.Struct, frozen=True):
    """The last time, in UNIX seconds, and the caller's address."""

    last: float
    address: str


class Held(msgspec.Struct, frozen=True):
    """The name of a GPU that a license came to hold in a role by using it."""

    role: str
    gpu: str
    license: str


class Noted(msgspec.Struct, frozen=True):
    """All that the file says."""

    uses: dict[str, Use] = {}
    held: tuple[Held, ...] = ()
    v: int = 1


@dataclass(slots=True)
class LicenseUses:
    """The file of one state folder. Only a hub writes it."""

    path: Path
    uses: dict[str, Use] = field(default_factory=dict)
    held: tuple[Held, ...] = ()
    _dirty: bool = False
    _saved: float = float("-inf")

    @classmethod
    def of_folder(cls, state: Path) -> LicenseUses:
        """What the hub of this folder noted last; nothing where there is no such file, or it cannot be read."""
        path = state / "license_uses.json"
        try:
            noted = msgspec.json.decode(path.read_bytes(), type=Noted)
        except FileNotFoundError:
            noted = Noted()
        except (OSError, ValueError) as error:
            logger.warning("{} cannot be read ({}); it is written again as licenses are used", path, error)
            noted = Noted()
        return cls(path, dict(noted.uses), noted.held)

    def note(self, license_: str, address: str, now: float) -> None:
        """This license is used now."""
        self.uses[license_] = Use(now, address)
        self._dirty = True

    def left(self, license_: str, now: float) -> None:
        """A connection of this license has ended."""
        if license_ in self.uses:
            self.note(license_, self.uses[license_].address, now)

    def due(
        self,
        here: Collection[str],
        holders: Mapping[tuple[str, str], tuple[str, float]],
        now: float,
        *,
        last: bool = False,
    ) -> bytes | None:
        """What to `write` now, if anything. `here` are the licenses that are connected, `holders` those of names.

        The `last` time, it does not wait for others.
        """
        held = tuple(Held(role, gpu, license_) for (role, gpu), (license_, _) in holders.items())
        changed = self._dirty or held != self.held
        pause = 0.0 if last else LEAST_PAUSE if changed else REFRESH
        if not (changed or here) or abs(now - self._saved) < pause:
            return None
        for license_ in here:
            self.left(license_, now)
        self.held, self._dirty, self._saved = held, False, now
        return msgspec.json.encode(Noted(self.uses, held))

    def write(self, text: bytes) -> None:
        """Replace the file; a disk that is full ends no hub."""
        try:
            write_atomic(self.path, text)
        except OSError as error:
            logger.warning("{} cannot be written ({}); `wakestream audit` shows older uses", self.path, error.strerror)
