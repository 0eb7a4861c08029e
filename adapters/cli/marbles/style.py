"""What a marble diagram looks like as SVG: its colours in light and dark, its glyphs, and text that is safe in XML.

The palette is that of Okabe and Ito, which people with any kind of colour vision can tell apart; stages differ in
lightness as well, and every kind of mark has a shape of its own.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from wakestream.adapters.config.units import duration
from wakestream.streams.diagram.lanes import expectation
from wakestream.streams.diagram.layout import Bunch, Flag, Scale, Stretch, place
from wakestream.streams.diagram.marbles import Diagram, Lane, Span
from wakestream.streams.protocol.printable import printable
from wakestream.streams.recording.event_json import OUTCOME_KINDS
from wakestream.streams.replay.divergence import Divergence

POWER = {
    "online": "on", "booted": "near", "starting": "near", "draining": "leave", "stopping": "leave", "off": "off",
    "unknown": "off", "no_capacity": "bad", "failed": "bad",
}  # fmt: skip
"""How a power state is coloured."""

STYLE = f"<style>{Path(__file__).with_name('svg.css').read_text('utf-8')}</style>".replace("\n", "")

_INK, _INKED = '<path class="wm-ink" d="', '"/>'
_BOX = '<rect class="wm-g {}" x="-6.5" y="-6.5" width="13" height="13" rx="2"/>'
_SHAPES = {
    "in": '<circle class="wm-g wm-g-in" r="5"/>',
    "out": '<circle class="wm-g-out" r="4.2"/>',
    "event": '<circle class="wm-g wm-g-event" r="3.9"/>',
    "conn": '<rect class="wm-g wm-g-conn" x="-3.5" y="-3.5" width="7" height="7"/>',
    "fault": '<path class="wm-g wm-g-fault" d="M0-6 6 5-6 5Z"/>',
    "retry": '<circle class="wm-g wm-g-retry" r="6.5"/>{M2.6-1.8A3.2 3.2 0 1 0 3.2 1M2.9-3.9V-1.5H.6}',
    "done": '<circle class="wm-g wm-g-done" r="7"/>{M-3 .2-.9 2.4 3.2-2.2}',
    "failed": _BOX.format("wm-g-failed") + "{M-2.6-2.6 2.6 2.6M2.6-2.6-2.6 2.6}",
    "timed_out": _BOX.format("wm-g-timed_out") + "{M-2.5-3.2H2.5L-2.5 3.2H2.5Z}",
    "cancelled": '<circle class="wm-g wm-g-cancelled" r="7"/>{M-3.4 0H3.4}',
    "divergence": (
        '<path class="wm-g wm-g-divergence" d="M0-8.5 8.5 0 0 8.5-8.5 0Z"/>{M-3.2-1.5H3.2M-3.2 1.5H3.2M1.6-3.4-1.6 3.4}'
    ),
}
"""The shape of each kind of mark around its own origin; what stands in braces is inked on it."""

GLYPHS = "<defs>{}</defs>".format(
    "".join(f'<g id="wm-{kind}">{shape.replace("{", _INK).replace("}", _INKED)}</g>' for kind, shape in _SHAPES.items())
)


def safe(text: str) -> str:
    """Text for XML: markup escaped, and control, surrogate and direction-changing characters made visible."""
    return html.escape(visible(text), quote=True)


def visible(text: str) -> str:
    """Text without characters that a terminal or a page would act on."""
    return printable(text.replace("\t", " "), layout=True)


def text_width(text: str, size: float = 11.0) -> float:
    """How wide a text can be at most, in the widest of the usual system fonts."""
    return sum(map(_em, text)) * size


def _em(char: str) -> float:
    if unicodedata.east_asian_width(char) in "WF":
        return 1.05
    if char in "iljI.,:;'|! ()[]tfr/":
        return 0.4
    if char in "mwMW@%—…":
        return 1.0
    return 0.72 if char.isupper() or ord(char) > 0x2000 else 0.64


def cut(text: str, width: float, size: float = 11.0) -> str:
    """The text, or its beginning and `…` where it is wider than `width`."""
    if text_width(text, size) <= width:
        return text
    kept = text
    while kept and text_width(kept + "…", size) > width:
        kept = kept[:-1]
    return kept + "…"


# The time axis of a marble diagram: where its ticks stand, and times in few letters.

PER_TICK = 92.0
"""Ticks are about this far apart, in pixels."""


def ticks(scale: Scale, width_of: Callable[[str], float], apart: float = PER_TICK) -> Iterator[tuple[float, str]]:
    """Place and text of each tick, from left to right; none touches the next, and none stands in a folded wait."""
    free = -math.inf
    for stretch in scale.stretches:
        if stretch.folded:
            continue
        for t, label in _of(stretch, apart):
            x = stretch.at(t)
            if x >= free and x + width_of(label) <= stretch.right + width_of(""):
                yield x, label
                free = x + width_of(label)


def _of(stretch: Stretch, apart: float) -> Iterator[tuple[float, str]]:
    span, wide = stretch.end - stretch.start, stretch.right - stretch.left
    if span <= 0 or wide <= 0:
        return
    step = _round(span * apart / wide)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(stretch.start / step - 1e-9)
    for count in range(first, first + int(wide / apart * 3) + 2):
        if count * step <= stretch.end:
            yield count * step, clock(count * step, decimals)


def _round(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten; above a minute, whole parts of an hour."""
    for whole in (60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400):
        if 50 < step <= whole:
            return float(whole)
    power = 10.0 ** math.floor(math.log10(step))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= step * (1 - 1e-9))


def clock(t: float, decimals: int) -> str:
    """A moment: `95.2 s`, from two minutes on `2:05` or `1:02:05`."""
    if t < 120:
        return f"{t:.{decimals}f} s"
    minutes, seconds = divmod(t, 60)
    hours, minutes = divmod(int(minutes), 60)
    rest = f"{seconds:0{3 + decimals if decimals else 2}.{decimals}f}"
    return f"{hours}:{minutes:02}:{rest}" if hours else f"{minutes}:{rest}"


def compact(seconds: float) -> str:
    """How long in at most six letters: `8 ms`, `2.2 s`, `58 s`, `1m 35s`, `29 min`, `2h 03m`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10:
        return f"{minutes}m {rest:02}s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02}m"


# The words of a marble diagram: its heading, legend and labels, and where the replay differs from the log.

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


def divergence_notes(divergences: Sequence[Divergence]) -> Iterator[tuple[str, str]]:
    """Lines about divergences, each with its tone: a heading (`t-bad`), a difference (`mono`), or an aside (`soft`)."""
    for index, divergence in enumerate(divergences[:NOTES]):
        at = f" at {divergence.row.t:.3f} s" if divergence.row is not None else ""
        yield "t-bad", f"≠ {divergence.stream}, row {divergence.seq}{at}: {expectation(divergence)}"
        if index < DIFFS:
            yield from (("mono", f"  {line}") for line in divergence.lines()[:LINES])
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
