"""A marble diagram as one self-contained SVG: no scripts, no references outwards, light and dark by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from wakestream.adapters.cli.marbles import style
from wakestream.adapters.config.units import duration
from wakestream.streams.diagram.groups import flow, gathered, spread
from wakestream.streams.diagram.lanes import diagram
from wakestream.streams.diagram.layout import Bunch, Scale, bunched, chained, scale
from wakestream.streams.diagram.marbles import Diagram, Lane, Span
from wakestream.streams.recording.recording import Log
from wakestream.streams.replay.divergence import Divergence

WIDTH, LEFT, RIGHT = 1200.0, 168.0, 1010.0
"""The page, and where time begins and ends on it; outcomes stand to its right."""

ROW = 15.0
FLOW = 52.0
BAR = 14.0
CHAIN = 24.0
EDGE = WIDTH - 20
LABEL = 150.0

TONES = {
    "done": "t-ok", "failed": "t-bad", "timed_out": "t-bad", "cancelled": "t-quiet", "fault": "t-bad",
    "divergence": "t-bad", "retry": "t-retry",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pieces of SVG relative to the lane's top; `line` is where its line runs."""

    height: float
    line: float
    parts: tuple[str, ...]


def track(lane: Lane, scale: Scale, crowd: int) -> Drawn:
    """The lane as SVG; `crowd` is the number of lanes that want labels, for the room that each can have."""
    bunches = bunched(lane.marks, scale.at, 26.0 if lane.members else 9.0)
    above, below = _HEIGHTS.get(lane.kind, (11.0, 11.0))
    flags = style.labelled(
        lane, chained(bunches, CHAIN), _rows(lane, crowd), EDGE - LEFT,
        label=lambda bunch: style.cut(bunch.label, LABEL * (2 if bunch.weight == 4 else 1)),
        width=lambda text: style.text_width(text) + 11, fits=lambda span: _spot(span, scale) is not None,
    )  # fmt: skip
    line = max((row + 1 for *_, row in flags), default=0) * ROW + above
    parts = [*_under(lane, scale, line), *_raised(flags, line, above), *_marbles(lane, bunches, line)]
    return Drawn(line + below, line, (*parts, *_note(lane, line)))


_HEIGHTS = {"power": (14.0, 14.0), "job": (13.0, 15.0), "link": (8.0, 8.0), "jobs": (11.0, FLOW + 16)}
"""How much room lanes have above and below their line."""


def glyph(kind: str, x: float, y: float) -> str:
    """A mark's shape; an answered call is a stroke."""
    if kind == "effect":
        return f'<path class="eff" d="M{x:.1f} {y - 4:.1f}v8"/>'
    return f'<use href="#wm-{kind}" x="{x:.1f}" y="{y:.1f}"/>'


def _rows(lane: Lane, crowd: int) -> tuple[int, int]:
    """How many rows of labels a lane may have, and what a mark must weigh to bear one."""
    if lane.kind in ("job", "connection"):
        return (4, 1) if crowd <= 2 else (3, 2) if crowd <= 5 else (1, 3)
    return {"frames": (4, 1), "jobs": (2, 3), "self": (1, 1), "link": (1, 3), "power": (1, 2)}.get(lane.kind, (3, 1))


def _spot(span: Span, scale: Scale) -> float | None:
    """Where the word of a state stands within its band, clear of the strokes that break it."""
    left, right, wide = scale.at(span.start), scale.at(span.end), style.text_width(span.word)
    breaks = [middle for fold in scale.folds if left < (middle := (fold.left + fold.right) / 2) < right]
    for start, end in zip([left - 4, *breaks], [*breaks, right + 6], strict=True):
        if start + 9 + wide <= end - 8:
            return start + 9
    return None


def _raised(flags: Iterable[tuple[Bunch, str, int]], line: float, above: float) -> Iterator[str]:
    for bunch, label, row in flags:
        x, y = LEFT + bunch.x, line - above - row * ROW
        css = TONES.get(bunch.first.kind, "label" if bunch.weight > 1 else "minor")
        yield f'<path class="pole" d="M{x:.1f} {line:.1f}V{y - 9:.1f}"/>'
        if bunch.end > bunch.x + 1:
            yield f'<path class="many" d="M{x:.1f} {line - above + 3:.1f}H{LEFT + bunch.end:.1f}v3"/>'
        yield f'<text class="f {css}" x="{x + 4:.1f}" y="{y:.1f}">{style.safe(label)}</text>'


