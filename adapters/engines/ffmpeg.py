"""The engine `ffmpeg`, which needs no GPU: audio onto a video, transcoding, pictures and sound of a video."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from wakestream.adapters.disk.media_types import media_type
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.ffmpeg_kinds import RECIPES, Media, Which, wrong_input
from wakestream.adapters.engines.run_process import Box, Deadline, machine_memory, run_program
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Readiness, Work
from wakestream.operators.model.errors import TaskFailed, WrongInput
from wakestream.operators.model.events import LIPSYNC

FORMATS = (
    "mov,matroska,webm,avi,flv,mpeg,mpegts,asf,ogg,mxf,gif,h264,hevc,m4v,mjpeg,png_pipe,jpeg_pipe,webp_pipe,"
    "wav,w64,aiff,caf,mp3,aac,flac,ac3,eac3,amr"
)
"""Containers that ffmpeg may open. Playlists and scripts are not included, since they name other files or addresses.

`image2` is not included either: it opens any file with the ending of a picture, such as an SVG.
"""

MAX_PIXELS = 8192 * 4320
"""The most pixels of a picture: a file of some kB may declare a size that needs more memory than there is."""

BYTES_PER_PIXEL = 100
"""Measured memory of the encoder for each pixel of a picture, with its frames ahead."""

ANY_PIXELS = 2**31 - 1

ANY_MEMORY = 2**40
"""Bytes of memory, without a real limit: only the worker knows which pictures are too large for it."""

_PICTURES = {".png": "png_pipe", ".jpg": "jpeg_pipe", ".jpeg": "jpeg_pipe", ".webp": "webp_pipe"}
"""Formats by the ending that fits the content, for files that ffmpeg would otherwise open by the ending they have."""

_NO_CONTAINER = re.compile(r"Input #0, (h264|hevc|m4v|mjpeg), from")
"""Video without a container has no timestamps, so it cannot be looped."""

_QUIET = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "error"]
_REPORT = ["-progress", "pipe:1", "-stats_period", "0.2"]
_TALKS = ["-hide_banner", "-nostdin", "-nostats"]
_LETTERS: Mapping[Which, str] = {"video": "v", "audio": "a"}
_LENGTH = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", re.MULTILINE)
_FPS = re.compile(r"Stream #.*: Video: .*?([\d.]+)(k?) (?:fps|tbr)")
_MOST_FPS = 240.0


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress that ffmpeg has reported: the `seconds` written and the last `frame`."""

    seconds: float = 0.0
    frame: int = 0

    def after(self, line: str) -> Progress:
        """Add one `key=value` line; a line without a number (`N/A`) changes nothing."""
        key, _, value = line.strip().partition("=")
        if not value.lstrip("-").isdigit():
            return self
        number = max(0, int(value))
        if key == "out_time_us":
            return Progress(max(self.seconds, number / 1e6), self.frame)
        return Progress(self.seconds, number) if key == "frame" else self

    def of(self, frames: int, seconds: float) -> Frame:
        """The progress as a part of all frames and of the length: the smaller, since the sound is often ahead."""
        parts = [done / all_ for done, all_ in ((self.frame, frames), (self.seconds, seconds)) if all_]
        return Frame(self.frame, frames, min(100.0, 100 * min(parts, default=0.0)))


def fps_in(text: str) -> float | None:
    """Frames a second of the first video stream, from the output of `ffmpeg -i`; None without a plausible number."""
    match = _FPS.search(text)
    if match is None or match[2]:
        return None
    fps = float(match[1])
    return fps if 0 < fps <= _MOST_FPS else None


def seconds_in(text: str) -> float | None:
    """The length of the first file, from the output of `ffmpeg -i`; None if the file does not say it."""
    match = _LENGTH.search(text)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None


