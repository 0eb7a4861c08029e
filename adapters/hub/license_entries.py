"""What the hub keeps of a license, how it stands in the file, and what may be in one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from wakestream.operators.model.errors import WakestreamError
from wakestream.streams.protocol.printable import LONGEST_NAME, is_name, printable

ROLES = ("client", "worker", "monitor", "admin")
TIED_ROLES = ("worker", "monitor")
"""The roles whose keys may be for certain GPUs alone."""
MAX_NOTE = 200
KEY_LENGTH = (8, 512)
"""Characters of a key that is imported: at least, and at most."""
ID_LENGTH = 12
VERSION = 1
_LATER = ("gpus", "released", "keys")


class LicenseError(WakestreamError):
    """The license file cannot be used as asked; ends a command like wrong settings do."""

    code = "settings"


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a license that has been given another: its SHA-256 in hex, and until when it works (UNIX seconds)."""

    hash: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class License:
    """One license, without its key. `issued` and `revoked` are UNIX seconds; `hash` is the first key's SHA-256 in hex.

    `gpus` are the names of the GPUs that it is for (none: it is not tied to any). `released` is until when the names
    that it had come to hold by using them are free. `keys` are its keys if it was given another, the present one last.
    """

    id: str
    role: str
    note: str
    issued: float
    hash: str
    revoked: float | None = None
    gpus: tuple[str, ...] = ()
    released: float | None = None
    keys: tuple[Key, ...] = ()

    @property
    def all_keys(self) -> tuple[Key, ...]:
        """All keys that it had, as far as they are kept; the present one last."""
        return self.keys or (Key(self.hash),)


def digest_of(key: str) -> str:
    """The SHA-256 of a key, in hex."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def key_mark(key: str) -> str:
    """What tells a key from others, without being one."""
    return digest_of(key)[:ID_LENGTH]


def check_wanted(role: str, note: str, gpus: Sequence[str]) -> None:
    """`LicenseError` for a role, note or GPU that no license may have."""
    if role not in ROLES:
        raise LicenseError(f"there is no role {role!r}; choose from {', '.join(ROLES)}")
    if len(note) > MAX_NOTE or printable(note) != note:
        raise LicenseError(f"a note is one line of {MAX_NOTE} characters at most")
    if gpus and role not in TIED_ROLES:
        raise LicenseError(f"a key of a {role} is for no GPU; leave --gpu out")
    if not all(map(is_name, gpus)):
        raise LicenseError(
            f"a GPU's name has 1 to {LONGEST_NAME} characters, all of them printable, no blank at its ends"
        )


def check_key(key: str) -> None:
    """`LicenseError` for a key that may not be imported."""
    least, most = KEY_LENGTH
    if not (least <= len(key) <= most and key.isprintable()):
        raise LicenseError(
            f"a key that is imported has {least} to {most} characters, all of them printable; see the file"
        )


def admitted(found: tuple[License, Key] | None, fresh: License) -> License:
    """The license of an imported key: `fresh`, unless it was `found`. `LicenseError` where that is another."""
    if found is None:
        return fresh
    known, key = found
    if key.hash != fresh.hash:
        raise LicenseError(f"license {known.id} has another key whose hash begins alike; this key cannot be imported")
    if known.revoked is not None:
        raise LicenseError(f"license {known.id} has this key, and was revoked; give its users another key")
    if key.until is not None:
        raise LicenseError(f"license {known.id} had this key, which was replaced; give its users another key")
    if known.role != fresh.role:
        raise LicenseError(
            f"license {known.id} has this key already, with the role {known.role}; use a key for one role"
        )
    if known.gpus != fresh.gpus:
        raise LicenseError(f"license {known.id} has this key already, for other GPUs; use a key for each")
    return known


def listed(document: Any) -> list[dict[str, Any]]:
    """The entries of the file's document. `ValueError`, `TypeError`, `KeyError` for what is none of ours."""
    if document["v"] != VERSION or not isinstance(document["licenses"], list):
        raise ValueError("another version")
    return list(document["licenses"])


def entry_of(one: License) -> dict[str, Any]:
    """The license as it stands in the file; without what is not there, so that earlier versions can read it."""
    return {name: value for name, value in asdict(one).items() if name not in _LATER or value}


def license_of(entry: dict[str, Any]) -> License:
    """The license of an entry. `ValueError`, `TypeError`, `KeyError` for what is none."""
    entry = dict(entry)
    gpus, keys = tuple(entry.pop("gpus", ())), tuple(Key(**key) for key in entry.pop("keys", ()))
    named = entry["role"] in ROLES and isinstance(entry["note"], str) and entry["hash"][:ID_LENGTH] == entry["id"]
    dated = isinstance(entry["issued"], int | float) and isinstance(entry["revoked"], int | float | None)
    hashed = all(len(bytes.fromhex(text)) == 32 for text in (entry["hash"], *(key.hash for key in keys)))
    dated = dated and isinstance(entry.get("released"), int | float | None)
    dated = dated and all(isinstance(key.until, int | float | None) for key in keys)
    if not (named and dated and hashed and all(isinstance(name, str) for name in gpus)):
        raise ValueError("not a license")
    return License(**entry, gpus=gpus, keys=keys)
