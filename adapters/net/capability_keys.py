"""Signs capabilities (the hub) and verifies them (the worker): see `capabilities`."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec.structs import replace

from wakestream.adapters.config.setting_files import SettingsError
from wakestream.adapters.disk.documents import Documents, FolderDocuments
from wakestream.adapters.net.capabilities import Claims, claims_of, from_base64, is_well_formed, to_base64
from wakestream.adapters.runtime.recent import Recent
from wakestream.operators.model.errors import WakestreamError, WorkerRefused
from wakestream.streams.protocol import depot_messages as d
from wakestream.streams.protocol import messages as m
from wakestream.streams.protocol.features import LEEWAY

if TYPE_CHECKING:
    from wakestream.streams.hub import events as f

# The ended jobs, by the hub's messages: their capabilities start nothing more at the worker.

REMEMBERED = 10_000
"""Revoked licenses, and ended jobs of a license, that a worker remembers."""


class EndedJobs:
    """Fed with the hub's messages. `clock` gives UNIX seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ended: dict[str, OrderedDict[str, float]] = {}
        self._floor: dict[str, float] = {}

    def feed(self, event: object) -> None:
        """A message: a job got the GPU, or has ended."""
        match event:
            case m.Submit(request_id=job, license=str(owner)) | d.DepotFetch(request_id=job, license=str(owner)):
                self._begin(job, owner)
            case m.Cancel(request_id=job, license=str(owner)) | m.JobDone(request_id=job, license=str(owner)):
                ended = self._ended.setdefault(owner, OrderedDict())
                ended[job] = self._clock()
                ended.move_to_end(job)
                if len(ended) > REMEMBERED:
                    # The forgotten job is unknown from now on, so all capabilities from before its end are refused.
                    self._floor[owner] = ended.popitem(last=False)[1]
            case m.DispatchBatch(jobs=jobs):
                for frame in jobs:
                    self._begin(str(frame.get("request_id")), str(frame.get("license")))

    def _begin(self, job: str, owner: str) -> None:
        if owner in self._ended:
            self._ended[owner].pop(job, None)

    def has(self, job: str, owner: str, issued: float) -> bool:
        """Whether the job of a capability that was issued at `issued` has ended."""
        return issued <= self._floor.get(owner, float("-inf")) + LEEWAY or job in self._ended.get(owner, {})


LONGEST_LIFE = 24 * 3600.0
"""Longest lifetime of a capability in seconds; the worker remembers revoked licenses for as long."""

_ALGORITHM = "EdDSA"
_KEY_FILE = "capability.key"
_JWS = jwt.PyJWS(algorithms=[_ALGORITHM])  # the payload as bytes; the claims are checked against our own clock


class Signer:
    """The hub's signing key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = to_base64(key.public_key().public_bytes_raw())

    @classmethod
    def fresh(cls) -> Signer:
        """A new key that is in no file."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def of_folder(cls, place: Path | Documents) -> Signer:
        """The key beside a hub's licenses, made at the first start. `SettingsError` when that cannot be used."""
        documents = FolderDocuments(place) if isinstance(place, Path) else place
        path = documents.path(_KEY_FILE)
        try:
            if (key := documents.read(_KEY_FILE)) is None:
                key = Ed25519PrivateKey.generate().private_bytes_raw()
                documents.write(_KEY_FILE, key)
            return cls(Ed25519PrivateKey.from_private_bytes(key))
        except OSError as error:
            raise SettingsError(f"--state: {path} cannot be used ({error.strerror or error})") from None
        except ValueError:
            raise SettingsError(
                f"{path} is damaged; restore it from a copy, or remove it and restart the workers"
            ) from None

    def mint(self, job: str, owner: str, gpu: str, now: float, expires: float) -> str:
        """A capability from `now` to `expires` (UNIX seconds)."""
        claims = {"job": job, "lic": owner, "gpu": gpu, "iat": int(now), "exp": int(expires)}
        return jwt.encode(claims, self._key, _ALGORITHM)

    def sealed(self, message: m.Message, seal: f.Seal, now: float) -> m.Message:
        """The message as it is sent: with the capability, or with the public key, that the decider asked for."""
        match message:
            case m.Registered():
                return replace(message, capability_key=self.public)
            case m.Ack(request_id=job, capability_expires=expires):
                return replace(message, capability=self.mint(job, seal.license, seal.gpu, now, expires or now))
            case m.Capability(request_id=job, expires=expires):
                return replace(message, capability=self.mint(job, seal.license, seal.gpu, now, expires))
        return message


