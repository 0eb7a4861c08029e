"""Capabilities: short-lived tokens of the hub that let the client of one job use one worker.

A capability is a JSON Web Token (RFC 7519) signed with EdDSA (Ed25519). Its claims are `job` (the request_id), `lic`
(the license's public id), `gpu`, `iat` and `exp` (UNIX seconds). This module knows its form, `capability_keys` signs
and verifies, the client keeps those of its jobs (`adapters.client.worker_calls`).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

import msgspec

LONGEST = 2048
"""Characters of a capability."""

_FORM = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}")


@dataclass(frozen=True, slots=True)
class Claims:
    """Job `job` of license `lic` may use the worker of `gpu` from `iat` to `exp`."""

    job: str
    lic: str
    gpu: str
    iat: int
    exp: int


def of_depot(name: str, *, hub: bool = False) -> str:
    """The `gpu` of a capability for the depot of this name; with `hub`, of one that the hub makes for itself only.

    Names of GPUs have no line breaks, so no worker gets a capability that a depot accepts.
    """
    return f"depot\n{name}\nhub" if hub else f"depot\n{name}"


def is_token(text: str) -> bool:
    """Whether a bearer token has the form of a capability."""
    return text.startswith("eyJ") and text.count(".") == 2


def is_well_formed(token: str) -> bool:
    """Whether a capability has the length and the characters of one; its signature may still be wrong."""
    return len(token) <= LONGEST and _FORM.fullmatch(token) is not None


def claims_of(payload: bytes) -> Claims:
    """The claims in a token's payload; `ValueError` when they are of another shape."""
    try:
        return msgspec.json.decode(payload, type=Claims)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def lifetime(token: str) -> tuple[int, int] | None:
    """Begin and end of a capability by the hub's clock, without a check of the signature; None if it is malformed."""
    try:
        claims = claims_of(from_base64(token.split(".")[1]))
    except (ValueError, IndexError):
        return None
    return claims.iat, claims.exp


def to_base64(raw: bytes) -> str:
    """Base64url without padding."""
    return urlsafe_b64encode(raw).decode().rstrip("=")


def from_base64(text: str) -> bytes:
    """The bytes of base64url without padding; `ValueError` for anything else."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
