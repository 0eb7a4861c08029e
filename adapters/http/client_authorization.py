"""What a job shows to a worker: its capability where the worker takes those, else the secret of the settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from wakestream.adapters.capabilities import Wallet
from wakestream.operators.errors import WorkerRefused, WorkerUnreachable

Bearer = Callable[[Collection[str], Mapping[str, str]], Mapping[str, str]]
"""From a worker's features and the header with the secret (empty without one) to the header that is sent."""


def bearer_of(job_id: str, wallet: Wallet) -> Bearer:
    """The header for this job. `WorkerRefused` (`no_secret`) when there is nothing that the worker would take."""

    def bearer(features: Collection[str], by_secret: Mapping[str, str]) -> Mapping[str, str]:
        token = wallet.of(job_id) if "capability" in features else None
        if token is not None:
            return {"Authorization": f"Bearer {token}"}
        if by_secret:
            return by_secret
        if "capability" in features and wallet.knows(job_id):
            # Asked again, the hub grants the job anew, with a fresh one.
            raise WorkerUnreachable("the job's permission to use the worker has ended; the hub is asked for another")
        raise WorkerRefused(
            "neither hub and worker together give this job access, nor is a secret set; set HEYGEM_API_SECRET in the "
            "environment or in .env to the one that the worker runs with",
            code="no_secret",
        )

    return bearer
