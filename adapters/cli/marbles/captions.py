"""The words of a marble diagram: its heading, legend and labels, and where the replay differs from the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from wakestream.adapters.config.units import duration
from wakestream.streams.diagram.lanes import expectation
from wakestream.streams.diagram.layout import Bunch, Flag, place
from wakestream.streams.diagram.marbles import Diagram, Lane, Span
from wakestream.streams.recording.event_json import OUTCOME_KINDS
from wakestream.streams.replay.divergence import Divergence

DIFFS = 2
"""Divergences that are shown with their difference."""

NOTES = 8
"""Divergences that are shown at all."""

LINES = 8

WORDS = {
    "wait": "waiting", "upload": "uploading", "render": "rendering", "download": "downloading", "hold": "has its GPU",
    "over": "over",
}  # fmt: skip
"""What the legend calls a stage."""

MARKS = {
    "in": "message in", "out": "message out", "event": "event of a job", "effect": "call answered",
    "fault": "call failed", "conn": "link or clock", "retry": "tried again", "done": "done", "failed": "failed",
    "timed_out": "timed out", "cancelled": "cancelled", "divergence": "replay diverges",
}  # fmt: skip
"""What the legend calls a kind of mark."""


def summary(picture: Diagram) -> str:
    """How many jobs, and how long it lasted."""
    jobs = f"{picture.jobs} job{'s' * (picture.jobs != 1)}, " if picture.jobs else ""
    return f"{jobs}{duration(picture.seconds)}"


def verdict(picture: Diagram) -> str:
    """Whether the replay diverged; nothing where it did not."""
    count = len(picture.divergences)
    if not count:
        return ""
    return "≠ the replay diverges once" if count == 1 else f"≠ the replay diverges in {count} streams"


def told(divergences: Sequence[Divergence]) -> Iterator[tuple[str, str]]:
    """Lines about divergences, each with its tone: a heading (`t-bad`), a difference (`mono`), or an aside (`soft`)."""
    for index, found in enumerate(divergences[:NOTES]):
        at = f" at {found.row.t:.3f} s" if found.row is not None else ""
        yield "t-bad", f"≠ {found.stream}, row {found.seq}{at}: {expectation(found)}"
        if index < DIFFS:
            yield from (("mono", f"  {line}") for line in found.lines()[:LINES])
    if len(divergences) > NOTES:
        yield "soft", f"and {len(divergences) - NOTES} more"


def sections(picture: Diagram) -> Iterator[Iterable[Lane]]:
    """The lanes in groups of one kind; jobs with and without a group of their own are one kind."""
    return (lanes for _, lanes in groupby(picture.lanes, lambda lane: lane.kind.removesuffix("s")))


def legend(picture: Diagram) -> Iterator[tuple[str, str]]:
    """The stages and the kinds of marks in the diagram, each with its name in words."""
    lanes = [each for lane in picture.lanes for each in (lane, *lane.members)]
    words = {span.word for lane in lanes if lane.kind == "job" for span in lane.spans}
    if any(lane.members and lane.kind == "jobs" for lane in lanes):
        words.add("over")
    kinds = {mark.kind for lane in lanes for mark in lane.marks}
    return ((name, text) for name, text in (WORDS | MARKS).items() if name in words | kinds)


def labelled(
    lane: Lane,
    bunches: Iterable[Bunch],
    rows: tuple[int, int],
    right: float,
    *,
    label: Callable[[Bunch], str],
    width: Callable[[str], float],
    fits: Callable[[Span], bool],
) -> list[tuple[Bunch, str, int]]:
    """The bunches that have a label, each with its label and the row in which it stands.

    Args:
        lane: Their lane.
        bunches: All bunches of the lane.
        rows: The number of rows for labels, and the weight that a bunch with a label has at least.
        right: Where labels must end.
        label: The label of a bunch.
        width: The room that a label needs.
        fits: Whether the name of a power state fits into its band, so that it needs no label.
    """
    named = [bunch for bunch in bunches if bunch.weight >= rows[1] and not _is_said(lane, bunch, fits)]
    labels = [label(bunch) for bunch in named]
    flags = [Flag(bunch.x, width(text), bunch.weight) for bunch, text in zip(named, labels, strict=True)]
    placed = zip(named, labels, place(flags, rows[0], right), strict=True)
    return [(bunch, text, row) for bunch, text, row in placed if row is not None]


def _is_said(lane: Lane, bunch: Bunch, fits: Callable[[Span], bool]) -> bool:
    """Whether the label would repeat what stands within the band of a power state, or beside a job."""
    if lane.kind == "job":
        return bunch.first.kind in OUTCOME_KINDS
    if lane.kind != "power" or bunch.first.kind == "divergence":
        return False
    span = next((span for span in lane.spans if span.start == bunch.first.t), None)
    return span is None or fits(span)
