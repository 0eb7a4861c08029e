"""A marble diagram as lines of text for a terminal: box-drawing characters or plain ASCII, with or without colour."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from wakestream.adapters.cli.marbles import style
from wakestream.streams.diagram.groups import flow, gathered, spread
from wakestream.streams.diagram.lanes import diagram
from wakestream.streams.diagram.layout import Bunch, bunched, chained, scale
from wakestream.streams.diagram.marbles import TIMES, Diagram, Lane, Span
from wakestream.streams.recording.recording import Log
from wakestream.streams.replay.divergence import Divergence

_GLYPHS = {
    "in": ("●", "*"), "out": ("○", "o"), "effect": ("·", "'"), "conn": ("■", "#"), "event": ("◆", "+"),
    "fault": ("▲", "!"), "retry": ("↻", "R"), "done": ("✓", "D"), "failed": ("✗", "F"), "timed_out": ("⌀", "T"),
    "cancelled": ("⊘", "C"), "divergence": ("≠", "X"), "line": ("─", "-"), "pole": ("│", "|"), "flag": ("╭", "/"),
    "branch": ("├", "|"), "tick": ("┬", "+"), "band": ("═", "="), "edge": ("╞", "["), "up": ("━", "="),
    "wait": ("░", "."), "upload": ("▒", "u"), "render": ("█", "r"), "download": ("▓", "d"), "hold": ("█", "h"),
    "over": (" ", " "),
    "fold": ("\N{BOX DRAWINGS LIGHT DIAGONAL UPPER RIGHT TO LOWER LEFT}", "/"),
}  # fmt: skip
"""What is drawn with box-drawing characters, and in plain ASCII."""

BOXES, LETTERS = ({name: glyphs[at] for name, glyphs in _GLYPHS.items()} for at in (0, 1))
ASCII = str.maketrans({TIMES: "x", "≠": "X", "…": "~", "·": "-"})

SGR = {
    "wait": "90", "upload": "36", "render": "34", "download": "32", "hold": "34", "over": "90", "in": "34",
    "out": "33", "fault": "31", "retry": "33", "done": "32", "failed": "31", "timed_out": "31", "cancelled": "90",
    "divergence": "1;31", "conn": "90", "soft": "90", "t-bad": "1;31", "head": "1", "title": "1", "up": "32",
    "on": "32", "near": "33", "leave": "35", "off": "90", "bad": "31", "effect": "90",
}  # fmt: skip
"""The terminal's own colours: they follow its theme, light or dark."""


