"""Why a job waits, and why a GPU is on or off: one sentence each, made of facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wakestream.adapters.cli import words
from wakestream.operators import events as e
from wakestream.streams import messages as m
from wakestream.streams.event_from_json import event_from

_RUNS = ("online", "booted")


def job(found: Mapping[str, Any], now: float) -> str:
    """`found` is a job as the daemon tells of it, `now` UNIX seconds."""
    name, last = found["id"], found.get("last")
    if found["state"] == "cancelling":
        return f"{name} is being cancelled: the hub and the worker are told"
    if found.get("outcome"):
        return f"{name} has ended: {words.outcome(_event(found['outcome']))}"
    since = words.duration(max(0.0, now - found["accepted_at"]))
    if last is None:
        return f"{name} waits for its turn in the outbox, handed in {since} ago"
    happened = _event(last)
    match happened:
        case e.Waking():
            return f"{name} waits for the GPU, {words.duration(happened.waited)} so far: {words.waking(happened)}"
        case e.Queued():
            return f"{name} waits for the GPU: {words.event(happened)}"
        case e.Retrying():
            return f"{name} tries again: {words.event(happened)}"
        case _:
            return f"{name} is at work, handed in {since} ago: {words.event(happened)}"


def _event(plain: Mapping[str, Any]) -> e.JobEvent:
    return event_from(plain) or e.Note(f"it does something that this version does not know ({plain.get('event')})")


def gpus(answer: m.HubStatus, name: str | None = None) -> Sequence[str]:
    """A sentence for each GPU, or for the one of that name."""
    told = [gpu for gpu in answer.gpus if name in (None, gpu["gpu"])]
    return [_gpu(gpu, answer) for gpu in told]


def _gpu(gpu: Mapping[str, Any], answer: m.HubStatus) -> str:
    phase, name = gpu["phase"], f"GPU {gpu['gpu']}"
    cause = f" (the monitor says: {gpu['why']})" if gpu.get("why") else ""
    held = gpu.get("own", 0) + gpu.get("others", 0)
    if phase in _RUNS and held:
        mine = f", {gpu['own']} of them yours" if gpu.get("own") else ", none of them yours"
        return f"{name} is on because {_jobs(held)} {'holds' if held == 1 else 'hold'} it{mine}"
    if phase in _RUNS:
        return f"{name} is on though no job holds it: it stays until the monitor's idle time has passed{cause}"
    if phase == "off":
        return _off(name, answer)
    return f"{name} is {phase.replace('_', ' ')}{cause or _for(answer)}"


def _off(name: str, answer: m.HubStatus) -> str:
    if not answer.queue:
        return f"{name} is off because no job needs it"
    if not answer.monitors:
        return f"{name} is off though {_jobs(answer.queue)} wait: no monitor is connected, so nobody can start it"
    return f"{name} is off though {_jobs(answer.queue)} wait: the monitor has been asked to start it"


def _for(answer: m.HubStatus) -> str:
    return f": {_jobs(answer.queue)} {'waits' if answer.queue == 1 else 'wait'} for it" if answer.queue else ""


def _jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count} jobs"
