"""Text that would steer a terminal, forge a line or turn the reading direction; and text that must stay as it is."""

import re
import unicodedata

COLOUR = "\x1b[5;7m"
"""A colour that our programs do not use."""

NASTY = (
    f"bad {COLOUR}blink\x1b[0m \x1b[2J\x1b]0;title\x07 \x1bP1$r\x1b\\ \x08\x7f\0 \x9b5;7m\x9d0;title\x9c"
    "\u202eevil\u202c \u2066turned\u2069\u200f\u061c \u2028FORGED\u2029FORGED\x85FORGED\nFORGED\r\nFORGED\x0bFORGED"
    "\x0cFORGED \ufeff\u2060\U000e0041 a\u200db end"
)

FLAG = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
GOOD = f"配额 한국어 می\u200cخواهم क्\u200dष 👩\u200d👩\u200d👧\ufe0f {FLAG} é\u3000ß"

_OURS = re.compile(r"\x1b\[(?:\?25[lh]|[0-9;]*m|[0-9]*[ABK])|\r(?=\n|\x1b)")
"""What rich writes: the cursor, colours, and the lines above drawn once more."""

_MAY_STAND = {"\n", "\t", *(char for char in GOOD if unicodedata.category(char) == "Cf")}


def unclean(text: str, *, terminal: bool = False) -> list[str]:
    """What in a command's output is not text, but for tabs, line ends and, on a terminal, our own colours."""
    found = [each for each in (COLOUR, "a\u200d") if each in text]
    if not terminal:  # there it may be the terminal's width that ends a line
        found += [line for line in text.splitlines() if line.lstrip().startswith("FORGED")]
    rest = _OURS.sub("", text) if terminal else text
    return found + [
        f"U+{ord(char):04X} in {rest[max(0, at - 30) : at + 30]!r}"
        for at, char in enumerate(rest)
        if char not in _MAY_STAND and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]
