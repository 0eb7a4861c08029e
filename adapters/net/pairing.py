"""Pairing by a short code: two programs agree on a key (SPAKE2) only if both know the code.

The key depends on the certificate that each side sees, so that a third party who stands between them, or records what
they send, learns neither the code nor what the hub sends under that key. The hub counts wrong
guesses.

Hub, daemon and `submit` import this module at their start and seldom pair, so what is slow to import waits until then.

Source: SPAKE2 as in RFC 9382, by the package `spake2`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Final

import orjson

from wakestream.operators.model.errors import WakestreamError

PATH: Final = "/pair"
"""The path of the hub's WebSocket for pairing."""

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""The characters of a code (Crockford's base 32): none looks like another one."""

HALF: Final = 4
"""Characters of each half of a code: its name, which is sent, and its secret, which is not."""

PLAIN: Final = "plain"
"""The binding of a connection without TLS."""

_APP: Final = b"wakestream pairing 1"
_LOOK_ALIKE: Final = str.maketrans("OIL", "011")


class PairingError(WakestreamError, code="pairing"):
    """The code is not valid, or the other side does not know it."""


@dataclass(frozen=True, slots=True)
class Code:
    """A pairing code such as `7F3K-92QD`: its public name and its secret."""

    name: str
    secret: str

    def __str__(self) -> str:
        return f"{self.name}-{self.secret}"

    def __repr__(self) -> str:
        return f"Code({self.name}-****)"


def new_code() -> Code:
    """Make a code: 20 random bits of name, 20 of secret."""
    name, secret = ("".join(secrets.choice(ALPHABET) for _ in range(HALF)) for _ in range(2))
    return Code(name, secret)


def code_from(text: str) -> Code:
    """Read a code as a person types it: lower case, with blanks or dashes, and with O, I and L for 0 and 1.

    Args:
        text: The code.

    Raises:
        PairingError: It is not a code.

    Example:
        >>> str(code_from("7f3k 92qd"))
        '7F3K-92QD'
    """
    plain = "".join(text.upper().replace("-", " ").split()).translate(_LOOK_ALIKE)
    if len(plain) != 2 * HALF or any(letter not in ALPHABET for letter in plain):
        raise PairingError(f"{text[:40]!r} is not a code; it has 8 letters and digits, such as 7F3K-92QD")
    return Code(plain[:HALF], plain[HALF:])


def by_certificate(der: bytes) -> str:
    """The binding of a connection whose certificate (DER) both sides know."""
    return f"tls {hashlib.sha256(der).hexdigest()}"


def by_authority(host: str) -> str:
    """The binding of a connection whose certificate an authority signed for `host`, as at a reverse proxy."""
    return f"authority {host.lower()}"


class Pairing:
    """One side of a pairing.

    Args:
        code: The code.
        binding: What the connection is bound to; both sides must have the same.
        is_hub: Whether this is the hub's side.

    Example:
        >>> guest, hub = Pairing(code, PLAIN, is_hub=False), Pairing(code, PLAIN, is_hub=True)
        >>> guest.agree(hub.share)
        >>> hub.agree(guest.share)
        >>> hub.check(guest.proof)
    """

    def __init__(self, code: Code, binding: str, *, is_hub: bool) -> None:
        from spake2 import SPAKE2_A, SPAKE2_B

        side = SPAKE2_B if is_hub else SPAKE2_A
        password = f"{code.name}{code.secret}".encode()
        self._is_hub = is_hub
        self._spake = side(password, idA=_APP, idB=binding.encode())
        self.share: bytes = self._spake.start()
        self._key = b""

    def agree(self, share: bytes) -> None:
        """Compute the common key from the other side's share. Raises `PairingError`: it is not a share."""
        from spake2 import SPAKEError

        try:
            self._key = self._spake.finish(share)
        except (SPAKEError, ValueError, AssertionError, IndexError) as error:
            raise PairingError("the other side sent an invalid message; begin again") from error

    @property
    def proof(self) -> bytes:
        """Shows that this side has the key."""
        return self._proof(self._is_hub)

    def check(self, proof: bytes, tries_left: str = "") -> None:
        """Raise `PairingError`, with the tries that are left, unless the other side has the same key."""
        if not hmac.compare_digest(proof, self._proof(not self._is_hub)):
            wrong = f"wrong code ({tries_left})" if tries_left else "wrong code"
            raise PairingError(f"{wrong}. If it is surely right, someone may be intercepting the connection")

    def seal(self, message: dict[str, Any]) -> bytes:
        """Encrypt a message to the other side."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(12)
        return nonce + AESGCM(self._derived(b"message")).encrypt(nonce, orjson.dumps(message), _APP)

    def open(self, sealed: bytes) -> dict[str, Any]:
        """Decrypt a message of the other side. Raises `PairingError`: it was changed, or made with another key."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            plain = orjson.loads(AESGCM(self._derived(b"message")).decrypt(sealed[:12], sealed[12:], _APP))
        except (InvalidTag, ValueError) as error:
            raise PairingError("the hub's message cannot be read; begin again with a new code") from error
        if not isinstance(plain, dict):
            raise PairingError("the hub's message is not valid; begin again with a new code")
        return plain

    def _proof(self, of_hub: bool) -> bytes:
        return hmac.digest(self._derived(b"proof"), b"hub" if of_hub else b"guest", "sha256")

    def _derived(self, purpose: bytes) -> bytes:
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

        return HKDFExpand(SHA256(), 32, _APP + b" " + purpose).derive(self._key)
