"""What ffmpeg says when it fails, in a sentence; its own words go with it."""

from __future__ import annotations

import re
from typing import Literal

Which = Literal["video", "audio"]

_HAS = {"video": "picture", "audio": "sound"}

_MEANS = (
    (r"moov atom not found", "the {which} file is incomplete: its end is missing; is it still being written?"),
    (r"matches no streams", "the {which} file has no {has} in it"),
    (r"not (?:on|in) (?:the )?(?:format )?whitelist", "the {which} file is of a kind that is not taken here"),
    (
        r"(?:Decoder|Unknown decoder|no decoder|Could not find codec|Unsupported codec).*",
        "the {which} file's {has} is in a format that this ffmpeg cannot decode",
    ),
    (r"Picture size .* is invalid|exceeds specified max pixel", "the {which} file's picture is too large"),
    (r"Invalid data found", "the {which} file is damaged, or of a kind that ffmpeg does not read"),
)
"""The commonest, the more particular first: one failure often says several."""


def explained(said: str, which: Which) -> str:
    """`said` with a sentence before it where we know one; `which` is the file that was being read."""
    for pattern, sentence in _MEANS:
        if re.search(pattern, said, re.IGNORECASE):
            return f"{sentence.format(which=which, has=_HAS[which])} ({said})"
    return said
