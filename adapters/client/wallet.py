"""The capabilities of a client's jobs: see `adapters.net.capabilities`."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from wakestream.adapters.config.setting_files import Secret
from wakestream.adapters.net.capabilities import is_well_formed, lifetime
from wakestream.adapters.runtime.recent import Recent
from wakestream.streams.hub.capabilities import LEEWAY
from wakestream.streams.protocol import messages as m

REMEMBERED = 10_000
"""Jobs whose capability a client remembers."""


class Wallet:
    """The latest capability of each job, fed with the hub's messages. `clock` gives UNIX seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._ahead = 0.0  # seconds that this clock was ahead of the hub's when the last capability came
        self._held: Recent[str, tuple[Secret, float]] = Recent(REMEMBERED)
        self._unread: Recent[str, None] = Recent(REMEMBERED)

    def feed(self, event: object) -> None:
        """One event of the link to the hub."""
        match event:
            case m.Ack(request_id=job, capability=str(token), capability_expires=int(expires)):
                self._hold(job, token, expires)
            case m.Capability(request_id=job, capability=token, expires=expires):
                self._hold(job, token, expires)

    def _hold(self, job: str, token: str, expires: float) -> None:
        if not is_well_formed(token):
            self._unread[job] = None
            return
        now = self._clock()
        # The hub decides how long it is valid. This machine's clock may be wrong, so it only measures that time.
        issued, ends = lifetime(token) or (now, expires)
        self._ahead = now - issued
        self._held[job] = (Secret(token), now + ends - issued)

    def of(self, job: str) -> Secret | None:
        """The job's capability; None without one, or when it has expired."""
        token, expires = self._held.get(job, (None, 0.0))
        return token if token is not None and self._clock() <= expires + LEEWAY else None

    def knows(self, job: str) -> bool:
        """Whether the job has a capability, also an expired one."""
        return job in self._held

    def lacks_format(self, job: str) -> bool:
        """Whether the hub gave the job a capability of another format than this version knows."""
        return job in self._unread

    def ahead_of_hub(self, date: str | None) -> float:
        """Seconds that the clock which gave this HTTP date is ahead of the hub's; 0 when that is unknown."""
        try:
            theirs = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return 0.0
        return theirs - (self._clock() - self._ahead) if self._held else 0.0
