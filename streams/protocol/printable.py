"""Text of other programs and names of files, as a terminal, a log and a page may show it. Pure."""

from __future__ import annotations

import re

LONGEST_NAME = 100
"""Characters of a GPU's name."""

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_TURNING = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_ENDING = "\u2028\u2029"
_UNSEEN = "\xad\u180e\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
_NOTATION = "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
_HALVES = "\ud800-\udfff"
_JOINING = "\u200b-\u200d"
_TAGS = "\U000e0000-\U000e007f"

_COLOURS = re.compile(r"\x1b\[[0-?]*[@-~]")
"""What sets colours and moves the cursor; a program that writes it means no text by it."""

_STEERING = f"{_CONTROLS}{_TURNING}{_ENDING}{_UNSEEN}{_NOTATION}{_HALVES}{_TAGS}"
# Joiners are part of the words of many languages and of emoji, and tags of the flags of regions; nowhere else.
_FLAG = f"(\U0001f3f4[{_TAGS}]+)"
_STRAY = f"(?<![^\\x00-\\x7f{_JOINING}{_STEERING}])[{_JOINING}]"
_IN_LAYOUT = re.compile(f"{_FLAG}|[{_STEERING}]|{_STRAY}")
_IN_LINE = re.compile(f"{_FLAG}|[\t\n{_STEERING}]|{_STRAY}")


def printable(text: str, *, layout: bool = False) -> str:
    """`text` without what steers a terminal, ends a line or turns the reading direction.

    Colours are left out, bytes of a name that are no text appear as `\\udcNN`, each other such character as U+FFFD.
    Letters of every language stay, and with `layout` tabs and line ends, too.
    """
    if text.isprintable():
        return text
    plain = _COLOURS.sub("", text).encode(errors="backslashreplace").decode()
    return (_IN_LAYOUT if layout else _IN_LINE).sub(_replaced, plain)


def _replaced(found: re.Match[str]) -> str:
    return found[1] or "\N{REPLACEMENT CHARACTER}"


def is_name(text: str) -> bool:
    """Whether a GPU can be called so: all of it is seen, wherever it is shown."""
    return 0 < len(text) <= LONGEST_NAME and text == text.strip() == printable(text)


def escaped(json: str) -> str:
    r"""JSON text of which every such character is written as `\uXXXX`: what a reader makes of it stays the same."""
    return json if json.isprintable() else _IN_LAYOUT.sub(_escape, json)


def _escape(found: re.Match[str]) -> str:
    if found[1]:
        return found[1]
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
