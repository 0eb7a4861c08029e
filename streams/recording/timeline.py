"""How long a job was in each of its stages, from its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from wakestream.operators.model import events as e
from wakestream.streams.recording.event_json import kind, kind_of

STAGES = ("submit", "wake", "ready", "check", "upload", "render", "download")
"""The stages of a job in order: the hub's answer, the wait for the GPU, the worker's readiness, and so on."""

STAGE_AFTER: Mapping[type, str] = {
    e.Queued: "wake", e.Waking: "wake", e.Granted: "check", e.Online: "check", e.Checked: "upload",
    e.Uploading: "upload", e.Uploaded: "render", e.Submitted: "render", e.Running: "render", e.Rendered: "download",
    e.Downloading: "download", e.Storing: "upload", e.Stored: "render", e.Remote: "render", e.Delivered: "download",
}  # fmt: skip
"""The stage that a job is in after an event, as people see it: the wait for the worker counts as `check`."""


_AFTER = {kind_of(event): stage for event, stage in STAGE_AFTER.items()}


def stage_after(stage: str, name: str) -> str:
    """The stage after one more event of this kind. A wait is no step back while files go to the depot, or later.

    Example:
        >>> stage_after("upload", "waking"), stage_after("upload", "queued")
        ('upload', 'wake')
    """
    later = name == "waking" and stage in ("upload", "render", "download")
    return stage if later else _AFTER.get(name, stage)


_BEGINS = {
    kind_of(event): STAGE_AFTER[event]
    for event in (e.Queued, e.Waking, e.Online, e.Checked, e.Uploaded, e.Rendered, e.Stored, e.Delivered)
}
_BEGINS |= {"granted": "ready", "retrying": "submit"}
"""The stage that each kind of event begins."""


def stage_times(events: Iterable[tuple[float, e.JobEvent]], start: float = 0.0) -> dict[str, float]:
    """Add up how long a job was in each stage.

    Example:
        >>> stage_times([(2.0, Queued()), (32.0, Granted("offline", 32.0))])
        {'submit': 2.0, 'wake': 30.0, 'ready': 0.0}

    Args:
        events: Pairs of time and event, in order. If a stage is entered several times, its times are added.
        start: The time of the submit.

    Returns:
        The seconds in each stage; stages that were not entered are absent.
    """
    return stage_times_of_kinds(((at, kind(event)) for at, event in events), start)


def stage_times_of_kinds(events: Iterable[tuple[float, str]], start: float = 0.0) -> dict[str, float]:
    """The same from pairs of time and kind of event, as a log has them."""
    last, stage = start, "submit"
    entered = [(last, stage)]
    for last, name in events:
        before, stage = stage, _entered(stage, name)
        if stage != before:
            entered.append((last, stage))
    return spent([*entered, (last, "")])


def spent(entered: Iterable[tuple[float, str]]) -> dict[str, float]:
    """Return the seconds in each stage, from the times at which stages were entered; the last one marks the end."""
    seconds: dict[str, float] = {}
    for (since, stage), (until, _) in pairwise(entered):
        seconds[stage] = seconds.get(stage, 0.0) + until - since
    return seconds


def _entered(stage: str, name: str) -> str:
    if name == "waking" and stage in ("ready", "render"):
        return stage  # the GPU is on, and the worker's engine is loading; or the files are in the depot
    return _BEGINS.get(name, stage)
