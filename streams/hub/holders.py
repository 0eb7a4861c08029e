"""Which license may use a GPU's name, as its worker or as its monitor. Pure.

A license that was issued for GPUs (`license issue --gpu`) has these names and no others. Any other name belongs to the
first license that uses it in a role, until the license is released or revoked, or the name is forgotten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain, count

from wakestream.streams.hub import events as f
from wakestream.streams.hub.events import HubDecision
from wakestream.streams.hub.ledger import KEPT_DAYS
from wakestream.streams.hub.local_time import DAY
from wakestream.streams.hub.state import Connection, Gpu, HubState, Tied

UNUSED_DAYS = 30
"""Days after which a name is forgotten that nothing uses and that has no costs; with costs it is `KEPT_DAYS`."""

EVICTED_AFTER = DAY
"""Seconds without use after which a name makes room for a new one at a hub that is full."""


def may_speak(state: HubState, role: str, owner: str | None, gpu: str, tied: Tied | None = None) -> bool:
    """Whether this license may use the name `gpu` in this role, by what `tied` says if not by the state's own."""
    tied = tied or state.tied
    reserved = tied.owners.get((role, gpu))
    if reserved is not None:
        return owner in reserved
    if owner in tied.names:
        return False
    holder = state.holders.get((role, gpu))
    return holder is None or holder[0] == owner


def watched_by(state: HubState, monitor: Connection) -> list[Gpu]:
    """The GPUs that a monitor names; one that names none may be that of any that its license may have."""
    if monitor.gpus:
        return [state.gpus[name] for name in monitor.gpus if name in state.gpus]
    return [gpu for gpu in state.gpus.values() if may_speak(state, "monitor", monitor.owner, gpu.name)]


def watched(state: HubState) -> set[str]:
    """The GPUs that a connected monitor can start, as far as the hub knows."""
    return {gpu.name for fd in state.monitors for gpu in watched_by(state, state.connections[fd])}


def neighbours(state: HubState, gpus: Collection[Gpu]) -> list[Gpu]:
    """The other GPUs in the machines of these ones."""
    hosts = {gpu.host for gpu in gpus if gpu.host}
    return [gpu for gpu in state.gpus.values() if gpu.host in hosts and gpu not in gpus] if hosts else []


def refusal(
    state: HubState, role: str, owner: str | None, names: Collection[str], now: float
) -> tuple[str, str] | None:
    """Why this license may not use all of these names in this role: a code and a sentence; or None."""
    if not all(may_speak(state, role, owner, name) for name in names):
        return _not_yours(state, owner)
    limits, new = state.limits, [name for name in names if name not in state.gpus]
    more = _fresh(state, role, names) if owner is not None else new
    if more and _held(state, role, owner) + len(more) > limits.gpus_per_license:
        why = f"this license uses {limits.gpus_per_license} names of GPUs already; use another license for this one"
        return "too_many_gpus", why
    if new and len(state.gpus) + len(new) - len(_evictable(state, role, owner, names, now)) > limits.gpus:
        return "too_many_gpus", f"this hub keeps account of {limits.gpus} GPUs at most; stop using some of their names"
    return None


def _not_yours(state: HubState, owner: str | None) -> tuple[str, str]:
    if (own := state.tied.names.get(owner or "")) is not None:
        return "forbidden", f"this key is for the GPU {' or '.join(own)}; use that name as --gpu"
    why = "another license has a GPU of this name; use another --gpu, or at the hub `wakestream license release`"
    return "gpu_taken", why


def _fresh(state: HubState, role: str, names: Iterable[str]) -> list[str]:
    """The names that no license holds yet."""
    known = state.holders.keys() | state.tied.owners.keys()
    return [name for name in names if (role, name) not in known]


def _held(state: HubState, role: str, owner: str | None) -> int:
    """How many names this license holds in this role; peers without a license share the free ones."""
    if owner is not None:
        return sum(of == role and holder == owner for (of, _), (holder, _) in state.holders.items())
    roles = ("worker", "monitor")
    held = state.holders.keys() | state.tied.owners.keys()
    return sum(all((of, name) not in held for of in roles) for name in state.gpus)


def claim(
    state: HubState, role: str, owner: str | None, names: Collection[str], now: float, decision: HubDecision
) -> None:
    """The names, which `refusal` grants, are this license's from now on; a full hub forgets others for them."""
    new = [name for name in names if name not in state.gpus]
    excess = max(0, len(state.gpus) + len(new) - state.limits.gpus)
    decision.fact(*(f.GpuForgotten(name) for name in _evictable(state, role, owner, names, now)[:excess]))
    fresh = _fresh(state, role, names) if owner is not None else []
    decision.fact(*(f.GpuNamed(name) for name in new if name not in fresh))
    if owner is not None:
        decision.fact(*(f.GpuHeld(role, name, owner, now) for name in fresh))


