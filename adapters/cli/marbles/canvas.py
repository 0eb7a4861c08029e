"""Lines of cells for a terminal: the characters and the colours that a marble diagram is drawn with."""

from __future__ import annotations

from rich.cells import cell_len

from wakestream.streams.diagram.marbles import TIMES

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
