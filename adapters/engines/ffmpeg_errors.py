"""What ffmpeg says when it fails, in a sentence; its own words go with it."""

from __future__ import annotations

import re
from typing import Literal

Which = Literal["video", "audio"]

_HAS = {"video": "picture", "audio": "sound"}

_MEANS = (
    ("incomplete", r"moov atom not found", "is incomplete: its end is missing; is it still being written?"),
    ("no_stream", r"matches no streams", "has no {has} in it"),
    ("kind", r"not (?:on|in) (?:the )?(?:format )?whitelist", "is of a kind that is not taken here"),
    (
        "codec",
        r"(?:Decoder|Unknown decoder|no decoder|Could not find codec|Unsupported codec).*",
        "has its {has} in a format that this ffmpeg cannot decode",
    ),
    ("too_large", r"Picture size .* is invalid|exceeds specified max pixel", "has a picture that is too large"),
    (
        "damaged",
        r"dec:\S+\] Task finished with error|received no packets",
        "cannot be decoded: it is damaged, or too large for this machine",
    ),
    ("damaged", r"Invalid data found", "is damaged, or of a kind that ffmpeg does not read"),
)
"""The commonest, the more particular first: one failure often says several. A word for programs goes before each."""


def meaning(said: str, which: Which) -> tuple[str, str] | None:
    """What is wrong with the file that was read as `which`: a word, and what a sentence about it ends with."""
    for fault, pattern, sentence in _MEANS:
        if re.search(pattern, said, re.IGNORECASE):
            return fault, sentence.format(has=_HAS[which])
    return None


def explained(said: str, which: Which) -> str:
    """`said` with a sentence before it where we know one; `which` is the file that was being read."""
    known = meaning(said, which)
    return f"the {which} file {known[1]} ({said})" if known else said
