"""The hub's licenses: a JSON document of hashes. A key is shown once, when it is issued, and is not stored.

A key has 256 random bits. The file has its SHA-256, whose first digits are the license's id. A license keeps its id
when its key is replaced.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import time
from base64 import b32encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from wakestream.adapters.disk.documents import LOCK_WITHIN, Documents, FolderDocuments, HeldElsewhereError
from wakestream.adapters.disk.state_file import later_format
from wakestream.adapters.hub.license_entries import (
    ID_LENGTH,
    ROLES,
    VERSION,
    Content,
    Key,
    License,
    LicenseError,
    check_key,
    check_wanted,
    digest_of,
    imported,
    key_mark,
)

__all__ = ["ROLES", "License", "LicenseBook", "LicenseError", "key_mark"]

OLD_KEY_FOR = 24 * 3600.0
"""Seconds for which a replaced key is still valid."""
_NAME = "licenses.json"
_LEAST = 4  # characters of an id, so that a typing mistake revokes no license


class Document:
    """One document of a hub. Its faults are a `LicenseError` that names it."""

    def __init__(self, documents: Documents, name: str) -> None:
        self.documents, self.where = documents, documents.path(name)
        self._name = name

    def stamp(self) -> object:
        """A value that differs after each change; None for a missing document."""
        with self._faults("read"):
            return self.documents.stamp(self._name)

    def read(self) -> bytes | None:
        """Its content; None for a missing document."""
        with self._faults("read"):
            return self.documents.read(self._name)

    def write(self, content: bytes) -> None:
        """Replace its content."""
        with self._faults("written"):
            self.documents.write(self._name, content)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing it."""
        try:
            with self.documents.locked(self._name):
                yield
        except HeldElsewhereError:
            why = f"{self.where} is held by another program for {LOCK_WITHIN:g} s already; end it, then try again"
            raise LicenseError(why) from None
        except OSError as error:
            why = f"{self.documents.place} cannot be written to ({error.strerror}); choose --state"
            raise LicenseError(why) from error

    @contextlib.contextmanager
    def _faults(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LicenseError(f"{self.where} cannot be {what} ({error.strerror})") from error


class LicenseBook:
    """The licenses in a hub's folder, or among other documents.

    Several processes may change them at once; a running hub reads the changes.
    """

    def __init__(self, documents: Path | Documents) -> None:
        self.documents = FolderDocuments(documents) if isinstance(documents, Path) else documents
        self._file = Document(self.documents, _NAME)
        self._seen: object = None
        self._by_id: dict[str, License] = {}
        self._by_key: dict[str, tuple[License, Key]] = {}

    @property
    def path(self) -> Path:
        """The file, if the licenses are in a folder."""
        return Path(self._file.where)

    def all(self) -> Sequence[License]:
        """Read all licenses from the file, oldest first. `LicenseError`: it is not a license file."""
        return tuple(self._read().values())

    def issue(
        self, role: str, note: str, now: float, gpus: Sequence[str] = (), max_priority: int = 0, weight: int = 1
    ) -> tuple[License, str]:
        """Issue a license; returns it with its key, which cannot be shown again. `gpus` limits a worker or monitor."""
        check_wanted(role, note, gpus, max_priority, weight)
        with self._file.locked():
            known = self._read()
            key = _unused_key(known, role)
            digest = digest_of(key)
            license_ = License(
                digest[:ID_LENGTH], role, note, now, digest, None, tuple(gpus), max_priority=max_priority, weight=weight
            )
            self._write({**known, license_.id: license_})
        return license_, key

    def admit(
        self, keys: Sequence[str], role: str, note: str, now: float, gpus: Sequence[str] = ()
    ) -> Sequence[License]:
        """Import keys that users already have. A key that is known with this role and GPUs is left unchanged.

        `LicenseError`: a key is too short or too long, has another role, or was revoked. Then no key is imported.
        """
        check_wanted(role, note, gpus)
        for key in keys:
            check_key(key)
        with self._file.locked():
            known = self._read()
            known_keys = _by_key(known.values())
            digests = map(digest_of, keys)
            fresh = [License(digest[:ID_LENGTH], role, note, now, digest, None, tuple(gpus)) for digest in digests]
            taken = [imported(known_keys.get(license_.id), license_) for license_ in fresh]
            self._write(known | {license_.id: license_ for license_ in taken})
        return taken

    def rotate(self, prefix: str, now: float, old_for: float = OLD_KEY_FOR) -> tuple[License, str]:
        """Replace the key of the license whose id begins with `prefix`; the old key is valid `old_for` seconds longer.

        `LicenseError`: no license or several begin with it, or it was revoked.
        """
        key = ""

        def replaced(license_: License, known: dict[str, License]) -> License:
            nonlocal key
            if license_.revoked is not None:
                raise LicenseError(f"license {license_.id} was revoked; issue another one")
            key = _unused_key(known, license_.role)
            *former, present = (held for held in license_.all_keys if held.until is None or held.until > now)
            return replace(license_, keys=(*former, Key(present.hash, now + old_for), Key(digest_of(key))))

        return self._change(prefix, replaced), key

    def change(self, prefix: str, max_priority: int | None, weight: int | None) -> License:
        """Change what the license whose id begins with `prefix` may have; None changes nothing.

        `LicenseError`: no id or several begin with it, or its role submits no jobs.
        """

        def changed(license_: License, _: dict[str, License]) -> License:
            priority = license_.max_priority if max_priority is None else max_priority
            share = license_.weight if weight is None else weight
            check_wanted(license_.role, license_.note, license_.gpus, priority, share)
            return replace(license_, max_priority=priority, weight=share)

        return self._change(prefix, changed)

    def release(self, prefix: str, now: float) -> License:
        """Free the GPU names that a license has reserved by use. It keeps those that it was issued for.

        `LicenseError`: no id or several begin with `prefix`.
        """
        return self._change(prefix, lambda license_, _: replace(license_, released=now))

    def revoke(self, prefix: str, now: float) -> License:
        """Revoke the license whose id begins with `prefix` (4 characters or more), unless it is revoked already.

        `LicenseError`: no id or several begin with it.
        """
        return self._change(
            prefix, lambda license_, _: license_ if license_.revoked is not None else replace(license_, revoked=now)
        )

    def _change(self, prefix: str, change: Callable[[License, dict[str, License]], License]) -> License:
        """Replace the license whose id begins with `prefix`."""
        with self._file.locked():
            known = self._read()
            matching = [id_ for id_ in known if prefix and id_.startswith(prefix)]
            if matching and len(prefix) < _LEAST:
                raise LicenseError(f"give at least {_LEAST} characters of the id; `wakestream license list` shows them")
            if len(matching) != 1:
                raise LicenseError(_none_or_many(prefix, matching))
            license_ = change(known[matching[0]], known)
            self._write({**known, license_.id: license_})
        return license_

    def refresh(self) -> frozenset[str]:
        """Read the file if it has changed; returns the ids that are no longer valid.

        `LicenseError`: the file was removed or is damaged. The licenses that were read before stay valid.
        """
        stamp = self._file.stamp()
        if stamp == self._seen:
            return frozenset()
        if stamp is None:
            raise LicenseError(f"{self._file.where} is gone; put it back, what it said stays in force until then")
        fresh = self._read()
        before = {id_ for id_, license_ in self._by_id.items() if license_.revoked is None}
        self._by_id, self._seen, self._by_key = fresh, stamp, _by_key(fresh.values())
        return frozenset(before - {id_ for id_, license_ in fresh.items() if license_.revoked is None})

    @property
    def revoked(self) -> frozenset[str]:
        """The ids of revoked licenses, as of the last `refresh`."""
        return frozenset(id_ for id_, license_ in self._by_id.items() if license_.revoked is not None)

    @property
    def tied(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        """Id, role and GPUs of each valid license that is limited to GPUs, as of the last `refresh`."""
        valid = (license_ for license_ in self._by_id.values() if license_.revoked is None)
        return tuple((license_.id, license_.role, license_.gpus) for license_ in valid if license_.gpus)

    @property
    def released(self) -> tuple[tuple[str, float], ...]:
        """The licenses whose GPU names were freed, with the time, as of the last `refresh`."""
        return tuple(
            (license_.id, license_.released) for license_ in self._by_id.values() if license_.released is not None
        )

    @property
    def weights(self) -> tuple[tuple[str, int], ...]:
        """The licenses with another weight than 1, as of the last `refresh`."""
        return tuple((license_.id, license_.weight) for license_ in self._by_id.values() if license_.weight != 1)

    @property
    def stamp(self) -> object:
        """Which content of the file was read by the last `refresh`."""
        return self._seen

    @property
    def has_admin(self) -> bool:
        """Whether there is a valid license of role `admin`, as of the last `refresh`."""
        return any(license_.role == "admin" and license_.revoked is None for license_ in self._by_id.values())

    def __contains__(self, id_: object) -> bool:
        """Whether a license has this id, as of the last `refresh`."""
        return id_ in self._by_id

    def get(self, id_: str) -> License | None:
        """The license of this id, as of the last `refresh`."""
        return self._by_id.get(id_)

    def is_valid(self, mark: str, now: float) -> bool:
        """Whether the key of this mark (`key_mark`) is valid, as of the last `refresh`."""
        license_, key = self._by_key.get(mark, (None, None))
        return license_ is not None and key is not None and license_.revoked is None and key.is_valid(now)

    def find(self, key: str, now: float | None = None) -> License | None:
        """The license of a key, as of the last `refresh`, even if it was revoked.

        If the key was replaced and is no longer valid, the license is returned as revoked.
        """
        digest = digest_of(key)
        license_, kept = self._by_key.get(digest[:ID_LENGTH], (None, None))
        if license_ is None or kept is None or not hmac.compare_digest(kept.hash, digest):
            return None
        over = not kept.is_valid(time.time() if now is None else now)
        return replace(license_, revoked=kept.until) if over and license_.revoked is None else license_

    def replaced(self, now: float) -> frozenset[str]:
        """The marks (`key_mark`) of replaced keys that are no longer valid, as of the last `refresh`."""
        over = ((mark, key) for mark, (_, key) in self._by_key.items() if key.until is not None and key.until <= now)
        return frozenset(mark for mark, _ in over)

    def _read(self) -> dict[str, License]:
        text = self._file.read()
        if text is None:
            return {}
        try:
            if later := later_format(self._file.where, text, VERSION):
                raise LicenseError(later)
            return {license_.id: license_ for license_ in msgspec.json.decode(text, type=Content).licenses}
        except ValueError as error:
            where = f"{self._file.where} is damaged and was left as it is"
            raise LicenseError(f"{where}; restore a backup, or move it away to begin again") from error

    def _write(self, licenses: dict[str, License]) -> None:
        text = msgspec.json.encode(Content(VERSION, [*licenses.values()]))
        self._file.write(msgspec.json.format(text, indent=2))


def _by_key(licenses: Iterable[License]) -> dict[str, tuple[License, Key]]:
    return {key.hash[:ID_LENGTH]: (license_, key) for license_ in licenses for key in license_.all_keys}


def _unused_key(known: dict[str, License], role: str) -> str:
    """A new key whose mark is not in use."""
    taken = known.keys() | _by_key(known.values()).keys()
    key = _new_key(role)
    while key_mark(key) in taken:
        key = _new_key(role)
    return key


def _new_key(role: str) -> str:
    return f"ws_{role}_{b32encode(secrets.token_bytes(32)).decode().rstrip('=').lower()}"


def _none_or_many(prefix: str, ids: Sequence[str]) -> str:
    # Do not show the text: it may be a key that was pasted by mistake.
    if ids:
        return f"{len(ids)} licenses begin with that ({', '.join(ids[:5])}); give more of the id"
    hint = "; give the id, not the key" if prefix.startswith("ws_") else ""
    return f"no license has an id that begins with that{hint}; `wakestream license list` shows them"
