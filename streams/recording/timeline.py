"""When a job entered each of its stages, read off its events."""

from __future__ import annotations

from collections.abc import Iterable

from wakestream.operators.model import events as e
from wakestream.streams.recording.event_json import kind

STAGES = ("submit", "wake", "ready", "check", "upload", "render", "download")
"""The stages of a job in order: the hub's answer, the wait for the GPU, the worker's readiness, and so on."""

ENTERED_BY = {
    "queued": "wake", "waking": "wake", "granted": "ready", "online": "check", "checked": "upload",
    "uploaded": "render", "rendered": "download", "retrying": "submit",
}  # fmt: skip
"""The kind of event that ends the stage before and begins this one."""


def stage_times(events: Iterable[tuple[float, e.JobEvent]], start: float = 0.0) -> dict[str, float]:
    """Seconds spent in each stage, from `(time, event)` pairs in order; stages never entered are absent.

    A job that went back to submit has the sum of its visits.
    """
    return stage_times_of_kinds(((at, kind(event)) for at, event in events), start)


def stage_times_of_kinds(events: Iterable[tuple[float, str]], start: float = 0.0) -> dict[str, float]:
    """The same from `(time, kind of event)` pairs, as a log has them."""
    spent: dict[str, float] = {}
    stage, since, last = "submit", start, start
    for at, name in events:
        last = at
        entered = _entered(stage, name)
        if entered != stage:
            spent[stage] = spent.get(stage, 0.0) + at - since
            stage, since = entered, at
    spent[stage] = spent.get(stage, 0.0) + last - since
    return spent


def _entered(stage: str, name: str) -> str:
    if name == "waking" and stage == "ready":
        return stage  # the worker's engine is loading: the GPU itself is awake
    return ENTERED_BY.get(name, stage)
