"""When and from where each license was last used, and which GPU names it has reserved: the data of `audit`.

The hub writes this small file from time to time, not at each use, so the last seconds are missing after `kill -9`. It
decides about GPU names by its journal; the file is only for other programs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from loguru import logger

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.disk.documents import Documents, FolderDocuments
from wakestream.adapters.disk.state_file import DAMAGE, read_state

_FILE = "license_uses.json"

LEAST_PAUSE = 10.0
"""The least seconds between two writes of the file."""

REFRESH = 300.0
"""Seconds after which the times of connected licenses are written again."""


class Use(msgspec.Struct, frozen=True):
    """The last time, in UNIX seconds, and the caller's address."""

    last: float
    address: str


class Held(msgspec.Struct, frozen=True):
    """A GPU name that a license has reserved for a role by use."""

    role: str
    gpu: str
    license: str


class Noted(msgspec.Struct, frozen=True):
    """The content of the file."""

    uses: dict[str, Use] = {}
    held: tuple[Held, ...] = ()
    v: int = 1


@dataclass(slots=True)
class LicenseUses:
    """The file of one state folder. Only the hub writes it."""

    documents: Documents
    uses: dict[str, Use] = field(default_factory=dict)
    held: tuple[Held, ...] = ()
    _dirty: bool = False
    _saved: float = float("-inf")

    @classmethod
    def of_folder(cls, place: Path | Documents, *, writes: bool = False) -> LicenseUses:
        """Read the uses beside a hub's licenses; empty if there are none.

        Args:
            place: Where they are.
            writes: Whether this program writes them from now on. Then damage in a database gets another name and a
                warning, as it does in a folder.

        Raises:
            SettingsError: A later version wrote it, or what is in the database cannot be read.
        """
        parse, documents = msgspec.json.Decoder(Noted).decode, place
        if isinstance(documents, Path):
            documents = FolderDocuments(documents)
        if isinstance(documents, FolderDocuments):
            noted = read_state(documents.path(_FILE), parse, Noted())
        else:
            where, noted = documents.path(_FILE), Noted()
            try:
                if (content := documents.read(_FILE)) is not None:
                    noted = parse(content)
            except OSError as error:
                if not writes:
                    raise SettingsError(f"{where} cannot be read ({error.strerror})") from error
                logger.warning("{} cannot be read ({})", where, error.strerror)
            except DAMAGE as error:
                if not writes:
                    mend = "the hub writes it again when it starts or a license is used"
                    raise SettingsError(f"{where} is damaged ({error}); {mend}") from error
                aside = f"{_FILE}.damaged"
                logger.warning(
                    "{} is damaged ({}); it is now {}, and the hub continues without it", where, error, aside
                )
                cls(documents).write(content or b"", aside)
        return cls(documents, dict(noted.uses), noted.held)

    def note(self, license_: str, address: str, now: float) -> None:
        """Record that this license is used now."""
        self.uses[license_] = Use(now, address)
        self._dirty = True

    def left(self, license_: str, now: float) -> None:
        """Record that a connection of this license has ended."""
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
        """The text to `write` now; None if nothing is to be written yet.

        Args:
            here: The connected licenses.
            holders: The licenses that have reserved a name, by role and name.
            now: UNIX seconds.
            last: Whether the hub is stopping, so that it cannot wait.
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

    def write(self, text: bytes, name: str = _FILE) -> None:
        """Replace the file. An error is only logged, since the hub works without it; the uses are written later."""
        try:
            self.documents.write(name, text)
        except OSError as error:
            self._dirty = True
            where = self.documents.path(_FILE)
            logger.warning("{} cannot be written ({}); `wakestream audit` shows older uses", where, error.strerror)
