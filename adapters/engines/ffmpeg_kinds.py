"""What the engine `ffmpeg` can do: its kinds, and the arguments of each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any, Final, Literal

from wakestream.adapters.engines.manifest import Keys, read_manifest
from wakestream.operators.model.engine import Kind
from wakestream.operators.model.errors import WrongInput

# Explain ffmpeg's error messages in a sentence.

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


_THREADS: Final = str(min(4, os.cpu_count() or 1))
_EVEN: Final = "scale=ceil(iw/2)*2:ceil(ih/2)*2"  # yuv420p halves both sides
_SIDE: Final = "max(1,{0}*min(1,320/max(iw,ih)))"  # no side of a very wide picture may become 0, which is an error
_PREVIEW: Final = (
    *("-map", "0:v:0", "-vf", "select='isnan(prev_selected_t)+gte(t-prev_selected_t,2)',scale='{}':'{}'".format(
        *map(_SIDE.format, ("iw", "ih")))),
    *("-fps_mode", "vfr", "-c:v", "mjpeg", "-q:v", "6", "-pix_fmt", "yuvj420p", "-f", "image2", "-update", "1"),
)  # fmt: skip
"""A small picture every two seconds of the video, from the frames that are decoded anyway."""


@dataclass(frozen=True, slots=True)
class Media:
    """An input file.

    Attributes:
        source: The arguments that open it.
        seconds: Its length; 0 if unknown.
        fps: Pictures a second; 0 if unknown.
    """

    source: Sequence[str]
    seconds: float = 0.0
    fps: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of ffmpeg: its arguments without the output's path, the output's ending, and its length if known.

    `preview` are the arguments of a second output; empty for a run that encodes no video.
    """

    arguments: Sequence[str]
    ext: str
    seconds: float = 0.0
    fps: float = 0.0
    preview: Sequence[str] = ()

    @property
    def frames(self) -> int:
        """The number of pictures of the output; 0 if unknown."""
        return ceil(self.fps * self.seconds)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One kind: what each input must contain, and the run that makes its output."""

    kind: Kind
    reads: Mapping[str, Which]
    plan: Callable[[Mapping[str, Media], Mapping[str, Any]], Plan]


def _lipsync(media: Mapping[str, Media], params: Mapping[str, Any]) -> Plan:
    video, audio = media["video"], media["audio"]
    length = ("-t", f"{audio.seconds:.6f}")
    arguments = [
        *("-stream_loop", "-1", *video.source, *audio.source, "-map", "0:v:0", "-map", "1:a:0"),
        *(*length, "-vf", _EVEN, "-fps_mode", "cfr"),
        *("-c:v", "libx264", "-preset", "veryfast", "-threads", _THREADS, "-pix_fmt", "yuv420p"),
        *("-c:a", "aac", "-movflags", "+faststart", "-f", "mp4"),
    ]
    return Plan(arguments, ".mp4", audio.seconds, video.fps, (*_PREVIEW, *length))


def _mux(media: Mapping[str, Media], params: Mapping[str, Any]) -> Plan:
    video, audio = media["video"], media["audio"]
    known, shortest = video.seconds and audio.seconds, params["shortest"]
    seconds = (min if shortest else max)(video.seconds, audio.seconds)
    # -shortest alone cuts copied streams too late.
    cut = (["-t", f"{seconds:.6f}"] if known else ["-shortest"]) if shortest else []
    as_mp4 = ["-c:a", "aac", "-movflags", "+faststart", "-f", "mp4"]
    rest = as_mp4 if params["container"] == "mp4" else ["-c:a", "copy", "-f", "matroska"]
    streams = ["-map", "0:v:0", "-map", "1:a:0", "-c:v", "copy"]
    return Plan([*video.source, *audio.source, *streams, *cut, *rest], f".{params['container']}", seconds, video.fps)


_VIDEO_CODECS: Final[Mapping[str, tuple[str, Sequence[str]]]] = {
    "h264": (".mp4", ["libx264", "-preset", "veryfast"]),
    "hevc": (".mp4", ["libx265", "-preset", "veryfast", "-tag:v", "hvc1", "-x265-params", "log-level=error"]),
    "vp9": (".webm", ["libvpx-vp9", "-b:v", "0", "-row-mt", "1", "-deadline", "good", "-cpu-used", "4"]),
}
_CONTAINERS: Final[Mapping[str, Sequence[str]]] = {
    ".mp4": ["-c:a", "aac", "-movflags", "+faststart", "-f", "mp4"],
    ".webm": ["-c:a", "libopus", "-f", "webm"],
}


def _transcode(media: Mapping[str, Media], params: Mapping[str, Any]) -> Plan:
    video = media["video"]
    ext, encoder = _VIDEO_CODECS[params["codec"]]
    size = params["size"]
    scale = _EVEN if size == "source" else f"scale=-2:min({size.rstrip('p')}\\,ceil(ih/2)*2)"
    sound = ["-map", "0:a:0?"] if params["sound"] else []
    arguments = [
        *(*video.source, "-map", "0:v:0", *sound, "-vf", scale, "-pix_fmt", "yuv420p", "-threads", _THREADS),
        *("-c:v", *encoder, "-crf", str(params["crf"]), *_CONTAINERS[ext]),
    ]
    return Plan(arguments, ext, video.seconds, video.fps, _PREVIEW)


def _thumbnail(media: Mapping[str, Media], params: Mapping[str, Any]) -> Plan:
    width = params.get("width")
    scale = ["-vf", f"scale={width}:-2"] if width else []
    encoder = ["png"] if params["format"] == "png" else ["mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"]
    arguments = [
        *("-ss", f"{params['time']:.6f}", *media["video"].source, "-map", "0:v:0", "-frames:v", "1"),
        *(*scale, "-c:v", *encoder, "-f", "image2pipe"),
    ]
    return Plan(arguments, f".{params['format']}")


_AUDIO_FORMATS: Final[Mapping[str, Sequence[str]]] = {
    "wav": ["pcm_s16le", "-f", "wav"],
    "mp3": ["libmp3lame", "-q:a", "2", "-f", "mp3"],
    "m4a": ["aac", "-b:a", "192k", "-movflags", "+faststart", "-f", "mp4"],
    "flac": ["flac", "-f", "flac"],
}


def _extract_audio(media: Mapping[str, Media], params: Mapping[str, Any]) -> Plan:
    sound = media["media"]
    options = [word for flag, name in (("-ar", "rate"), ("-ac", "channels")) if name in params
               for word in (flag, str(params[name]))]  # fmt: skip
    arguments = [*sound.source, "-map", "0:a:0", *options, "-c:a", *_AUDIO_FORMATS[params["format"]]]
    return Plan(arguments, f".{params['format']}", sound.seconds)


_PLANS = {
    "lipsync": _lipsync, "mux": _mux, "transcode": _transcode, "thumbnail": _thumbnail, "extract_audio": _extract_audio,
}  # fmt: skip

RECIPES: Final[Mapping[str, Recipe]] = {
    entry.kind.name: Recipe(replace(entry.kind, version=""), entry.own["reads"], _PLANS[entry.kind.name])
    for entry in read_manifest(Path(__file__).with_name("ffmpeg.toml"), Keys(("reads",), ("reads",)))
}
"""The kinds by name."""