def of_monitor(state: HubState, peer: Connection, names: Collection[str], now: float, decision: HubDecision) -> bool:
    """Whether a monitor may speak of these GPUs; one that it had not named, or that was forgotten, is its own from now.

    If not, the monitor gets an error.
    """
    unnamed = [name for name in names if name not in peer.gpus or name not in state.gpus]
    if unnamed:
        refused = refusal(state, "monitor", peer.owner, unnamed, now)
    else:
        may = all(may_speak(state, "monitor", peer.owner, name) for name in names)
        refused = None if may else _not_yours(state, peer.owner)
    if refused is not None:
        decision.refuse(peer.fd, *refused)
        return False
    claim(state, "monitor", peer.owner, unnamed, now, decision)
    return True


# Names that nothing uses


def _used(state: HubState, gpu: Gpu) -> float:
    """When the name was last used, as far as the hub knows."""
    return max(gpu.since, *(state.holders.get((role, gpu.name), ("", 0.0))[1] for role in ("worker", "monitor")))


def _unused(state: HubState, named: Collection[str]) -> Iterator[Gpu]:
    had = {job.last for job in state.jobs.values() if job.last is not None}
    idle = (gpu for gpu in state.gpus.values() if not (gpu.leases or gpu.worker))
    return (gpu for gpu in idle if gpu.name not in named and gpu.name not in had)


def _evictable(state: HubState, role: str, owner: str | None, but_for: Collection[str], now: float) -> list[str]:
    """The names that a full hub may forget for those in `but_for`, the one that is unused for longest first.

    For a worker's name, or one that a key was issued for, these are also names of connected monitors, if the hub has
    them from a monitor only whose key was not issued for a GPU, and no machine ever ran under them.
    """
    if len(state.gpus) + len(but_for) <= state.limits.gpus:
        return []
    unused = [gpu for gpu in _unused(state, state.named()) if now - _used(state, gpu) >= EVICTED_AFTER]
    if role == "worker" or owner in state.tied.names:
        unused += [gpu for gpu in _unused(state, ()) if gpu not in unused and _only_said(state, gpu)]
    return [gpu.name for gpu in sorted(unused, key=lambda gpu: _used(state, gpu)) if gpu.name not in but_for]


def _only_said(state: HubState, gpu: Gpu) -> bool:
    """Whether nothing is known of the GPU but what a monitor says whose key was not issued for it."""
    issued = any((role, gpu.name) in state.tied.owners for role in ("worker", "monitor"))
    return not issued and not gpu.account.has_run and ("worker", gpu.name) not in state.holders


def tick(state: HubState, now: float, decision: HubDecision) -> None:
    """Forget what was not used for long, and note once a day what is used."""
    for gpu in [*_unused(state, state.named())]:
        days = KEPT_DAYS if gpu.account.has_run else UNUSED_DAYS
        if now - _used(state, gpu) > days * DAY:
            decision.fact(f.GpuForgotten(gpu.name))
    late = [(key, owner) for key, (owner, at) in state.holders.items() if now - at > DAY]
    if late:
        users = set(_users(state))
        decision.fact(*(f.GpuHeld(*key, owner, now) for key, owner in late if (*key, owner) in users))


def _users(state: HubState) -> Iterator[tuple[str, str, str | None]]:
    for peer in state.connections.values():
        if peer.role == "worker" and peer.gpu is not None:
            yield "worker", peer.gpu, peer.owner
        elif peer.role == "monitor":
            yield from (("monitor", name, peer.owner) for name in peer.gpus)


# The license file


def book_seen(state: HubState, event: f.BookSeen, decision: HubDecision) -> list[int]:
    """Apply what the licenses were issued for and which were released; returns the connections to close."""
    for license_, at in event.released:
        release(state, license_, at, decision)
    tied = Tied.of(event.tied, event.weights)
    if tied == state.tied:
        return []
    decision.fact(f.GpusTied(event.tied, event.weights))
    peers = state.connections.values()
    names = {peer.fd: peer.gpus if peer.role == "monitor" else (peer.gpu,) if peer.gpu else () for peer in peers}
    return [
        peer.fd
        for peer in peers
        if not all(may_speak(state, peer.role or "", peer.owner, name, tied) for name in names[peer.fd])
    ]


def release(state: HubState, license_: str, at: float, decision: HubDecision) -> None:
    """Release the names that this license held before or at `at`."""
    held = [key for key, (owner, since) in state.holders.items() if owner == license_ and since <= at]
    decision.fact(*(f.GpuReleased(role, gpu) for role, gpu in held))
    if state.depot_of is not None and state.depot_of[0] == license_ and state.depot_of[1] <= at:
        decision.fact(f.DepotHeld("", "", at))


# The GPUs of workers that do not name theirs. A deployed worker registers without a name, and so does a text worker,
# which is no GPU: only `gpu.power.online` tells them apart. So such a worker has a GPU from its first one on.


def claim_name(state: HubState, peer: Connection, now: float, decision: HubDecision) -> str | None:
    """Claim a name for the GPU of a worker that gave none, or send it the reason why it gets none."""
    name = _free_name(state, peer.owner)
    refused = refusal(state, "worker", peer.owner, (name,), now)
    if refused is not None:
        decision.refuse(peer.fd, *refused)
        return None
    claim(state, "worker", peer.owner, (name,), now, decision)
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
    return free(state, name) and may_speak(state, "worker", owner, name)
