"""When a job entered each of its stages, read off its events."""

from __future__ import annotations

from collections.abc import Iterable

from wakestream.operators import events as e

STAGES = ("submit", "wake", "ready", "check", "upload", "render", "download")
"""The stages of a job in order: the hub's answer, the wait for the GPU, the worker's readiness, and so on."""

ENTERED_BY: dict[type, str] = {
    e.Queued: "wake", e.Waking: "wake", e.Granted: "ready", e.Online: "check", e.Checked: "upload",
    e.Uploaded: "render", e.Rendered: "download",
}  # fmt: skip
"""The event that ends the stage before and begins this one."""


def stage_times(events: Iterable[tuple[float, e.JobEvent]], start: float = 0.0) -> dict[str, float]:
    """Seconds spent in each stage, from `(time, event)` pairs in order; stages never entered are absent.

    A job that went back to submit has the sum of its visits.
    """
    spent: dict[str, float] = {}
    stage, since, last = "submit", start, start
    for at, event in events:
        last = at
        entered = _entered(stage, event)
        if entered != stage:
            spent[stage] = spent.get(stage, 0.0) + at - since
            stage, since = entered, at
    spent[stage] = spent.get(stage, 0.0) + last - since
    return spent


def _entered(stage: str, event: e.JobEvent) -> str:
    if isinstance(event, e.Retrying):
        return "submit"
    if isinstance(event, e.Waking) and stage == "ready":
        return stage  # the worker's engine is loading: the GPU itself is awake
    return ENTERED_BY.get(type(event), stage)