def _under(lane: Lane, scale: Scale, line: float) -> Iterator[str]:
    if lane.kind in ("power", "job"):
        yield from _bars(lane, scale, line)
        return
    yield f'<path class="wire" d="M{LEFT:.0f} {line:.1f}H{RIGHT:.0f}"/>'
    if lane.kind == "jobs":
        # How many jobs are in each stage over time, those that are over at the bottom.
        top = line + 10
        places = _places(scale)
        floor = [0] * len(places)
        for word, counts in flow(lane, [scale.time(x) for x in places]):
            ceiling = [low + count for low, count in zip(floor, counts, strict=True)]
            yield _layer(word, places, floor, ceiling, len(lane.members), top)
            floor = ceiling
        yield f'<path class="axis" d="M{LEFT:.0f} {top + FLOW:.1f}H{RIGHT:.0f}"/>'
    for span in lane.spans:
        css = span.word if span.word in ("up", "down") else "wire"
        left, right = LEFT + scale.at(span.start), LEFT + scale.at(span.end)
        yield f'<path class="{css}" d="M{left:.1f} {line:.1f}H{right:.1f}"/>'


def _bars(lane: Lane, scale: Scale, line: float) -> Iterator[str]:
    """The states of a machine with their names, or the stages of a job."""
    power = lane.kind == "power"
    height, round_ = (18.0, 3) if power else (BAR, 2)
    top = line - height / 2
    for span in lane.spans:
        left, right = scale.at(span.start), scale.at(span.end)
        tone = style.POWER.get(span.word, "off")
        lasted = f"{span.word}: {duration(span.end - span.start)}, from {style.clock(span.start, 3)}"
        yield f"<g><title>{style.safe(lasted)}</title>"
        yield (
            f'<rect class="{f"p-{tone}" if power else span.word}" x="{LEFT + left:.1f}" y="{top:.1f}" '
            f'width="{max(1.5, right - left):.1f}" height="{height:.0f}" rx="{round_}"/></g>'
        )
        spot = _spot(span, scale) if power else None
        if spot is not None:
            yield f'<text class="i-{tone}" x="{LEFT + spot:.1f}" y="{line + 4:.1f}">{style.safe(span.word)}</text>'
    # Two strokes through a bar where a wait is folded.
    for fold in scale.folds:
        if any(span.overlaps(fold.start, fold.end) for span in lane.spans):
            x = LEFT + (fold.left + fold.right) / 2
            tall = f"{height + 2:.0f}"
            yield f'<path class="cut" d="M{x - 6:.1f} {top + height + 1:.1f}l5-{tall}m2 {tall}l5-{tall}"/>'


def _places(scale: Scale) -> list[float]:
    right = scale.stretches[-1].right
    return [*(2.0 * step for step in range(int(right / 2) + 1)), right]


def _layer(word: str, places: Sequence[float], low: Sequence[int], high: Sequence[int], full: int, top: float) -> str:
    def y(count: int) -> float:
        return top + FLOW * (1 - count / full)

    edge = _corners([(x, y(count)) for x, count in zip(places, high, strict=True)])
    back = _corners([(x, y(count)) for x, count in zip(places, low, strict=True)])
    path = "L".join(f"{LEFT + x:.1f} {at:.1f}" for x, at in (*edge, *reversed(back)))
    most = max(above - below for above, below in zip(high, low, strict=True))
    return f'<path class="{word}" d="M{path}Z"><title>{word}: up to {most} jobs at once</title></path>'


