"""The stored data of a license, its format in the file, and its limits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from wakestream.operators.model.errors import WakestreamError
from wakestream.streams.protocol.printable import LONGEST_NAME, is_name, printable

ROLES = ("client", "worker", "monitor", "depot", "front", "admin")
INVITED_ROLES = tuple(role for role in ROLES if role != "front")
TIED_ROLES = ("worker", "monitor")
"""The roles whose licenses may be limited to certain GPUs."""
MAX_NOTE = 200
KEY_LENGTH = (8, 512)
"""The least and the most characters of an imported key."""
ID_LENGTH = 12
VERSION: Final = 1


class LicenseError(WakestreamError):
    """The license file cannot be used, or a request is not valid; a command ends as with wrong settings."""

    code = "settings"


class Key(msgspec.Struct, frozen=True):
    """One of several keys of a license: its SHA-256 in hex, and until when it is valid (UNIX seconds)."""

    hash: str
    until: float | None = None

    def __post_init__(self) -> None:
        if len(bytes.fromhex(self.hash)) != 32:
            raise ValueError("not a SHA-256")

    def is_valid(self, now: float) -> bool:
        """Whether it is valid at this time."""
        return self.until is None or now < self.until


class License(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One license, without its key. Times are UNIX seconds.

    The fields with a default came later: they are in the file only if they are set, so that earlier versions read it.

    Args:
        id: The first digits of `hash`.
        role: The role of the programs that use it.
        note: Text for the operator.
        issued: When it was issued.
        hash: The SHA-256 of its first key, in hex.
        revoked: When it was revoked.
        gpus: The GPUs that it is limited to; empty for no limit.
        released: When the GPU names that it had reserved by use were freed last.
        keys: All its keys if the key was replaced; the current one is the last.
        max_priority: The highest priority that its jobs may have.
        weight: Its share of the GPUs while others wait too: one of weight 2 gets twice as much.
    """

    id: str
    role: str
    note: str
    issued: float
    hash: str
    revoked: float | None
    gpus: tuple[str, ...] = ()
    released: float | None = None
    keys: tuple[Key, ...] = ()
    max_priority: int = 0
    weight: int = 1

    def __post_init__(self) -> None:
        if self.role not in ROLES or Key(self.hash).hash[:ID_LENGTH] != self.id or self.weight < 1:
            raise ValueError("not a license")

    @property
    def all_keys(self) -> tuple[Key, ...]:
        """All its stored keys; the current one is the last."""
        return self.keys or (Key(self.hash),)


class Content(msgspec.Struct):
    """The content of the file."""

    v: Literal[1]
    licenses: list[License]


def digest_of(key: str) -> str:
    """The SHA-256 of a key, in hex."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def key_mark(key: str) -> str:
    """A short public mark of a key."""
    return digest_of(key)[:ID_LENGTH]


def check_wanted(role: str, note: str, gpus: Sequence[str], max_priority: int = 0, weight: int = 1) -> None:
    """Check a license. `LicenseError`: its role, note, GPUs, highest priority or weight are not valid."""
    if role not in ROLES:
        raise LicenseError(f"there is no role {role!r}; choose from {', '.join(ROLES)}")
    if len(note) > MAX_NOTE or printable(note) != note:
        raise LicenseError(f"a note is one line of {MAX_NOTE} characters at most")
    if gpus and role not in TIED_ROLES:
        raise LicenseError(f"a license of role {role} cannot be limited to a GPU; leave --gpu out")
    if (max_priority, weight) != (0, 1) and role in TIED_ROLES:
        raise LicenseError(f"a license of role {role} submits no jobs; leave --max-priority and --weight out")
    if weight < 1:
        raise LicenseError(f"the weight of a license must be a whole number from 1; it is {weight}")
    if not all(map(is_name, gpus)):
        raise LicenseError(f"a GPU's name has 1 to {LONGEST_NAME} printable characters, without spaces at the ends")


def check_key(key: str) -> None:
    """Check an imported key. `LicenseError`: its length or characters are not valid."""
    least, most = KEY_LENGTH
    if not (least <= len(key) <= most and key.isprintable()):
        raise LicenseError(f"an imported key has {least} to {most} printable characters; check the file")


def imported(present: tuple[License, Key] | None, fresh: License) -> License:
    """The license of an imported key: `fresh`, or the `present` one. `LicenseError`: they do not fit together."""
    if present is None:
        return fresh
    known, key = present
    faults = (
        (key.hash != fresh.hash, "has another key with the same id; this key cannot be imported"),
        (known.revoked is not None, "has this key, and was revoked; give its users another key"),
        (key.until is not None, "had this key, which was replaced; give its users another key"),
        (known.role != fresh.role, f"has this key already, with the role {known.role}; use a key for one role"),
        (known.gpus != fresh.gpus, "has this key already, for other GPUs; use a key for each"),
    )
    for is_so, fault in faults:
        if is_so:
            raise LicenseError(f"license {known.id} {fault}")
    return known
