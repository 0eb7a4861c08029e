"""A log as a marble diagram, for the terminal and as SVG: one line per stream, time to scale, long waits folded."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wakestream.adapters.cli.marbles import svg as marbles_svg
from wakestream.adapters.cli.marbles import text as marbles_text
from wakestream.adapters.cli.marbles.text import BOXES
from wakestream.streams.diagram.groups import gathered
from wakestream.streams.diagram.lanes import diagram
from wakestream.streams.recording.recording import Log
from wakestream.streams.replay.divergence import Divergence


def svg(log: Log, divergences: Sequence[Divergence] = ()) -> str:
    """One self-contained SVG in light and dark, the same for the same log; jobs alike share a lane from 13 jobs on."""
    return marbles_svg.drawing(gathered(diagram(log, divergences)))


def terminal(
    log: Log, divergences: Sequence[Divergence] = (), *, width: int, colour: bool, boxes: bool | None = None
) -> str:
    """Lines for a terminal of `width` cells (40 at least).

    Args:
        log: The log.
        divergences: The differences of its replay.
        width: The number of cells.
        colour: Whether to print colour codes.
        boxes: Whether to use box-drawing characters; by default, if standard output can print them. Else plain ASCII.
    """
    drawn = _writable(sys.stdout.encoding) if boxes is None else boxes
    return marbles_text.drawing(gathered(diagram(log, divergences)), width, colour=colour, boxes=drawn)


def _writable(encoding: str | None) -> bool:
    try:
        "".join(BOXES.values()).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