class Verifier:
    """The worker's side. It pins the first public key of its hub; before that it accepts no capability.

    `ended` knows the jobs that have ended. `clock` gives UNIX seconds. `hub` is a second name whose
    capabilities it accepts, beside `gpu`.
    """

    def __init__(self, gpu: str | None, clock: Callable[[], float] = time.time, hub: str | None = None) -> None:
        self._gpus = gpu, hub
        self._clock = clock
        self._pinned: tuple[str, Ed25519PublicKey] | None = None
        self._another = False
        self._revoked: Recent[str, float] = Recent(REMEMBERED)
        self.ended = EndedJobs(clock)

    @property
    def ready(self) -> bool:
        """Whether the worker accepts capabilities of its hub, now or as soon as it has connected."""
        return not self._another

    def pin(self, key: str | None) -> bool:
        """The hub sent its public key. Returns False when it differs from the pinned one, which stays pinned."""
        if key is None:
            return True
        if self._pinned is None:
            try:
                self._pinned = (key, Ed25519PublicKey.from_public_bytes(from_base64(key)))
            except ValueError:
                self._another = True
                return False
        self._another = key != self._pinned[0]
        return not self._another

    def revoke(self, owner: str) -> None:
        """Refuse all capabilities of this license from now on."""
        self._revoked[owner] = self._clock()

    def is_valid(self, claims: Claims) -> bool:
        """Whether a capability that was accepted is valid at this time, too."""
        ended = self.ended.has(claims.job, claims.lic, claims.iat)
        return self._clock() <= claims.exp + LEEWAY and claims.lic not in self._revoked and not ended

    def claims(self, token: str) -> Claims:
        """The claims of a valid capability.

        Raises:
            WorkerRefused: its code is `expired` or `not_yet` by this machine's clock, `forbidden` for a capability that
                is valid elsewhere, `unauthorized` for a forged one, `not_ready` before the first connection to a hub.
        """
        if self._pinned is None:
            raise WorkerRefused("this worker has not connected to its hub yet; try again in a moment", code="not_ready")
        claims = _read(token, self._pinned[1])
        now = self._clock()
        if now > claims.exp + LEEWAY:
            ended = f"by this worker's clock it expired {now - claims.exp:.0f} s ago"
            raise _refused(f"{ended}; the hub gives a new one to a job that still holds the GPU", "expired")
        if now < claims.iat - LEEWAY:
            begins = f"by this worker's clock it is valid in {claims.iat - now:.0f} s only"
            raise _refused(f"{begins}; compare the clocks of hub and worker", "not_yet")
        if claims.exp - claims.iat > LONGEST_LIFE:
            raise _refused("its lifetime is longer than a day")
        if not claims.lic or not claims.job:
            raise _refused("it lacks a license or a job")
        if claims.gpu not in self._gpus:
            raise _refused("it is for another GPU")
        if claims.lic in self._revoked:
            raise _refused("its license was revoked")
        return claims


def _read(token: str, key: Ed25519PublicKey) -> Claims:
    if not is_well_formed(token):
        raise _refused("it is malformed", "unauthorized")
    try:
        return claims_of(_JWS.decode(token, key, algorithms=[_ALGORITHM]))
    except (jwt.InvalidTokenError, ValueError):
        raise _refused("the hub of this worker did not sign it", "unauthorized") from None


def _refused(reason: str, code: str = "forbidden") -> WakestreamError:
    return WorkerRefused(f"the worker refuses this capability: {reason}", code=code)
