"""What a job shows to a worker: its capability where the worker takes those, else the secret of the settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from wakestream.adapters.net.capabilities import Wallet
from wakestream.operators.model.errors import WorkerRefused, WorkerUnreachable
from wakestream.streams.hub.capabilities import LEEWAY


@dataclass(frozen=True, slots=True)
class Bearer:
    """One job's way to be let in; `no_secret`: workers are said to want none."""

    job_id: str
    wallet: Wallet
    no_secret: bool = False

    def header(
        self, features: Collection[str], by_secret: Mapping[str, str], withheld: str | None
    ) -> Mapping[str, str]:
        """From a worker's `features` and the header with the secret (empty without one) to the header that is sent.

        `withheld` is the worker's address if there is a secret that it does not get. `WorkerRefused` (`no_secret`) when
        there is nothing that the worker would take.
        """
        token = self.wallet.of(self.job_id) if "capability" in features else None
        if token is not None:
            return {"Authorization": f"Bearer {token}"}
        if by_secret:
            return by_secret
        if "capability" in features and self.wallet.knows(self.job_id):
            # Asked again, the hub grants the job anew, with a fresh one.
            raise WorkerUnreachable("the job's permission to use the worker has ended; the hub is asked for another")
        if self.no_secret:
            return {}
        if withheld is not None:
            raise WorkerRefused(
                f"the hub names the worker {withheld}, which does not take the hub's capability and is not in your "
                "settings, so it does not get your secret; if it is yours, set WAKESTREAM_SECRET_HOSTS to its host",
                code="no_secret",
            )
        raise WorkerRefused(
            "neither hub and worker together give this job access, nor is a secret set; set HEYGEM_API_SECRET in the "
            "environment or in .env to the one that the worker runs with",
            code="no_secret",
        )

    def wrong_clock(self, date: str | None) -> str:
        """How far the clock of a worker that answered with this `Date` is off; empty when it is not, or not known."""
        off = self.wallet.ahead_of_hub(date)
        if abs(off) <= LEEWAY:
            return ""
        return f"its clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the hub's; set it right, by NTP"
