"""What a marble diagram looks like as SVG: its colours in light and dark, its glyphs, and text that is safe in XML.

The palette is that of Okabe and Ito, which people with any kind of colour vision can tell apart; stages differ in
lightness as well, and every kind of mark has a shape of its own.
"""

from __future__ import annotations

import html
import unicodedata
from pathlib import Path

from wakestream.streams.protocol.printable import printable

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
