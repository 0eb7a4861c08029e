"""A marble diagram as lines of text for a terminal: box-drawing characters or plain ASCII, with or without colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from wakestream.adapters.cli.marbles.axis import compact, ticks
from wakestream.adapters.cli.marbles.canvas import ASCII, BOXES, LETTERS, Canvas
from wakestream.adapters.cli.marbles.captions import summary, told, verdict
from wakestream.adapters.cli.marbles.style import POWER, WORDS, visible
from wakestream.streams.diagram.groups import flow, spread
from wakestream.streams.diagram.labels import Bunch, Flag, bunched, chained, place
from wakestream.streams.diagram.marbles import Diagram, Lane, Span
from wakestream.streams.diagram.scale import Scale, scale
from wakestream.streams.recording.event_json import OUTCOME_KINDS

FOLD = 8
NARROWEST = 40
NOTE = 12
LEVELS = 3
"""Rows in which the flow of many jobs is drawn."""

KINDS = {
    "in": "message in", "out": "message out", "event": "event", "effect": "call", "fault": "call failed",
    "retry": "tried again", "done": "done", "failed": "failed", "timed_out": "timed out", "cancelled": "cancelled",
    "divergence": "replay diverges",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Page:
    """`left` and `right` are the first and the last column of time."""

    width: int
    left: int
    right: int
    scale: Scale
    glyphs: dict[str, str]
    crowds: Counter[str]

    def x(self, t: float) -> int:
        return self.left + round(self.scale.at(t))

    def text(self, text: str) -> str:
        shown = visible(text).replace("\n", " ")
        if self.glyphs is BOXES:
            return shown
        return shown.translate(ASCII).encode("ascii", "replace").decode()

    def cut(self, text: str, cells: int) -> str:
        shown = self.text(text)
        return shown if cell_len(shown) <= cells else set_cell_size(shown, max(1, cells - 1)).rstrip() + self.text("…")


def drawing(picture: Diagram, width: int, *, colour: bool, boxes: bool) -> str:
    """The lines, none longer than `width` cells (40 at least)."""
    page = _page(picture, max(NARROWEST, width), BOXES if boxes else LETTERS)
    canvases = [*_head(picture, page), *_axis(page)]
    before = ""
    for lane in picture.lanes:
        section = "jobs" if lane.kind in ("job", "jobs") else lane.kind
        canvases += [Canvas(page.width)] if section != before else []
        canvases += _lane(lane, page)
        before = section
    canvases += [Canvas(page.width), *_legend(picture, page), *_notes(picture, page)]
    return "\n".join(canvas.line(colour) for canvas in canvases) + "\n"


def _page(picture: Diagram, width: int, glyphs: dict[str, str]) -> _Page:
    widest = max((cell_len(visible(lane.title)) for lane in picture.lanes), default=0)
    left = min(widest, max(14, width // 6)) + 2
    right = width - NOTE - 1
    found = scale(
        picture.moments, right - left, fold=FOLD, most=(right - left) // (3 * FOLD), apart=3.0, price=picture.price
    )
    return _Page(width, left, right, found, glyphs, Counter(lane.kind for lane in picture.lanes))


def _head(picture: Diagram, page: _Page) -> Iterator[Canvas]:
    canvas = Canvas(page.width)
    canvas.put(0, page.text(f"{picture.program} · {summary(picture)}"), "head")
    said = page.text(verdict(picture))
    canvas.put(page.width - cell_len(said), said, "t-bad")
    yield canvas
    yield Canvas(page.width)


def _axis(page: _Page) -> Iterator[Canvas]:
    numbers, line = Canvas(page.width), Canvas(page.width)
    line.put(page.left, page.glyphs["line"] * (page.right - page.left + 1), "soft")
    for x, label in ticks(page.scale, lambda text: cell_len(text) + 2.0, 14.0):
        numbers.put(page.left + round(x), label, "soft")
        line.put(page.left + round(x), page.glyphs["tick"], "soft")
    for fold in page.scale.folds:
        middle = page.left + (fold.left + fold.right) / 2
        lasted = compact(fold.end - fold.start)
        numbers.put(round(middle - cell_len(lasted) / 2), lasted, "title")
        line.put(round(middle) - 1, page.glyphs["fold"] * 2, "title")
    return iter((numbers, line))


def _lane(lane: Lane, page: _Page) -> Iterator[Canvas]:
    bunches = bunched(lane.marks, lambda t: float(page.x(t)), 0.5 if not lane.members else 3.0)
    yield from _flags(lane, bunches, page)
    canvas = Canvas(page.width)
    canvas.put(0, page.cut(lane.title, page.left - 2), "title")
    _line(lane, page, canvas)
    _marbles(lane, bunches, page, canvas)
    _note(lane, page, canvas)
    yield canvas
    if lane.kind == "jobs":
        yield from _flow(lane, page)


def _flags(lane: Lane, bunches: Sequence[Bunch], page: _Page) -> list[Canvas]:
    rows, least = _rows(lane, page.crowds[lane.kind])
    named = [each for each in chained(bunches, 3.0) if each.weight >= least and not _said(lane, each, page)]
    labels = [page.cut(each.label, 28) for each in named]
    flags = [Flag(each.x, cell_len(label) + 2, each.weight) for each, label in zip(named, labels, strict=True)]
    found = place(flags, rows, page.width)
    used = max((row + 1 for row in found if row is not None), default=0)
    canvases = [Canvas(page.width) for _ in range(used)]
    for bunch, label, row in zip(named, labels, found, strict=True):
        if row is not None:
            _flag(canvases, round(bunch.x), row, label, bunch, page)
    return canvases[::-1]


def _flag(canvases: list[Canvas], x: int, row: int, label: str, bunch: Bunch, page: _Page) -> None:
    glyphs = page.glyphs
    for at in range(row + 1):
        taken = canvases[at].cells[x][0] in (glyphs["pole"], glyphs["flag"], glyphs["branch"])
        canvases[at].put(x, glyphs["branch" if taken else "flag" if at == row else "pole"], "soft")
    tone = bunch.first.kind if bunch.weight > 2 else "" if bunch.weight > 1 else "soft"
    canvases[row].put(x + 1, label, tone if tone not in ("in", "out") else "")


def _rows(lane: Lane, crowd: int) -> tuple[int, int]:
    if lane.kind in ("job", "connection"):
        return (4, 2) if crowd <= 2 else (1, 3)
    return {"frames": (4, 2), "jobs": (2, 3), "self": (1, 1), "link": (1, 3), "power": (1, 2)}.get(lane.kind, (2, 1))


def _said(lane: Lane, bunch: Bunch, page: _Page) -> bool:
    if lane.kind == "job":
        return bunch.first.kind in OUTCOME_KINDS
    if lane.kind != "power" or bunch.first.kind == "divergence":
        return False
    span = next((span for span in lane.spans if span.start == bunch.first.t), None)
    return span is None or _fits(span, page)


def _fits(span: Span, page: _Page) -> bool:
    return page.x(span.end) - page.x(span.start) > cell_len(page.text(span.word)) + 1


def _line(lane: Lane, page: _Page, canvas: Canvas) -> None:
    glyphs = page.glyphs
    if lane.kind not in ("power", "job"):
        canvas.put(page.left, glyphs["line"] * (page.right - page.left + 1), "soft")
    for span in lane.spans:
        start, wide = page.x(span.start), page.x(span.end) - page.x(span.start) + 1
        tone = POWER.get(span.word, "off") if lane.kind == "power" else span.word
        canvas.put(
            start, glyphs["band" if lane.kind == "power" else span.word if span.word in glyphs else "line"] * wide, tone
        )
    for fold in page.scale.folds:
        middle = page.left + round((fold.left + fold.right) / 2)
        if lane.kind not in ("power", "job") or any(s.start < fold.end and s.end > fold.start for s in lane.spans):
            canvas.put(middle - 1, glyphs["fold"] * 2, "")
    if lane.kind == "power":
        _words(lane, page, canvas)


def _words(lane: Lane, page: _Page, canvas: Canvas) -> None:
    for span in lane.spans:
        tone = POWER.get(span.word, "off")
        canvas.put(page.x(span.start), page.glyphs["edge"], tone)
        if _fits(span, page):
            canvas.put(page.x(span.start) + 1, page.text(span.word), tone)


def _marbles(lane: Lane, bunches: Iterable[Bunch], page: _Page, canvas: Canvas) -> None:
    """The weightiest of a column is seen; what happens all the time is the line itself."""
    for bunch in sorted(bunches, key=lambda bunch: (bunch.weight, bunch.x)):
        kind = bunch.first.kind
        if lane.kind == "power" and kind != "divergence":
            continue
        if lane.kind in ("job", "jobs") and (kind == "effect" or bunch.weight == 0):
            continue
        shown = "effect" if bunch.weight == 0 else kind
        canvas.put(round(bunch.x), page.glyphs[shown], shown)


def _note(lane: Lane, page: _Page, canvas: Canvas) -> None:
    x = page.right + 2
    if lane.kind == "job" and lane.outcome:
        canvas.put(x, f"{page.glyphs[lane.outcome]} {compact(lane.end - lane.start)}", lane.outcome)
    if lane.kind == "jobs":
        middle = spread(member.end - member.start for member in lane.members)[0]
        canvas.put(x, f"{page.glyphs.get(lane.outcome, ' ')} ~{compact(middle)}", lane.outcome)


def _flow(lane: Lane, page: _Page) -> Iterator[Canvas]:
    """The jobs of a group, from those that wait at the top to those that are over at the bottom."""
    least, most = spread(member.end - member.start for member in lane.members)[1:]
    columns = range(page.right - page.left + 1)
    layers = flow(lane, [page.scale.time(x) for x in columns])
    asides = [page.text(f"{compact(least)} to"), compact(most), ""]
    for level in range(LEVELS):
        canvas, share = Canvas(page.width), 1 - (level + 0.5) / LEVELS
        for x in columns:
            word = _at_level([(word, counts[x]) for word, counts in layers], share * len(lane.members))
            canvas.put(page.left + x, page.glyphs[word], word)
        canvas.put(page.right + 2, asides[level], "soft")
        yield canvas


def _at_level(layers: Iterable[tuple[str, int]], height: float) -> str:
    """The stage that stands at this height of the stack; nothing above it."""
    for word, count in layers:
        height -= count
        if height < 0:
            return word
    return "over"


def _legend(picture: Diagram, page: _Page) -> Iterator[Canvas]:
    lanes = [each for lane in picture.lanes for each in (lane, *lane.members)]
    words = {span.word for lane in lanes if lane.kind == "job" for span in lane.spans}
    kinds = {mark.kind for lane in lanes for mark in lane.marks}
    calls = any(lane.kind == "effects" for lane in lanes)
    entries = [(word, text, 2) for word, text in WORDS.items() if word in words]
    entries += [(kind, text, 1) for kind, text in KINDS.items() if kind in kinds and (kind != "effect" or calls)]
    canvas, x = Canvas(page.width), 0
    for name, text, times in entries:
        if x + times + 1 + cell_len(text) > page.width:
            yield canvas
            canvas, x = Canvas(page.width), 0
        canvas.put(x, page.glyphs[name] * times, name)
        canvas.put(x + times + 1, text, "soft")
        x += times + cell_len(text) + 4
    yield canvas


def _notes(picture: Diagram, page: _Page) -> Iterator[Canvas]:
    if picture.divergences:
        yield Canvas(page.width)
    for tone, line in told(picture.divergences):
        canvas = Canvas(page.width)
        canvas.put(0, page.cut(line, page.width), tone)
        yield canvas