def _corners(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points without those in the middle of a level line."""
    inner = range(1, len(points) - 1)
    flat = {i for i in inner if points[i - 1][1] == points[i][1] == points[i + 1][1]}
    return [point for i, point in enumerate(points) if i not in flat]


def _marbles(lane: Lane, bunches: Sequence[Bunch], line: float) -> Iterator[str]:
    """The marks, the weightiest on top; a call's answer stands beneath a job's bar: it is not the job's own event."""
    for bunch in sorted(bunches, key=lambda bunch: (bunch.weight, bunch.x)):
        kind, x = bunch.first.kind, LEFT + bunch.x
        drawn = _marble(lane, bunch, kind, x, line)
        yield f'<g data-rows="{len(bunch.marks)}"><title>{style.safe(_told(bunch))}</title>{drawn}</g>'


def _marble(lane: Lane, bunch: Bunch, kind: str, x: float, line: float) -> str:
    if lane.kind == "power" and kind != "divergence":
        return f'<path class="edge" d="M{x:.1f} {line - 9:.1f}v18"/>'
    if kind == "effect":
        return glyph(kind, x, line + 11 if lane.kind == "job" else line)
    if bunch.weight == 0 or (lane.kind == "jobs" and bunch.weight < 2):
        return f'<circle class="steady" cx="{x:.1f}" cy="{line:.1f}" r="2"/>'
    return glyph(kind, x, line)


def _told(bunch: Bunch) -> str:
    if len(bunch.marks) == 1:
        return bunch.first.text
    first, last = bunch.first, bunch.marks[-1]
    head = f"{bunch.label}, rows {first.seq} to {last.seq}, {first.t:.6f} s to {last.t:.6f} s"
    rows = [mark.text.partition("\n")[0] for mark in bunch.marks[:8]]
    more = [f"… and {len(bunch.marks) - 8} more"] if len(bunch.marks) > 8 else []
    return "\n".join([head, *rows, *more])


def _note(lane: Lane, line: float) -> Iterator[str]:
    """How a job ended, to the right of time."""
    x = RIGHT + 22
    if lane.kind == "job" and lane.outcome:
        yield f'<text class="{TONES.get(lane.outcome, "label")}" x="{x:.0f}" y="{line + 4:.1f}">{_word(lane)}'
        yield f'<tspan class="soft" dx="6">{duration(lane.end - lane.start)}</tspan></text>'
    if lane.kind == "jobs":
        middle, least, most = spread(member.end - member.start for member in lane.members)
        yield f'<text class="{TONES.get(lane.outcome, "label")}" x="{x:.0f}" y="{line + 22:.1f}">{_word(lane)}</text>'
        yield f'<text class="label" x="{x:.0f}" y="{line + 39:.1f}">median {duration(middle)}</text>'
        yield f'<text class="soft" x="{x:.0f}" y="{line + 56:.1f}">{duration(least)} to {duration(most)}</text>'


def _word(lane: Lane) -> str:
    return lane.outcome.replace("_", " ") or "mixed"


FOLD = 46.0
FOLDS = 7
APART = 16.0
TOP = 104.0


def svg(log: Log, divergences: Sequence[Divergence] = ()) -> str:
    """One self-contained SVG in light and dark, the same for the same log; jobs alike share a lane from 13 jobs on."""
    picture = gathered(diagram(log, divergences))
    found = scale(picture.moments, RIGHT - LEFT, fold=FOLD, most=FOLDS, apart=APART, price=picture.price)
    lanes, bottom = _lanes(picture, found)
    legend, below = _legend(picture, bottom + 34)
    notes, end = _notes(picture, below + 8)
    back = [*_folds(found, bottom), *_grid(found, bottom), *_parting(picture, found, bottom)]
    halo = '<g class="halo">' if picture.divergences else "<g>"
    parts = [*_head(picture), *back, halo, *lanes, "</g>", *legend, *notes]
    return "\n".join([*_opening(picture, end), *parts, "</svg>\n"])


def _opening(picture: Diagram, height: float) -> Iterator[str]:
    lanes = ", ".join(lane.title for lane in picture.lanes)
    told = f"{style.summary(picture)}. Time runs from left to right; long waits are folded. Lanes: {lanes}."
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wm" width="{WIDTH:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-labelledby="wm-title wm-desc">'
    )
    title = f"Marble diagram of a {picture.program} log"
    yield f'<title id="wm-title">{style.safe(title)}</title><desc id="wm-desc">{style.safe(told)}</desc>'
    yield style.STYLE
    yield style.GLYPHS
    yield f'<rect class="page" width="{WIDTH:.0f}" height="{height:.0f}"/>'


def _head(picture: Diagram) -> Iterator[str]:
    heading = style.cut(f"{picture.program} · {style.summary(picture)}", WIDTH * 0.7, 18)
    yield f'<text class="head" x="24" y="38">{style.safe(heading)}</text>'
    when = f"{datetime.fromtimestamp(picture.epoch, UTC):%Y-%m-%d %H:%M:%S} UTC"
    yield f'<text class="soft" x="24" y="57">recorded {when}; times are from its start, long waits are folded</text>'
    said = style.verdict(picture)
    if said:
        yield f'<text class="t-bad" x="{WIDTH - 24:.0f}" y="38" text-anchor="end">{said}</text>'


def _folds(scale: Scale, bottom: float) -> Iterator[str]:
    for fold in scale.folds:
        x, wide, lasted = LEFT + fold.left, fold.right - fold.left, fold.end - fold.start
        yield f"<g><title>{duration(lasted)} in which nothing new happened, folded</title>"
        yield f'<rect class="fold" x="{x:.1f}" y="{TOP - 30:.0f}" width="{wide:.1f}" height="{bottom - TOP + 30:.1f}"/>'
        middle = x + wide / 2
        yield f'<path class="zig" d="M{middle - 9:.1f} {TOP - 5:.0f}l4.5-7 4.5 10 4.5-10 4.5 7"/>'
        yield f'<text class="foldtext mid" x="{middle:.1f}" y="{TOP - 18:.0f}">{style.compact(lasted)}</text></g>'


def _grid(scale: Scale, bottom: float) -> Iterator[str]:
    yield f'<path class="axis" d="M{LEFT:.0f} {TOP:.0f}H{RIGHT:.0f}"/>'
    for x, label in style.ticks(scale, lambda text: style.text_width(text, 10) + 10):
        at = LEFT + x
        yield f'<path class="grid" d="M{at:.1f} {TOP:.0f}V{bottom:.1f}"/>'
        yield f'<text class="tick" x="{at + 3:.1f}" y="{TOP - 6:.0f}">{label}</text>'


def _lanes(picture: Diagram, scale: Scale) -> tuple[list[str], float]:
    y, parts = TOP + 10, []
    crowds = Counter(lane.kind for lane in picture.lanes)
    for index, lanes in enumerate(style.sections(picture)):
        if index:
            y += 8
            parts.append(f'<path class="grid" d="M24 {y:.1f}H{WIDTH - 24:.0f}"/>')
        for lane in lanes:
            drawn = track(lane, scale, crowds[lane.kind])
            parts += _lane(lane, drawn, y)
            y += drawn.height
    return parts, y + 8


def _lane(lane: Lane, drawn: Drawn, y: float) -> Iterator[str]:
    ids = "" if len(lane.ids) < 2 else ": " + ", ".join(lane.ids[:40]) + (" …" if len(lane.ids) > 40 else "")
    yield f'<g transform="translate(0 {y:.1f})" role="group" aria-label="{style.safe(lane.title)}">'
    yield f"<g><title>{style.safe(lane.title + ids)}</title>"
    shown = style.safe(style.cut(lane.title, LEFT - 44, 12.6))
    yield f'<text class="title" x="24" y="{drawn.line + 4:.1f}">{shown}</text></g>'
    yield from drawn.parts
    yield "</g>"


def _parting(picture: Diagram, scale: Scale, bottom: float) -> Iterator[str]:
    """A line at the first divergence: everything to its right is in doubt."""
    for divergence in picture.divergences[:1]:
        if divergence.row is not None:
            yield f'<path class="parts" d="M{LEFT + scale.at(divergence.row.t):.1f} {TOP:.0f}V{bottom:.1f}"/>'


def _legend(picture: Diagram, y: float) -> tuple[list[str], float]:
    parts, x = [], 24.0
    for name, text in style.legend(picture):
        wide = 20 + style.text_width(text) + 16
        if x + wide > WIDTH - 24:
            x, y = 24.0, y + 22
        stage = f'<rect class="{name}" y="-6" width="14" height="12" rx="3"/>'
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{stage if name in style.WORDS else glyph(name, 7, 0)}')
        parts.append(f'<text class="minor" x="20" y="4">{text}</text></g>')
        x += wide
    return parts, y


def _notes(picture: Diagram, y: float) -> tuple[list[str], float]:
    """Each divergence in words; the first ones with the difference."""
    parts: list[str] = []
    for css, line in style.divergence_notes(picture.divergences):
        y += 24 if css == "t-bad" else 16
        shown = style.safe(style.cut(line, WIDTH - 48))
        parts.append(f'<text class="{css}" x="24" y="{y:.1f}" xml:space="preserve">{shown}</text>')
    return parts, y + 20
