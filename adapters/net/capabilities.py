"""Capabilities: short-lived, signed words of the hub that let one job's client speak to one worker.

`wsc1.<claims>.<signature>`, both base64url without padding; the signature (Ed25519) is over all that stands before its
dot. Claims are a JSON object: `job` (request_id), `lic` (the license's public id), `gpu`, `iat` and `exp` (UNIX
seconds). `Signer` is the hub's side, `Verifier` the worker's, `Wallet` the client's.
"""

from __future__ import annotations

import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import msgspec
import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec.structs import replace

from wakestream.adapters.config.setting_files import Secret, SettingsError
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.net.ended_jobs import EndedJobs
from wakestream.operators.model.errors import WakestreamError, WorkerRefused
from wakestream.streams.hub import events as f
from wakestream.streams.hub.capabilities import LEEWAY
from wakestream.streams.protocol import messages as m

PREFIX = "wsc1."
LONGEST = 2048
"""Characters of a capability."""

LONGEST_LIFE = 24 * 3600.0
"""Seconds that any capability may be good for; the worker remembers revoked licenses for as long."""

REMEMBERED = 10_000
"""Revoked licenses that a worker, and jobs that a client keeps in mind."""

_KEY_FILE = "capability.key"
_FORM = re.compile(r"wsc1\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a capability says: job `job` of license `lic` may use the worker of `gpu` from `iat` to `exp`."""

    job: str
    lic: str
    gpu: str
    iat: int
    exp: int


class Signer:
    """The hub's signing key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = _text(key.public_key().public_bytes_raw())

    @classmethod
    def fresh(cls) -> Signer:
        """A key that no file keeps."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def of_folder(cls, state: Path) -> Signer:
        """The key of a hub's folder, made at the first start. `SettingsError` when it cannot be read or written."""
        path = state / _KEY_FILE
        try:
            state.mkdir(parents=True, exist_ok=True)
            raw = path.read_bytes() if path.exists() else _make(path)
            return cls(Ed25519PrivateKey.from_private_bytes(raw))
        except OSError as error:
            raise SettingsError(f"--state: {path} cannot be used ({error.strerror or error})") from None
        except ValueError:
            raise SettingsError(
                f"{path} is damaged; restore it from a copy, or remove it: workers then have to be restarted"
            ) from None

    def mint(self, job: str, owner: str, gpu: str, now: float, expires: float) -> str:
        """A capability from `now` to `expires` (UNIX seconds)."""
        claims = {"job": job, "lic": owner, "gpu": gpu, "iat": int(now), "exp": int(expires)}
        signed = PREFIX + _text(orjson.dumps(claims))
        return f"{signed}.{_text(self._key.sign(signed.encode()))}"

    def sealed(self, message: m.Message, seal: f.Seal, now: float) -> m.Message:
        """The message as it goes out: what the decider marked is filled in."""
        match message:
            case m.Registered():
                return replace(message, capability_key=self.public)
            case m.Ack(request_id=job, capability_expires=expires):
                return replace(message, capability=self.mint(job, seal.license, seal.gpu, now, expires or now))
            case m.Capability(request_id=job, expires=expires):
                return replace(message, capability=self.mint(job, seal.license, seal.gpu, now, expires))
        return message


class Verifier:
    """The worker's side. It pins the first key that its hub shows; without one it takes no capability.

    `ended` knows whose jobs are over.

    `clock` gives UNIX seconds.
    """

    def __init__(self, gpu: str | None, clock: Callable[[], float] = time.time) -> None:
        self._gpu = gpu
        self._clock = clock
        self._pinned: tuple[str, Ed25519PublicKey] | None = None
        self._another = False
        self._revoked: OrderedDict[str, float] = OrderedDict()
        self.ended = EndedJobs(clock)

    @property
    def ready(self) -> bool:
        """Whether capabilities of the hub that is connected are taken."""
        return self._pinned is not None and not self._another

    def pin(self, key: str | None) -> bool:
        """The hub showed its public key; False when it is not the pinned one, which then stays."""
        if key is None:
            return True
        if self._pinned is None:
            try:
                self._pinned = (key, Ed25519PublicKey.from_public_bytes(_bytes(key)))
            except ValueError:
                return False
        self._another = key != self._pinned[0]
        return not self._another

    def revoke(self, owner: str) -> None:
        """Take no capability of this license any more."""
        self._revoked[owner] = self._clock()
        self._revoked.move_to_end(owner)
        while len(self._revoked) > REMEMBERED:
            self._revoked.popitem(last=False)

    def claims(self, token: str) -> Claims:
        """What `token` says, if the hub said it and it is still so.

        `WorkerRefused` says why not: `expired` and `not_yet` by this machine's clock, `forbidden` for one that is good
        elsewhere, `unauthorized` for a forged one, `not_ready` before the hub was met.
        """
        if self._pinned is None:
            raise WorkerRefused("this worker has not met its hub yet: try again shortly", code="not_ready")
        claims = _read(token, self._pinned[1])
        _check_times(claims, self._clock())
        if not claims.lic or not claims.job:
            raise _refused("it names no license or no job")
        if claims.gpu != self._gpu:
            raise _refused("it is for another GPU")
        if claims.lic in self._revoked:
            raise _refused("its license was revoked")
        return claims


class Wallet:
    """The client's capabilities by job, of the `REMEMBERED` that were heard of last. Feed it what the hub says."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._ahead = 0.0  # of this clock before the hub's, when the last one came
        self._held: OrderedDict[str, tuple[Secret, float]] = OrderedDict()

    def feed(self, event: object) -> None:
        """One event of the link to the hub."""
        match event:
            case m.Ack(request_id=job, capability=str(token), capability_expires=int(expires)):
                self._hold(job, token, expires)
            case m.Capability(request_id=job, capability=token, expires=expires):
                self._hold(job, token, expires)

    def _hold(self, job: str, token: str, expires: float) -> None:
        if not _FORM.fullmatch(token) or len(token) > LONGEST:
            return
        now = self._clock()
        # How long it is good is the hub's to say, what time it is then is not: this machine's clock may be off.
        issued, ends = _times(token) or (now, expires)
        self._ahead = now - issued
        self._held[job] = (Secret(token), now + ends - issued)
        self._held.move_to_end(job)
        while len(self._held) > REMEMBERED:
            self._held.popitem(last=False)

    def of(self, job: str) -> Secret | None:
        """The job's capability, if it has one that has not ended since it came."""
        token, expires = self._held.get(job, (None, 0.0))
        return token if token is not None and self._clock() <= expires + LEEWAY else None

    def knows(self, job: str) -> bool:
        """Whether the job has one, or had one that ended."""
        return job in self._held

    def ahead_of_hub(self, date: str | None) -> float:
        """Seconds that the clock which gave this HTTP date just now is ahead of the hub's; 0 where that is unknown."""
        try:
            theirs = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return 0.0
        return theirs - (self._clock() - self._ahead) if self._held else 0.0


def looks_like_one(token: str) -> bool:
    """Whether a bearer token means to be a capability."""
    return token.startswith(PREFIX)


def _read(token: str, key: Ed25519PublicKey) -> Claims:
    if len(token) > LONGEST or not _FORM.fullmatch(token):
        raise _refused("it is none", "unauthorized")
    signed, _, signature = token.rpartition(".")
    try:
        key.verify(_bytes(signature), signed.encode())
        return msgspec.json.decode(_bytes(signed.removeprefix(PREFIX)), type=Claims)
    except (InvalidSignature, ValueError):
        raise _refused("it is not of the hub that this worker knows", "unauthorized") from None


def _times(token: str) -> tuple[int, int] | None:
    """When a capability begins and ends by the hub's clock, as it says itself."""
    try:
        claims = msgspec.json.decode(_bytes(token.split(".")[1]), type=Claims)
    except ValueError:
        return None
    return claims.iat, claims.exp


def _check_times(claims: Claims, now: float) -> None:
    if now > claims.exp + LEEWAY:
        ended = f"by this worker's clock it ended {now - claims.exp:.0f} s ago"
        raise _refused(f"{ended}; the hub gives a new one to a job that still holds the GPU", "expired")
    if now < claims.iat - LEEWAY:
        begins = f"by this worker's clock it begins in {claims.iat - now:.0f} s"
        raise _refused(f"{begins}: compare the clocks of hub and worker", "not_yet")
    if claims.exp - claims.iat > LONGEST_LIFE:
        raise _refused("it is good for longer than any may be")


def _refused(why: str, code: str = "forbidden") -> WakestreamError:
    return WorkerRefused(f"this capability is not taken: {why}", code=code)


def _make(path: Path) -> bytes:
    """A new key in a file that only we may read."""
    raw = Ed25519PrivateKey.generate().private_bytes_raw()
    write_atomic(path, raw)
    return raw


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
