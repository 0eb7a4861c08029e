"""The hub's licenses: a JSON file of hashes. A key is shown once, when it is issued, and kept nowhere.

A key has 256 random bits; its SHA-256 is what the file holds, and the first digits of that are the license's id.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from base64 import b32encode
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from wakestream.adapters.file_lock import HeldElsewhereError, file_lock
from wakestream.adapters.patience import patiently, put
from wakestream.adapters.sync_folder import sync_folder
from wakestream.operators.errors import WakestreamError

ROLES = ("client", "worker", "monitor", "admin")
MAX_NOTE = 200
KEY_LENGTH = (8, 512)
"""Characters of a key that is imported: at least, and at most."""
LOCK_WITHIN = 10.0
"""Seconds that another process may hold the file before we give up."""
_ID = 12
_LEAST = 4  # characters of an id: a slip of the finger ends no license
_VERSION = 1


class LicenseError(WakestreamError):
    """The license file cannot be used as asked; ends a command like wrong settings do."""

    code = "settings"


@dataclass(frozen=True, slots=True)
class License:
    """One license, without its key. `issued` and `revoked` are UNIX seconds; `hash` is the key's SHA-256 in hex."""

    id: str
    role: str
    note: str
    issued: float
    hash: str
    revoked: float | None = None


class LicenseBook:
    """The licenses of one state folder. Several processes may issue and revoke at once, a hub reads along."""

    def __init__(self, state: Path) -> None:
        self.path = state / "licenses.json"
        self._seen: tuple[int, int, int] | None = None
        self._by_id: dict[str, License] = {}

    def all(self) -> Sequence[License]:
        """All licenses, oldest first, read anew. `LicenseError` when the file is not one of ours."""
        return tuple(self._read().values())

    def issue(self, role: str, note: str, now: float) -> tuple[License, str]:
        """A new license and its key, which cannot be had again."""
        _check(role, note)
        with self._locked():
            known = self._read()
            key = _new_key(role)
            while _digest(key)[:_ID] in known:
                key = _new_key(role)
            digest = _digest(key)
            license_ = License(digest[:_ID], role, note, now, digest)
            self._write({**known, license_.id: license_})
        return license_, key

    def admit(self, keys: Sequence[str], role: str, note: str, now: float) -> Sequence[License]:
        """Licenses for keys that users have already; one that is known with this role stays as it is.

        `LicenseError` for a key that is too short or too long, has another role or was revoked; then none is taken.
        """
        _check(role, note)
        for key in keys:
            _check_key(key)
        with self._locked():
            known = self._read()
            taken = [_admitted(known.get(_digest(key)[:_ID]), _digest(key), role, note, now) for key in keys]
            self._write(known | {one.id: one for one in taken})
        return taken

    def revoke(self, prefix: str, now: float) -> License:
        """Revoke the license whose id begins with `prefix` (4 characters or more); revoked already, it stays as it is.

        `LicenseError` where none or several begin so.
        """
        with self._locked():
            known = self._read()
            found = [id_ for id_ in known if prefix and id_.startswith(prefix)]
            if found and len(prefix) < _LEAST:
                raise LicenseError(f"give at least {_LEAST} characters of the id; `wakestream license list` shows them")
            if len(found) != 1:
                raise LicenseError(_none_or_many(prefix, found))
            license_ = known[found[0]]
            if license_.revoked is None:
                license_ = replace(license_, revoked=now)
                self._write({**known, license_.id: license_})
        return license_

    def refresh(self) -> frozenset[str]:
        """Read the file again if it changed; returns the ids that were valid before and are no longer.

        `LicenseError` when it is missing after it was there, or broken: what was known before then stays in force.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return frozenset()
        if stamp is None:
            raise LicenseError(f"{self.path} is gone; put it back, what it said stays in force until then")
        fresh = self._read()
        before = {id_ for id_, one in self._by_id.items() if one.revoked is None}
        self._by_id, self._seen = fresh, stamp
        return frozenset(before - {id_ for id_, one in fresh.items() if one.revoked is None})

    @property
    def revoked(self) -> frozenset[str]:
        """The ids of revoked licenses, as of the last `refresh`."""
        return frozenset(id_ for id_, one in self._by_id.items() if one.revoked is not None)

    def find(self, key: str) -> License | None:
        """The license of a key, as of the last `refresh`; revoked ones are found as well."""
        digest = _digest(key)
        license_ = self._by_id.get(digest[:_ID])
        if license_ is None or not hmac.compare_digest(license_.hash, digest):
            return None
        return license_

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LicenseError(f"{self.path} cannot be read ({error.strerror})") from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> dict[str, License]:
        try:
            text = patiently(self.path.read_bytes)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise LicenseError(f"{self.path} cannot be read ({error.strerror})") from error
        try:
            return {one.id: one for one in map(_license, _listed(orjson.loads(text)))}
        except (ValueError, TypeError, KeyError) as error:
            raise LicenseError(
                f"{self.path} is damaged and was left as it is; restore it from a copy, or move it away to begin anew"
            ) from error

    def _write(self, licenses: dict[str, License]) -> None:
        listed = [asdict(one) for one in licenses.values()]
        text = orjson.dumps({"v": _VERSION, "licenses": listed}, option=orjson.OPT_INDENT_2)
        try:
            _replace(self.path, text)
        except OSError as error:
            raise LicenseError(f"{self.path} cannot be written ({error.strerror})") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time; a lock of the operating system, so that one who dies leaves none behind."""
        lock = self.path.with_suffix(".lock")
        try:
            with file_lock(lock, LOCK_WITHIN):
                yield
        except HeldElsewhereError:
            why = f"{self.path} is held by another program for {LOCK_WITHIN:g} s already; end that, then try again"
            raise LicenseError(why) from None
        except OSError as error:
            raise LicenseError(f"{lock.parent} cannot be written to ({error.strerror}); choose --state") from error


