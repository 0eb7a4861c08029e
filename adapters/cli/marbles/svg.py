"""A marble diagram as one self-contained SVG: no scripts, no references outwards, light and dark by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from wakestream.adapters.cli.marbles import tracks
from wakestream.adapters.cli.marbles.axis import compact, ticks
from wakestream.adapters.cli.marbles.captions import summary, told, verdict
from wakestream.adapters.cli.marbles.style import GLYPHS, STYLE, WORDS, cut, safe, text_width
from wakestream.adapters.cli.marbles.tracks import LEFT, RIGHT, WIDTH, Drawn
from wakestream.adapters.cli.render.units import duration
from wakestream.streams.diagram.marbles import Diagram, Lane
from wakestream.streams.diagram.scale import Scale, scale

FOLD = 46.0
FOLDS = 7
APART = 16.0
TOP = 104.0


@dataclass(frozen=True, slots=True)
class _Page:
    picture: Diagram
    scale: Scale

    def at(self, t: float) -> float:
        return LEFT + self.scale.at(t)


def drawing(picture: Diagram) -> str:
    """The SVG's text; the same for the same diagram."""
    page = _Page(picture, scale(picture.moments, RIGHT - LEFT, fold=FOLD, most=FOLDS, apart=APART, price=picture.price))
    lanes, bottom = _lanes(page)
    legend, below = _legend(picture, bottom + 34)
    notes, end = _notes(picture, below + 8)
    back = [*_folds(page, bottom), *_grid(page, bottom), *_parting(page, bottom)]
    halo = '<g class="halo">' if picture.divergences else "<g>"
    parts = [*_head(picture), *back, halo, *lanes, "</g>", *legend, *notes]
    return "\n".join([*_opening(picture, end), *parts, "</svg>\n"])


def _opening(picture: Diagram, height: float) -> Iterator[str]:
    title, told = safe(_title(picture)), safe(_told(picture))
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="wm" width="{WIDTH:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-labelledby="wm-title wm-desc">'
    )
    yield f'<title id="wm-title">{title}</title><desc id="wm-desc">{told}</desc>'
    yield STYLE
    yield GLYPHS
    yield f'<rect class="page" width="{WIDTH:.0f}" height="{height:.0f}"/>'


def _title(picture: Diagram) -> str:
    return f"Marble diagram of a {picture.program} log"


def _told(picture: Diagram) -> str:
    lanes = ", ".join(lane.title for lane in picture.lanes)
    return f"{summary(picture)}. Time runs from left to right; long waits are folded. Lanes: {lanes}."


def _head(picture: Diagram) -> Iterator[str]:
    heading = cut(f"{picture.program} · {summary(picture)}", WIDTH * 0.7, 18)
    yield f'<text class="head" x="24" y="38">{safe(heading)}</text>'
    when = f"{datetime.fromtimestamp(picture.epoch, UTC):%Y-%m-%d %H:%M:%S} UTC"
    yield f'<text class="soft" x="24" y="57">recorded {when}; times are from its start, long waits are folded</text>'
    said = verdict(picture)
    if said:
        yield f'<text class="t-bad" x="{WIDTH - 24:.0f}" y="38" text-anchor="end">{said}</text>'


def _folds(page: _Page, bottom: float) -> Iterator[str]:
    for fold in page.scale.folds:
        x, wide, lasted = LEFT + fold.left, fold.right - fold.left, fold.end - fold.start
        yield f"<g><title>{duration(lasted)} in which nothing new happened, folded</title>"
        yield f'<rect class="fold" x="{x:.1f}" y="{TOP - 30:.0f}" width="{wide:.1f}" height="{bottom - TOP + 30:.1f}"/>'
        middle = x + wide / 2
        yield f'<path class="zig" d="M{middle - 9:.1f} {TOP - 5:.0f}l4.5-7 4.5 10 4.5-10 4.5 7"/>'
        yield f'<text class="foldtext mid" x="{middle:.1f}" y="{TOP - 18:.0f}">{compact(lasted)}</text></g>'


