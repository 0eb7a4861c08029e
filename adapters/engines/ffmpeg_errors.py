"""Explain ffmpeg's error messages in a sentence."""

from __future__ import annotations

import re
from typing import Literal

from wakestream.operators.model.errors import WrongInput

Which = Literal["video", "audio"]

_HAS = {"video": "picture", "audio": "sound"}

_MEANS = (
    ("incomplete", r"moov atom not found", "is incomplete: its end is missing; is it still being written?"),
    ("no_stream", r"matches no streams", "has no {has} in it"),
    (
        "container",
        r"Could not find tag for codec|not currently supported in container",
        "has a format that the new container cannot hold as it is: choose another container, or transcode it first",
    ),
    ("kind", r"not (?:on|in) (?:the )?(?:format )?whitelist", "has a format that is not supported"),
    (
        "codec",
        r"Decoder (?:\(|\S+ not found)|Unknown decoder|no decoder|Could not find codec|Unsupported codec",
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


def wrong_input(said: str, name: str, which: Which, only: str | None = None) -> WrongInput | None:
    """The error of a job whose input `name` was read as `which`; None if `said` is about something else.

    Args:
        said: ffmpeg's error text, which is quoted.
        name: The input's name.
        which: What was read in it.
        only: The only error word that is about this input; None for any.
    """
    fault, sentence = meaning(said, which) or ("", "")
    if not fault or only not in (None, fault):
        return None
    return WrongInput(f"inputs.{name}", f"the {name} file {sentence} ({said})")
