"""What a marble diagram says in words: its heading, and where the replay parted from the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wakestream.adapters.cli.render.units import duration
from wakestream.streams.diagram.lanes import expectation
from wakestream.streams.diagram.marbles import Diagram
from wakestream.streams.replay.divergence import Divergence

DIFFS = 2
"""Divergences that are shown with their difference."""

NOTES = 8
"""Divergences that are shown at all."""

LINES = 8


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
        row = found.expected or found.got
        at = f" at {row.t:.3f} s" if row is not None else ""
        yield "t-bad", f"≠ {found.stream}, row {found.seq}{at}: {expectation(found)}"
        if index < DIFFS:
            yield from (("mono", f"  {line}") for line in found.lines()[:LINES])
    if len(divergences) > NOTES:
        yield "soft", f"and {len(divergences) - NOTES} more"