class Canvas:
    """Cells of one line, each with its tone; wide characters take two."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.cells = [(" ", "")] * width

    def put(self, x: int, text: str, tone: str = "") -> None:
        """Write from cell `x` on; what does not fit is left out."""
        for char in text:
            wide = cell_len(char)
            if x >= 0 and x + wide <= self.width and wide:
                self.cells[x] = (char, tone)
                self.cells[x + 1 : x + wide] = [("", tone)] * (wide - 1)
            x += wide

    def line(self, colour: bool) -> str:
        """The cells as text, with escape codes if `colour`."""
        if not colour:
            return "".join(char for char, _ in self.cells).rstrip()
        parts, before = [], ""
        for char, tone in self.cells:
            code = SGR.get(tone, "")
            if code != before:
                parts.append(f"\x1b[0m\x1b[{code}m" if code else "\x1b[0m")
                before = code
            parts.append(char)
        return "".join(parts).rstrip() + ("\x1b[0m" if before else "")


FOLD = 8
NARROWEST = 40
NOTE = 12
LEVELS = 3
"""Rows in which the flow of many jobs is drawn."""

ROWS = {
    "job": (4, 2), "connection": (4, 2), "frames": (4, 2), "jobs": (2, 3), "self": (1, 1), "link": (1, 3),
    "power": (1, 2),
}  # fmt: skip
"""For each kind of lane, how many rows of labels it may have, and the weight of marks that have one."""


class _Page:
    """How the picture is spread over the cells; `left` and `right` are the first and the last column of time."""

    def __init__(self, picture: Diagram, width: int, glyphs: dict[str, str]) -> None:
        widest = max((cell_len(style.visible(lane.title)) for lane in picture.lanes), default=0)
        self.width, self.glyphs = width, glyphs
        self.left, self.right = min(widest, max(14, width // 6)) + 2, width - NOTE - 1
        self.crowds = Counter(lane.kind for lane in picture.lanes)
        room = self.right - self.left
        self.scale = scale(picture.moments, room, fold=FOLD, most=room // (3 * FOLD), apart=3.0, price=picture.price)

    def x(self, t: float) -> int:
        return self.left + round(self.scale.at(t))

    def text(self, text: str) -> str:
        shown = style.visible(text).replace("\n", " ")
        if self.glyphs is BOXES:
            return shown
        return shown.translate(ASCII).encode("ascii", "replace").decode()

    def cut(self, text: str, cells: int) -> str:
        shown = self.text(text)
        return shown if cell_len(shown) <= cells else set_cell_size(shown, max(1, cells - 1)).rstrip() + self.text("…")


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
    if boxes is None:
        try:
            boxes = bool("".join(BOXES.values()).encode(sys.stdout.encoding or "ascii"))
        except (UnicodeEncodeError, LookupError):
            boxes = False
    picture = gathered(diagram(log, divergences))
    page = _Page(picture, max(NARROWEST, width), BOXES if boxes else LETTERS)
    canvases = [*_head(picture, page), *_axis(page)]
    for lanes in style.sections(picture):
        canvases += [Canvas(page.width), *(canvas for lane in lanes for canvas in _lane(lane, page))]
    canvases += [Canvas(page.width), *_legend(picture, page), *_notes(picture, page)]
    return "\n".join(canvas.line(colour) for canvas in canvases) + "\n"


def _head(picture: Diagram, page: _Page) -> Iterator[Canvas]:
    canvas = Canvas(page.width)
    canvas.put(0, page.text(f"{picture.program} · {style.summary(picture)}"), "head")
    said = page.text(style.verdict(picture))
    canvas.put(page.width - cell_len(said), said, "t-bad")
    yield canvas
    yield Canvas(page.width)


def _axis(page: _Page) -> Iterator[Canvas]:
    numbers, line = Canvas(page.width), Canvas(page.width)
    line.put(page.left, page.glyphs["line"] * (page.right - page.left + 1), "soft")
    for x, label in style.ticks(page.scale, lambda text: cell_len(text) + 2.0, 14.0):
        numbers.put(page.left + round(x), label, "soft")
        line.put(page.left + round(x), page.glyphs["tick"], "soft")
    for fold in page.scale.folds:
        middle = page.left + (fold.left + fold.right) / 2
        lasted = style.compact(fold.end - fold.start)
        numbers.put(round(middle - cell_len(lasted) / 2), lasted, "title")
        line.put(round(middle) - 1, page.glyphs["fold"] * 2, "title")
    yield from (numbers, line)


def _lane(lane: Lane, page: _Page) -> Iterator[Canvas]:
    bunches = bunched(lane.marks, lambda t: float(page.x(t)), 0.5 if not lane.members else 3.0)
    crowded = lane.kind in ("job", "connection") and page.crowds[lane.kind] > 2
    labels = style.labelled(
        lane, chained(bunches, 3.0), (1, 3) if crowded else ROWS.get(lane.kind, (2, 1)), page.width,
        label=lambda bunch: page.cut(bunch.label, 28), width=lambda text: cell_len(text) + 2,
        fits=lambda span: _fits(span, page),
    )  # fmt: skip
    canvases = [Canvas(page.width) for _ in range(max((row + 1 for *_, row in labels), default=0))]
    for bunch, label, row in labels:
        x = round(bunch.x)
        glyphs = page.glyphs
        for at in range(row + 1):
            taken = canvases[at].cells[x][0] in (glyphs["pole"], glyphs["flag"], glyphs["branch"])
            canvases[at].put(x, glyphs["branch" if taken else "flag" if at == row else "pole"], "soft")
        tone = bunch.first.kind if bunch.weight > 2 else "" if bunch.weight > 1 else "soft"
        canvases[row].put(x + 1, label, tone if tone not in ("in", "out") else "")
    yield from canvases[::-1]
    canvas = Canvas(page.width)
    canvas.put(0, page.cut(lane.title, page.left - 2), "title")
    _line(lane, page, canvas)
    _marbles(lane, bunches, page, canvas)
    _note(lane, page, canvas)
    yield canvas
    if lane.kind == "jobs":
        # The jobs of a group, from those that wait at the top to those that are over at the bottom.
        least, most = spread(member.end - member.start for member in lane.members)[1:]
        columns = range(page.right - page.left + 1)
        layers = flow(lane, [page.scale.time(x) for x in columns])
        asides = [page.text(f"{style.compact(least)} to"), style.compact(most), ""]
        for level in range(LEVELS):
            canvas, share = Canvas(page.width), 1 - (level + 0.5) / LEVELS
            for x in columns:
                word = _at_level([(word, counts[x]) for word, counts in layers], share * len(lane.members))
                canvas.put(page.left + x, page.glyphs[word], word)
            canvas.put(page.right + 2, asides[level], "soft")
            yield canvas


def _fits(span: Span, page: _Page) -> bool:
    return page.x(span.end) - page.x(span.start) > cell_len(page.text(span.word)) + 1


def _line(lane: Lane, page: _Page, canvas: Canvas) -> None:
    glyphs, power = page.glyphs, lane.kind == "power"
    wire = lane.kind not in ("power", "job")
    if wire:
        canvas.put(page.left, glyphs["line"] * (page.right - page.left + 1), "soft")
    for span in lane.spans:
        start, wide = page.x(span.start), page.x(span.end) - page.x(span.start) + 1
        glyph = "band" if power else span.word if span.word in glyphs else "line"
        canvas.put(start, glyphs[glyph] * wide, style.POWER.get(span.word, "off") if power else span.word)
    for fold in page.scale.folds:
        if wire or any(span.overlaps(fold.start, fold.end) for span in lane.spans):
            canvas.put(page.left + round((fold.left + fold.right) / 2) - 1, glyphs["fold"] * 2, "")
    for span in lane.spans if power else ():
        tone = style.POWER.get(span.word, "off")
        canvas.put(page.x(span.start), glyphs["edge"], tone)
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
        canvas.put(x, f"{page.glyphs[lane.outcome]} {style.compact(lane.end - lane.start)}", lane.outcome)
    if lane.kind == "jobs":
        middle = spread(member.end - member.start for member in lane.members)[0]
        canvas.put(x, f"{page.glyphs.get(lane.outcome, ' ')} ~{style.compact(middle)}", lane.outcome)


def _at_level(layers: Iterable[tuple[str, int]], height: float) -> str:
    """The stage that stands at this height of the stack; nothing above it."""
    for word, count in layers:
        height -= count
        if height < 0:
            return word
    return "over"


def _legend(picture: Diagram, page: _Page) -> Iterator[Canvas]:
    hidden = {"over"} if any(lane.kind == "effects" for lane in picture.lanes) else {"over", "effect"}
    canvas, x = Canvas(page.width), 0
    for name, text in style.legend(picture):
        if name in hidden:
            continue
        times = 2 if name in style.WORDS else 1
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
    for tone, line in style.divergence_notes(picture.divergences):
        canvas = Canvas(page.width)
        canvas.put(0, page.cut(line, page.width), tone)
        yield canvas
