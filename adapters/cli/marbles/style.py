"""What a marble diagram looks like as SVG: its colours in light and dark, its glyphs, and text that is safe in XML.

The palette is that of Okabe and Ito, which people with any kind of colour vision can tell apart; stages differ in
lightness as well, and every kind of mark has a shape of its own.
"""

from __future__ import annotations

import html
import unicodedata

from wakestream.streams.protocol.printable import printable

POWER = {
    "online": "on", "booted": "near", "starting": "near", "draining": "leave", "stopping": "leave", "off": "off",
    "unknown": "off", "no_capacity": "bad", "failed": "bad",
}  # fmt: skip
"""How a power state is coloured."""

_LIGHT = """--bg:#ffffff;--fg:#1b1f24;--soft:#59636e;--line:#c9d1d9;--grid:#eaeef2;--fold:#f3f5f8;--foldline:#8c96a1;
--wait:#c5cdd6;--upload:#56b4e9;--render:#0072b2;--download:#009e73;--hold:#0072b2;--over:#e3f1ec;
--in:#0072b2;--out:#b35c00;--bad:#c2410c;--retry:#b27900;--ok:#00795a;--quiet:#6b7580;
--on:#009e73;--near:#e9b84a;--leave:#cc79a7;--off:#dde2e8;--onink:#ffffff;--nearink:#1b1f24;--offink:#424b55;"""

_DARK = """--bg:#0d1117;--fg:#e6edf3;--soft:#9aa5b1;--line:#3b444f;--grid:#1c232c;--fold:#161c25;--foldline:#6d7885;
--wait:#46515d;--upload:#56b4e9;--render:#2f81c7;--download:#1fb58a;--hold:#2f81c7;--over:#15302a;
--in:#6cb6ff;--out:#f0a04b;--bad:#ff7b54;--retry:#e9b84a;--ok:#3fc79a;--quiet:#8b96a2;
--on:#1a8f6c;--near:#c9982f;--leave:#b86a95;--off:#2a323c;--onink:#ffffff;--nearink:#0d1117;--offink:#b6c0ca;"""

# What is drawn by <use> matches no selector with an ancestor: the glyphs have names of their own.
_RULES = """
.wm{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;font-size:11px}
.wm .page{fill:var(--bg)} .wm text{fill:var(--fg)} .wm .head{font-size:17px;font-weight:600}
.wm .soft,.wm .tick{fill:var(--soft)} .wm .tick{font-size:10px} .wm .title{font-size:12px;font-weight:600}
.wm .label{fill:var(--fg)}
.wm .halo .f{paint-order:stroke;stroke:var(--bg);stroke-width:3px;stroke-linejoin:round}
.wm .minor{fill:var(--soft)}
.wm .mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:11px}
.wm .edge{stroke:var(--bg);stroke-width:1.5} .wm .many{fill:none;stroke:var(--soft);stroke-width:1}
.wm .strong{font-weight:600} .wm .mid{text-anchor:middle} .wm .grid{stroke:var(--grid)}
.wm .axis,.wm .wire{stroke:var(--line);stroke-width:1.5} .wm .pole{stroke:var(--line)}
.wm .fold{fill:var(--fold)} .wm .foldtext{fill:var(--soft);font-size:10px;font-weight:600}
.wm .cut{stroke:var(--bg);stroke-width:2.5} .wm .zig{stroke:var(--foldline);stroke-width:1.2;fill:none}
.wm .wait{fill:var(--wait)} .wm .upload{fill:var(--upload)} .wm .render{fill:var(--render)}
.wm .download{fill:var(--download)} .wm .hold{fill:var(--hold)} .wm .over{fill:var(--over)}
.wm .p-on{fill:var(--on)} .wm .p-near{fill:var(--near)} .wm .p-leave{fill:var(--leave)}
.wm .p-off{fill:var(--off)} .wm .p-bad{fill:var(--bad)} .wm .i-on{fill:var(--onink)}
.wm .i-near,.wm .i-leave,.wm .i-bad{fill:var(--nearink)} .wm .i-off{fill:var(--offink)}
.wm .up{stroke:var(--ok);stroke-width:2;stroke-opacity:.75}
.wm .down{stroke:var(--bad);stroke-width:2.5;stroke-dasharray:2 4} .wm-g{stroke:var(--bg);stroke-width:1.5}
.wm-g-in{fill:var(--in)} .wm-g-out{fill:var(--bg);stroke:var(--out);stroke-width:2.2}
.wm-g-event{fill:var(--fg)} .wm-g-conn{fill:var(--soft)}
.wm-g-fault,.wm-g-failed,.wm-g-timed_out,.wm-g-divergence{fill:var(--bad)} .wm-g-retry{fill:var(--retry)}
.wm-g-done{fill:var(--ok)} .wm-g-cancelled{fill:var(--quiet)}
.wm-ink{stroke:var(--bg);stroke-width:1.8;fill:none;stroke-linecap:round;stroke-linejoin:round}
.wm .eff{stroke:var(--soft);stroke-width:1.6} .wm .steady{fill:var(--fg);fill-opacity:.55}
.wm .parts{stroke:var(--bad);stroke-width:1.4;stroke-dasharray:5 4} .wm .t-bad{fill:var(--bad);font-weight:600}
.wm .t-ok{fill:var(--ok);font-weight:600} .wm .t-quiet{fill:var(--quiet);font-weight:600}
.wm .t-retry{fill:var(--retry);font-weight:600}
"""

STYLE = (
    f"<style>.wm{{color-scheme:light dark;{_LIGHT}}}"
    f"@media (prefers-color-scheme:dark){{.wm{{{_DARK}}}}}{_RULES}</style>"
).replace("\n", "")

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