def source(path: Path, memory: int | None = None, formats: str = FORMATS) -> list[str]:
    """Arguments to open an untrusted file: only these `formats`, and only pictures that fit into `memory`."""
    # An absolute path, so that a name such as `http:clip.mp4` is not an address, and `-y.mp4` is not a flag.
    pixels = (
        ANY_PIXELS if memory == ANY_MEMORY else min(MAX_PIXELS, (memory or machine_memory()) // 2 // BYTES_PER_PIXEL)
    )
    kind = _PICTURES.get(media_type(path).ending)
    return [
        *("-max_pixels", str(pixels), "-protocol_whitelist", "file", "-format_whitelist", formats),
        *(("-f", kind) if kind else ()),
        *("-i", f"file:{path.absolute()}"),
    ]


class Ffmpeg(Engine):
    """Works with ffmpeg, without a GPU.

    Args:
        limit: The most seconds for a work.
        binary: The program; by default that of the package imageio-ffmpeg.
        box: Restrictions of its runs. The memory also limits the size of pictures.

    Example:
        >>> engine = Ffmpeg(limit=600.0)
    """

    parallel = True

    def __init__(self, limit: float = 4 * 3600.0, binary: str | None = None, box: Box | None = None) -> None:
        self._limit, self._binary, self._box = limit, binary, box

    async def describe(self) -> Sequence[Kind]:
        """Lip-sync (audio onto a video), mux, transcode, thumbnail, extract_audio."""
        return [recipe.kind for recipe in RECIPES.values()]

    async def ready(self) -> Readiness:
        """Whether ffmpeg runs."""
        try:
            await self.task().output("-version")
        except TaskFailed as error:
            return Readiness(False, str(error))
        return Readiness(True)

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        """Do the work; yields ffmpeg's frame counts."""
        task, recipe = self.task(), RECIPES[work.kind]
        media = {
            name: await task.media(name, work.inputs[name], which, work.folder) for name, which in recipe.reads.items()
        }
        if work.kind == LIPSYNC:
            with _reading("audio", "audio"):
                media["audio"] = replace(media["audio"], seconds=await task.length(work.inputs["audio"]))
        plan = recipe.plan(media, work.params)
        (slot,) = recipe.kind.outputs
        output = work.folder / f"{slot.name}{plan.ext}"
        progress = Progress()
        (name, which), *others = recipe.reads.items()
        with _reading(name, which, only="container" if others else None):
            shown = (*plan.preview, str(work.preview)) if plan.preview else ()
            async with task.run(*_QUIET, "-y", *_REPORT, *plan.arguments, str(output), *shown) as lines:
                async for line in lines:
                    progress = progress.after(line)
                    if line.startswith("progress="):
                        yield progress.of(plan.frames, plan.seconds)
        if work.kind == "thumbnail" and not (output.is_file() and output.stat().st_size):
            raise _no_picture(work.params["time"], media["video"].seconds)
        yield Made(slot.name, output)

    async def cancel(self, work: Work) -> None:
        """Nothing is left to stop when the generator is closed: that kills ffmpeg."""

    async def close(self) -> None:
        """Nothing is open."""

    def task(self) -> Task:
        """The runs of one work. Raises `TaskFailed`: there is no ffmpeg."""
        return Task(self._binary or found_ffmpeg(), Deadline(self._limit), self._box)


@dataclass(frozen=True, slots=True)
class Task:
    """The runs of ffmpeg for one work, all within one deadline."""

    program: str
    deadline: Deadline
    box: Box | None

    def run(self, *arguments: str, merge: bool = False) -> AbstractAsyncContextManager[AsyncGenerator[str, None]]:
        """Run ffmpeg; yields its lines."""
        return aclosing(run_program([self.program, *arguments], limit=self.deadline, merge=merge, box=self.box))

    async def output(self, *arguments: str, merge: bool = False) -> str:
        """Run ffmpeg to its end; returns what it printed."""
        async with self.run(*arguments, merge=merge) as lines:
            return "\n".join([line async for line in lines])

    async def media(self, name: str, path: Path, which: Which, folder: Path) -> Media:
        """Look at an input. It decodes one frame, which also proves that there is one.

        Args:
            name: The input's name.
            path: Its file.
            which: What it must contain.
            folder: For a copy with timestamps, if a video has none.

        Raises:
            WrongInput: It does not contain it, or cannot be decoded.
        """
        letter = _LETTERS[which]
        look = [*_TALKS, *self._source(path), "-map", f"0:{letter}:0", f"-frames:{letter}", "1", "-f", "null", "-"]
        with _reading(name, which):
            said = await self.output(*look, merge=True)
            if which == "video" and _NO_CONTAINER.search(said):
                # Write the pictures of `video` to `copy`, with a container and timestamps.
                copy = folder / f"{name}.copy.mkv"
                lossless = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-f", "matroska", str(copy)]
                await self.output(*_QUIET, "-y", *self._source(path), "-map", "0:v:0", *lossless)
                return await self.media(name, copy, which, folder)
        return Media(self._source(path), seconds_in(said) or 0.0, fps_in(said) or 0.0)

    async def length(self, audio: Path) -> float:
        """Seconds of sound, by decoding the file, since the length in a file's header is often wrong."""
        listen = [*self._source(audio), "-map", "0:a:0", *_REPORT, "-f", "null", "-"]
        progress = Progress()
        async with self.run(*_QUIET, *listen) as lines:
            async for line in lines:
                progress = progress.after(line)
        if progress.seconds <= 0:
            raise WrongInput("inputs.audio", "the audio file holds no sound; give another file")
        return progress.seconds

    def _source(self, path: Path) -> list[str]:
        return source(path, self.box.memory if self.box else None)


def _no_picture(time: float, seconds: float) -> WrongInput:
    length = f"; it is {seconds:g} s long" if seconds else ""
    return WrongInput("params.time", f"parameter time: the video has no picture at {time} s{length}; give less")


@contextmanager
def _reading(name: str, which: Which, only: str | None = None) -> Iterator[None]:
    """Tell by ffmpeg's error what is wrong with the input `name`; `only` this fault may be its own."""
    try:
        yield
    except TaskFailed as error:
        raise wrong_input(str(error), name, which, only) or error from None


def create(config: EngineConfig) -> Ffmpeg:
    """The engine for a worker. Raises `SettingsError`."""
    config.known("ffmpeg", ())
    return Ffmpeg(limit=config.limit, box=config.box)
