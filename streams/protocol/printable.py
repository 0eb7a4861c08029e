"""Makes text of other programs and names of files safe to show in a terminal, a log or a page."""

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
"""Sequences that set colours and move the cursor: removed, because they are not text."""

_STEERING = f"{_CONTROLS}{_TURNING}{_ENDING}{_UNSEEN}{_NOTATION}{_HALVES}{_TAGS}"
# Joiners are allowed within words of many languages and emoji, and tags within the flags of regions.
_FLAG = f"(\U0001f3f4[{_TAGS}]+)"
_STRAY = f"(?<![^\\x00-\\x7f{_JOINING}{_STEERING}])[{_JOINING}]"
_IN_LAYOUT = re.compile(f"{_FLAG}|[{_STEERING}]|{_STRAY}")
_IN_LINE = re.compile(f"{_FLAG}|[\t\n{_STEERING}]|{_STRAY}")


def printable(text: str, *, layout: bool = False) -> str:
    """Return `text` without characters that control a terminal, end a line or change the reading direction.

    Colour sequences are removed, undecodable bytes are written as `\\udcNN`, other such characters as U+FFFD. Letters
    of all languages stay.

    Args:
        text: Any text.
        layout: Whether tabs and line ends stay.
    """
    if text.isprintable():
        return text
    plain = _COLOURS.sub("", text).encode(errors="backslashreplace").decode()
    return (_IN_LAYOUT if layout else _IN_LINE).sub(lambda match: match[1] or "\N{REPLACEMENT CHARACTER}", plain)


def is_name(text: str) -> bool:
    """Whether a text can be the name of a GPU: short, and all of it visible."""
    return 0 < len(text) <= LONGEST_NAME and text == text.strip() == printable(text)


def escaped(json: str) -> str:
    r"""Return JSON text with every such character written as `\uXXXX`, which has the same meaning."""
    return json if json.isprintable() else _IN_LAYOUT.sub(_escape, json)


def _escape(match: re.Match[str]) -> str:
    if match[1]:
        return match[1]
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
