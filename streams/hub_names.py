"""The GPUs of workers that do not name theirs. Pure.

A deployed worker registers without a name, and so does a text worker, which is no GPU: only `gpu.power.online` tells
them apart. So such a worker has a GPU from its first `gpu.power.online` on.
"""

from __future__ import annotations

from dataclasses import replace

from wakestream.streams import hub_events as f
from wakestream.streams.hub_jobs import Plan
from wakestream.streams.hub_state import Connection, Gpu, HubState


def gpu_of(state: HubState, peer: Connection, plan: Plan) -> Gpu:
    """The GPU of a worker that says that it is online; it is given a free one if it has none."""
    if peer.gpu is not None:
        return state.gpus[peer.gpu]
    name = _free_name(state)
    plan.fact(f.GpuTaken(peer.fd, name))
    known = state.gpus.get(name) or Gpu(name)
    return replace(known, worker=peer.fd, ready=False, url=peer.url or known.url)


def free(state: HubState, name: str) -> bool:
    """Whether no worker that is connected has this GPU."""
    return name not in state.gpus or state.gpus[name].worker is None


def _free_name(state: HubState) -> str:
    """The one GPU that monitors name, or else the first free number."""
    named = {name for fd in state.monitors for name in state.connections[fd].gpus}
    if len(named) == 1 and free(state, next(iter(named))):
        return next(iter(named))
    number = 1
    while not free(state, _numbered(number)):
        number += 1
    return _numbered(number)


def _numbered(number: int) -> str:
    return "gpu" if number == 1 else f"gpu-{number}"
