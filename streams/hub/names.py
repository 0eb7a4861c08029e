"""The GPUs of workers that do not name theirs. Pure.

A deployed worker registers without a name, and so does a text worker, which is no GPU: only `gpu.power.online` tells
them apart. So such a worker has a GPU from its first `gpu.power.online` on.
"""

from __future__ import annotations

from itertools import chain, count

from wakestream.streams.hub import holders
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.state import Connection, HubState


def claim_name(state: HubState, peer: Connection, now: float, decision: HubDecision) -> str | None:
    """Claim a name for the GPU of a worker that has none, or tell it why there is none."""
    name = _free_name(state, peer.owner)
    refused = holders.refusal(state, "worker", peer.owner, (name,), now)
    if refused is not None:
        decision.refuse(peer.fd, *refused)
        return None
    holders.claim(state, "worker", peer.owner, (name,), now, decision)
    return name


def free(state: HubState, name: str) -> bool:
    """Whether no worker that is connected has this GPU."""
    return name not in state.gpus or state.gpus[name].worker is None


def _free_name(state: HubState, owner: str | None) -> str:
    """A GPU that its key was issued for; else the one that monitors name, or the first free number.

    Of those that the key was issued for, one that is not free is served by a former connection of the same license.
    """
    if owner is not None and (own := state.tied.names.get(owner)):
        return next((name for name in own if free(state, name)), own[0])
    watched = sorted(state.named())
    if len(watched) == 1 and _to_be_had(state, owner, watched[0]):
        return watched[0]
    numbered = chain(("gpu",), (f"gpu-{number}" for number in count(2)))
    return next(name for name in numbered if _to_be_had(state, owner, name))


def _to_be_had(state: HubState, owner: str | None, name: str) -> bool:
    return free(state, name) and holders.may_speak(state, "worker", owner, name)
