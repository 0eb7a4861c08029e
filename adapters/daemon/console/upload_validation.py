"""Checks of uploads and their names. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from wakestream.adapters.daemon.api.auth import ApiError, bad_request
from wakestream.operators.model.engine import Slot
from wakestream.operators.model.errors import WrongInput
from wakestream.operators.model.events import LIPSYNC
from wakestream.streams.protocol.kinds import ENDING, MEDIA, can_be_accepted, file_fits

Media = Literal["video", "audio"]
Kind = Literal["video", "audio", "file"]
"""What a file must contain: a picture track, a sound track, or anything."""

NAME_MOST: Final = 255

_JOINER = "\N{ZERO WIDTH JOINER}"
"""Invisible, and part of many emojis."""


@dataclass(frozen=True, slots=True)
class Announced:
    """An upload that is announced.

    Attributes:
        kind: What it must contain.
        name: The user's name of the file.
        size: Its bytes.
        accepts: The media types and endings that fit, as in `Slot.accepts`.
        slot: The place in the page's form, such as `lipsync.video`.
    """

    kind: Kind
    name: str
    size: int
    accepts: tuple[str, ...]
    slot: str

    @property
    def ending(self) -> str:
        """The extension with its dot, in lower case; empty if it is not ASCII."""
        return ending_of(self.name)


def checked(body: dict[str, Any]) -> Announced:
    """The announced upload of a request."""
    kind, name, size = body.get("kind"), body.get("name"), body.get("size")
    if kind not in ("video", "audio", "file") or not isinstance(name, str) or type(size) is not int:
        raise bad_request('send "kind" (video, audio or file), "name" and "size" in bytes')
    accepts = body.get("accepts", [] if kind == "file" else [kind])
    slot = body.get("slot", f"{LIPSYNC}.{kind}")
    if not isinstance(accepts, list) or not all(isinstance(text, str) for text in (*accepts, slot)):
        raise bad_request('"accepts" must be a list of media types and file endings, and "slot" a text')
    if not all(map(can_be_accepted, accepts)):
        raise bad_request(f'"accepts" may contain {", ".join(MEDIA)}, and file endings such as ".srt"')
    return Announced(kind, shown_name(name), size, tuple(accepts), slot[:80])


def fitting_ending(asked: Announced) -> str:
    """The ending of an announced file; `ApiError` when such a file does not fit."""
    ending = asked.ending
    if _fits(asked):
        return ending
    if not asked.accepts:
        why = f"{asked.name} has no usable file extension; rename it, for example to {Path(asked.name).stem}.bin"
        raise ApiError(415, "no_ending", why)
    known = known_endings(asked.accepts)
    why = f"{ending or 'a file without an extension'} is not a supported {asked.kind}; supported: {known}"
    raise ApiError(415, "unsupported", why, kind=asked.kind, ending=ending, known=known)


def _fits(asked: Announced) -> bool:
    return bool(ENDING.fullmatch(asked.ending)) and file_fits(Slot("file", asked.accepts), asked.ending)


def likely_ending(asked: Announced) -> str:
    """The ending of a file whose name is not certain yet: that of the name if it fits, else one that does.

    It is empty if there is none: it becomes part of a path.
    """
    likely = (asked.ending,) if _fits(asked) else tuple(min(MEDIA.get(accept, (accept,))) for accept in asked.accepts)
    return next((ending for ending in likely if ENDING.fullmatch(ending)), "")


def known_endings(accepts: Iterable[str]) -> str:
    """The file endings that fit, as a list for people."""
    return ", ".join(sorted({end.removeprefix(".") for accept in accepts for end in MEDIA.get(accept, (accept,))}))


def shown_name(name: str) -> str:
    """The last part of a file's name, without control characters."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    kept = "".join(char for char in last if char.isprintable() or char == _JOINER)
    head, dot, tail = kept.rpartition(".")
    if len(kept) > NAME_MOST:
        kept = f"{head[: NAME_MOST - 1 - len(tail)]}.{tail}" if dot and len(tail) < 12 else kept[:NAME_MOST]
    return kept or "file"


def ending_of(name: str) -> str:
    """The extension of a name with its dot, in lower case; empty if it is not ASCII."""
    ending = Path(name).suffix.lower()
    return ending if ending.isascii() else ""


def file_name(job: str) -> str:
    """A file name for a job: its id if that is valid and distinct on every system, otherwise a digest of it.

    Windows does not allow names such as `con`; Windows and macOS ignore case.
    """
    plain = job.isascii() and all(char.isalnum() or char in "-_" for char in job) and 4 < len(job) <= 80
    return job if plain and job == job.lower() else hashlib.sha256(job.encode()).hexdigest()[:32]


def output_ending(name: str, ending: object) -> str:
    """The ending of the file for the output `name`; empty if the kind of the job does not say it."""
    if ending != "" and (not isinstance(ending, str) or ENDING.fullmatch(ending) is None):
        raise WrongInput(f"outputs.{name[:40]}", f'outputs.{name[:40]} must be a file ending such as ".png", or empty')
    return ending


def result_key(path: Path) -> str:
    """What the files of one job in the folder of the results have in common: their names up to the first dot."""
    return path.name.partition(".")[0]


def names_beside(output: Path) -> Path:
    """The file with the user's names of a job's inputs, in the folder of its results."""
    return output.with_name(f"{result_key(output)}.json")
