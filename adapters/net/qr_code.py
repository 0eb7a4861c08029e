"""QR codes, as a picture for a page and as text for a terminal."""

from __future__ import annotations

import io
from typing import Final

import segno

QUIET: Final = 4
"""Modules of empty border, without which readers do not find the code."""

HALVES: Final = "█▀▄ "
"""Two modules, one above the other: both light, the lower one dark, the upper one dark, both dark."""

_PAINT: Final = "\x1b[97;40m", "\x1b[0m"


def svg(text: str) -> str:
    """A picture of the code, black on white.

    Args:
        text: What the code says.
    """
    made = io.BytesIO()
    _code(text).save(made, kind="svg", scale=4, border=QUIET, light="#fff", xmldecl=False, svgclass=None, nl=False)
    return made.getvalue().decode()


def lines(text: str, *, colour: bool) -> list[str]:
    """The code for a terminal: two rows of modules in each line.

    Args:
        text: What the code says.
        colour: Whether to paint it white on black. Without it a terminal with dark text shows it inverted, which most
            readers understand.
    """
    rows = [tuple(map(bool, row)) for row in _code(text).matrix_iter(border=QUIET)]
    rows += [(False,) * len(rows[0])] * (len(rows) % 2)
    before, after = _PAINT if colour else ("", "")
    pairs = zip(rows[::2], rows[1::2], strict=True)
    drawn = ("".join(HALVES[2 * upper + lower] for upper, lower in zip(*both, strict=True)) for both in pairs)
    return [f"{before}{line}{after}" for line in drawn]


def _code(text: str) -> segno.QRCode:
    return segno.make_qr(text, error="m")