def _grid(page: _Page, bottom: float) -> Iterator[str]:
    yield f'<path class="axis" d="M{LEFT:.0f} {TOP:.0f}H{RIGHT:.0f}"/>'
    for x, label in ticks(page.scale, lambda text: text_width(text, 10) + 10):
        at = LEFT + x
        yield f'<path class="grid" d="M{at:.1f} {TOP:.0f}V{bottom:.1f}"/>'
        yield f'<text class="tick" x="{at + 3:.1f}" y="{TOP - 6:.0f}">{label}</text>'


def _lanes(page: _Page) -> tuple[list[str], float]:
    y, parts, before = TOP + 10, [], ""
    crowds = Counter(lane.kind for lane in page.picture.lanes)
    for lane in page.picture.lanes:
        section = "jobs" if lane.kind in ("job", "jobs") else lane.kind
        if before and section != before:
            y += 8
            parts.append(f'<path class="grid" d="M24 {y:.1f}H{WIDTH - 24:.0f}"/>')
        drawn = tracks.track(lane, page.scale, crowds[lane.kind])
        parts += _lane(lane, drawn, y)
        y += drawn.height
        before = section
    return parts, y + 8


def _lane(lane: Lane, drawn: Drawn, y: float) -> Iterator[str]:
    yield f'<g transform="translate(0 {y:.1f})" role="group" aria-label="{safe(lane.title)}">'
    shown = safe(cut(lane.title, LEFT - 44, 12.6))
    yield f"<g><title>{safe(_named(lane))}</title>"
    yield f'<text class="title" x="24" y="{drawn.line + 4:.1f}">{shown}</text></g>'
    yield from drawn.parts
    yield "</g>"


def _named(lane: Lane) -> str:
    ids = "" if len(lane.ids) < 2 else ": " + ", ".join(lane.ids[:40]) + (" …" if len(lane.ids) > 40 else "")
    return f"{lane.title}{ids}"


def _parting(page: _Page, bottom: float) -> Iterator[str]:
    """Where the replay first parts from the log: everything to the right of the line is in doubt."""
    rows = [found.expected or found.got for found in page.picture.divergences[:1]]
    for row in rows:
        if row is not None:
            yield f'<path class="parts" d="M{page.at(row.t):.1f} {TOP:.0f}V{bottom:.1f}"/>'


def _legend(picture: Diagram, y: float) -> tuple[list[str], float]:
    parts, x = [], 24.0
    for drawn, text in _entries(picture):
        wide = 20 + text_width(text) + 16
        if x + wide > WIDTH - 24:
            x, y = 24.0, y + 22
        parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{drawn}')
        parts.append(f'<text class="minor" x="20" y="4">{text}</text></g>')
        x += wide
    return parts, y


_MARKS = {
    "in": "message in", "out": "message out", "event": "event of a job", "effect": "call answered",
    "fault": "call failed", "conn": "link or clock", "retry": "tried again", "done": "done", "failed": "failed",
    "timed_out": "timed out", "cancelled": "cancelled", "divergence": "replay diverges",
}  # fmt: skip


def _entries(picture: Diagram) -> Iterator[tuple[str, str]]:
    lanes = [each for lane in picture.lanes for each in (lane, *lane.members)]
    words = {span.word for lane in lanes if lane.kind == "job" for span in lane.spans}
    kinds = {mark.kind for lane in lanes for mark in lane.marks}
    if any(lane.members and lane.kind == "jobs" for lane in lanes):
        words.add("over")
    for word, text in WORDS.items():
        if word in words:
            yield f'<rect class="{word}" y="-6" width="14" height="12" rx="3"/>', text
    for kind, text in _MARKS.items():
        if kind in kinds:
            yield tracks.glyph(kind, 7, 0), text


def _notes(picture: Diagram, y: float) -> tuple[list[str], float]:
    """Each divergence in words; the first ones with the difference."""
    parts: list[str] = []
    for css, line in told(picture.divergences):
        y += 24 if css == "t-bad" else 16
        parts.append(
            f'<text class="{css}" x="24" y="{y:.1f}" xml:space="preserve">{safe(cut(line, WIDTH - 48))}</text>'
        )
    return parts, y + 20
