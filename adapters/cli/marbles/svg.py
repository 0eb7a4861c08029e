"""A marble diagram as one self-contained SVG: no scripts, no references outwards, light and dark by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from wakestream.adapters.cli.marbles import tracks
from wakestream.adapters.cli.marbles.axis import compact, ticks
from wakestream.adapters.cli.marbles.captions import WORDS, legend, sections, summary, told, verdict
from wakestream.adapters.cli.marbles.style import GLYPHS, STYLE, cut, safe, text_width
from wakestream.adapters.cli.marbles.tracks import LEFT, RIGHT, WIDTH, Drawn
from wakestream.adapters.config.units import duration
from wakestream.streams.diagram.layout import Scale, scale
from wakestream.streams.diagram.marbles import Diagram, Lane

FOLD = 46.0
FOLDS = 7
APART = 16.0
TOP = 104.0


def drawing(picture: Diagram) -> str:
    """The SVG's text; the same for the same diagram."""
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
    told = f"{summary(picture)}. Time runs from left to right; long waits are folded. Lanes: {lanes}."
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wm" width="{WIDTH:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-labelledby="wm-title wm-desc">'
    )
    title = f"Marble diagram of a {picture.program} log"
    yield f'<title id="wm-title">{safe(title)}</title><desc id="wm-desc">{safe(told)}</desc>'
    yield STYLE
    yield GLYPHS
    yield f'<rect class="page" width="{WIDTH:.0f}" height="{height:.0f}"/>'


def _head(picture: Diagram) -> Iterator[str]:
    heading = cut(f"{picture.program} · {summary(picture)}", WIDTH * 0.7, 18)
    yield f'<text class="head" x="24" y="38">{safe(heading)}</text>'
    when = f"{datetime.fromtimestamp(picture.epoch, UTC):%Y-%m-%d %H:%M:%S} UTC"
    yield f'<text class="soft" x="24" y="57">recorded {when}; times are from its start, long waits are folded</text>'
    said = verdict(picture)
    if said:
        yield f'<text class="t-bad" x="{WIDTH - 24:.0f}" y="38" text-anchor="end">{said}</text>'


def _folds(scale: Scale, bottom: float) -> Iterator[str]:
    for fold in scale.folds:
        x, wide, lasted = LEFT + fold.left, fold.right - fold.left, fold.end - fold.start
        yield f"<g><title>{duration(lasted)} in which nothing new happened, folded</title>"
        yield f'<rect class="fold" x="{x:.1f}" y="{TOP - 30:.0f}" width="{wide:.1f}" height="{bottom - TOP + 30:.1f}"/>'
        middle = x + wide / 2
        yield f'<path class="zig" d="M{middle - 9:.1f} {TOP - 5:.0f}l4.5-7 4.5 10 4.5-10 4.5 7"/>'
        yield f'<text class="foldtext mid" x="{middle:.1f}" y="{TOP - 18:.0f}">{compact(lasted)}</text></g>'


def _grid(scale: Scale, bottom: float) -> Iterator[str]:
    yield f'<path class="axis" d="M{LEFT:.0f} {TOP:.0f}H{RIGHT:.0f}"/>'
    for x, label in ticks(scale, lambda text: text_width(text, 10) + 10):
        at = LEFT + x
        yield f'<path class="grid" d="M{at:.1f} {TOP:.0f}V{bottom:.1f}"/>'
        yield f'<text class="tick" x="{at + 3:.1f}" y="{TOP - 6:.0f}">{label}</text>'


def _lanes(picture: Diagram, scale: Scale) -> tuple[list[str], float]:
    y, parts = TOP + 10, []
    crowds = Counter(lane.kind for lane in picture.lanes)
    for index, lanes in enumerate(sections(picture)):
        if index:
            y += 8
            parts.append(f'<path class="grid" d="M24 {y:.1f}H{WIDTH - 24:.0f}"/>')
        for lane in lanes:
            drawn = tracks.track(lane, scale, crowds[lane.kind])
            parts += _lane(lane, drawn, y)
            y += drawn.height
    return parts, y + 8


def _lane(lane: Lane, drawn: Drawn, y: float) -> Iterator[str]:
    ids = "" if len(lane.ids) < 2 else ": " + ", ".join(lane.ids[:40]) + (" …" if len(lane.ids) > 40 else "")
    yield f'<g transform="translate(0 {y:.1f})" role="group" aria-label="{safe(lane.title)}">'
    yield f"<g><title>{safe(lane.title + ids)}</title>"
    yield f'<text class="title" x="24" y="{drawn.line + 4:.1f}">{safe(cut(lane.title, LEFT - 44, 12.6))}</text></g>'
    yield from drawn.parts
    yield "</g>"


def _parting(picture: Diagram, scale: Scale, bottom: float) -> Iterator[str]:
    """A line at the first divergence: everything to its right is in doubt."""
    for found in picture.divergences[:1]:
        if found.row is not None:
            yield f'<path class="parts" d="M{LEFT + scale.at(found.row.t):.1f} {TOP:.0f}V{bottom:.1f}"/>'


def _legend(picture: Diagram, y: float) -> tuple[list[str], float]:
    parts, x = [], 24.0
    for name, text in legend(picture):
        wide = 20 + text_width(text) + 16
        if x + wide > WIDTH - 24:
            x, y = 24.0, y + 22
        stage = f'<rect class="{name}" y="-6" width="14" height="12" rx="3"/>'
        parts.append(
            f'<g transform="translate({x:.1f} {y:.1f})">{stage if name in WORDS else tracks.glyph(name, 7, 0)}'
        )
        parts.append(f'<text class="minor" x="20" y="4">{text}</text></g>')
        x += wide
    return parts, y


def _notes(picture: Diagram, y: float) -> tuple[list[str], float]:
    """Each divergence in words; the first ones with the difference."""
    parts: list[str] = []
    for css, line in told(picture.divergences):
        y += 24 if css == "t-bad" else 16
        parts.append(
            f'<text class="{css}" x="24" y="{y:.1f}" xml:space="preserve">{safe(cut(line, WIDTH - 48))}</text>'
        )
    return parts, y + 20
