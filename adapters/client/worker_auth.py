"""Authorization at a worker: the job's capability if the worker accepts it, else the secret of the settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from wakestream.adapters.client.wallet import Wallet
from wakestream.operators.model.errors import WorkerRefused, WorkerUnreachable
from wakestream.streams.hub.capabilities import LEEWAY


@dataclass(frozen=True, slots=True)
class Bearer:
    """The authorization of one job; `no_secret`: the workers require none."""

    job_id: str
    wallet: Wallet
    no_secret: bool = False

    def header(
        self, features: Collection[str], by_secret: Mapping[str, str], withheld: str | None
    ) -> Mapping[str, str]:
        """The header to send.

        Args:
            features: What the worker announced.
            by_secret: The header with the secret; empty without one.
            withheld: The worker's address, if there is a secret that it does not receive.

        Raises:
            WorkerRefused: there is neither a capability nor a secret for this worker (`no_secret`).
            WorkerUnreachable: the capability has expired.
        """
        token = self.wallet.of(self.job_id) if "capability" in features else None
        if token is not None:
            return {"Authorization": f"Bearer {token}"}
        if by_secret:
            return by_secret
        if "capability" in features and self.wallet.knows(self.job_id):
            # The next submit to the hub brings a new capability.
            raise WorkerUnreachable("the job's capability has expired; the hub is asked for another")
        if self.no_secret:
            return {}
        if withheld is not None:
            raise WorkerRefused(
                f"the hub names the worker {withheld}, which does not accept the hub's capability and is not in your "
                "settings, so it does not receive your secret; if it is yours, set WAKESTREAM_SECRET_HOSTS to its host",
                code="no_secret",
            )
        raise WorkerRefused(
            "this job has no capability for the worker, and no secret is set; set HEYGEM_API_SECRET in the "
            "environment or in .env to the one that the worker runs with",
            code="no_secret",
        )

    def wrong_clock(self, date: str | None) -> str:
        """How far the clock of a worker, by its `Date` header, is off the hub's; empty when small or unknown."""
        off = self.wallet.ahead_of_hub(date)
        if abs(off) <= LEEWAY:
            return ""
        return f"its clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the hub's; set it right, by NTP"
