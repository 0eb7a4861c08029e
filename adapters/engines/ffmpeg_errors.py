"""Explain ffmpeg's error messages in a sentence."""

from __future__ import annotations

import re
from typing import Literal

Which = Literal["video", "audio"]

_HAS = {"video": "picture", "audio": "sound"}

_MEANS = (
    ("incomplete", r"moov atom not found", "is incomplete: its end is missing; is it still being written?"),
    ("no_stream", r"matches no streams", "has no {has} in it"),
    ("kind", r"not (?:on|in) (?:the )?(?:format )?whitelist", "has a format that is not supported"),
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
"""(error word, pattern, explanation): the more specific first, since one failure often has several messages."""


def meaning(said: str, which: Which) -> tuple[str, str] | None:
    """What is wrong with the file that was read as `which`: an error word, and the end of a sentence about the file."""
    for fault, pattern, sentence in _MEANS:
        if re.search(pattern, said, re.IGNORECASE):
            return fault, sentence.format(has=_HAS[which])
    return None


def explained(said: str, which: Which) -> str:
    """Put an explanation before the error text `said` if there is one; `which` is the file that was read."""
    known = meaning(said, which)
    return f"the {which} file {known[1]} ({said})" if known else said