def _check(role: str, note: str) -> None:
    if role not in ROLES:
        raise LicenseError(f"there is no role {role!r}; choose from {', '.join(ROLES)}")
    if len(note) > MAX_NOTE or not note.isprintable():
        raise LicenseError(f"a note is one line of {MAX_NOTE} characters at most")


def _check_key(key: str) -> None:
    least, most = KEY_LENGTH
    if not (least <= len(key) <= most and key.isprintable()):
        raise LicenseError(
            f"a key that is imported has {least} to {most} characters, all of them printable; see the file"
        )


def _admitted(known: License | None, digest: str, role: str, note: str, now: float) -> License:
    if known is None:
        return License(digest[:_ID], role, note, now, digest)
    if known.hash != digest:
        raise LicenseError(f"license {known.id} has another key whose hash begins alike; this key cannot be imported")
    if known.revoked is not None:
        raise LicenseError(f"license {known.id} has this key, and was revoked; give its users another key")
    if known.role != role:
        raise LicenseError(
            f"license {known.id} has this key already, with the role {known.role}; use a key for one role"
        )
    return known


def _listed(document: Any) -> list[dict[str, Any]]:
    if document["v"] != _VERSION or not isinstance(document["licenses"], list):
        raise ValueError("another version")
    return list(document["licenses"])


def _license(entry: dict[str, Any]) -> License:
    named = entry["role"] in ROLES and isinstance(entry["note"], str) and entry["hash"][:_ID] == entry["id"]
    dated = isinstance(entry["issued"], int | float) and isinstance(entry["revoked"], int | float | None)
    if not (named and dated and len(bytes.fromhex(entry["hash"])) == 32):
        raise ValueError("not a license")
    return License(**entry)


def _new_key(role: str) -> str:
    return f"ws_{role}_{b32encode(secrets.token_bytes(32)).decode().rstrip('=').lower()}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def _none_or_many(prefix: str, found: Sequence[str]) -> str:
    # What was typed is not shown: it may be a key, pasted by mistake.
    if found:
        return f"{len(found)} licenses begin with that ({', '.join(found[:5])}); give more of the id"
    hint = "; give the id, not the key" if prefix.startswith("ws_") else ""
    return f"no license has an id that begins with that{hint}; `wakestream license list` shows them"


def _replace(path: Path, text: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".licenses-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        put(Path(name), path)
        with contextlib.suppress(OSError):  # not every folder on a network can be synced
            sync_folder(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
