"""The engine `ffmpeg`, which needs no GPU: it adds the audio to the video, which is looped or cut to its length."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from wakestream.adapters.disk.atomic import atomic_output, temporary_beside
from wakestream.adapters.engines.box import Box, machine_memory
from wakestream.adapters.engines.config import EngineConfig
from wakestream.adapters.engines.ffmpeg_errors import Which, explained
from wakestream.adapters.engines.pair import PairEngine
from wakestream.adapters.engines.run_process import Deadline, run_program
from wakestream.operators.model.engine import Frame
from wakestream.operators.model.errors import TaskFailed

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

_PICTURES = {".jpg": "jpeg_pipe", ".jpeg": "jpeg_pipe", ".webp": "webp_pipe"}
"""Formats by file ending, for files that ffmpeg would otherwise open as `image2`."""

_NO_CONTAINER = re.compile(r"Input #0, (h264|hevc|m4v|mjpeg), from")
"""Video without a container has no timestamps, so it cannot be looped."""

_QUIET = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "error"]
_REPORT = ["-progress", "pipe:1", "-stats_period", "0.2"]
_THREADS = min(4, os.cpu_count() or 1)
_EVEN = "scale=ceil(iw/2)*2:ceil(ih/2)*2"  # yuv420p halves both sides
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
        """The progress as a part of all frames."""
        return Frame(self.frame, frames, min(100.0, 100 * self.seconds / seconds))


def fps_in(text: str) -> float | None:
    """Frames a second of the first video stream, from the output of `ffmpeg -i`; None without a plausible number."""
    found = _FPS.search(text)
    if found is None or found[2]:
        return None
    fps = float(found[1])
    return fps if 0 < fps <= _MOST_FPS else None


def source(path: Path, memory: int | None = None) -> list[str]:
    """Arguments to open an untrusted file: only these containers, and only pictures that fit into `memory`."""
    # An absolute path, so that a name such as `http:clip.mp4` is not an address, and `-y.mp4` is not a flag.
    pixels = min(MAX_PIXELS, (memory or machine_memory()) // 2 // BYTES_PER_PIXEL)
    kind = _PICTURES.get(path.suffix.lower())
    return [
        *("-max_pixels", str(pixels), "-protocol_whitelist", "file", "-format_whitelist", FORMATS),
        *(("-f", kind) if kind else ()),
        *("-i", f"file:{path.absolute()}"),
    ]


def found_ffmpeg() -> str:
    """The path of ffmpeg, from the package imageio-ffmpeg or the system. `TaskFailed`: there is no ffmpeg."""
    import imageio_ffmpeg  # type: ignore[import-untyped]  # slow to import, and only this engine needs it

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise TaskFailed(f"no ffmpeg: {str(error).rstrip('.')}") from error


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """Renders by ffmpeg, without a GPU.

    Args:
        limit: The most seconds for a task.
        binary: The program; by default that of the package imageio-ffmpeg.
        box: Restrictions of its runs. The memory also limits the size of pictures.

    Example:
        >>> engine = Ffmpeg(limit=600.0)
    """

    limit: float = 4 * 3600.0
    binary: str | None = None
    box: Box | None = None

    async def check(self) -> None:
        """Check that ffmpeg runs. `TaskFailed`: it does not."""
        await self._task().output("-version")

    async def render(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
        """Encode H.264 and AAC in MP4 with the length of the audio; yields ffmpeg's frame counts."""
        task = self._task()
        seconds = await task.length(audio)
        look = await task.look(video)
        frames = ceil((fps_in(look) or 0) * seconds)
        async with AsyncExitStack() as stack:
            partial = await stack.enter_async_context(atomic_output(output))
            if _NO_CONTAINER.search(look):
                video = await task.contained(video, stack.enter_context(temporary_beside(output, ".mkv")))
            lines = await stack.enter_async_context(task.run(*_QUIET, *task.encode(video, audio, seconds, partial)))
            progress = Progress()
            async for line in lines:
                progress = progress.after(line)
                if line.startswith("progress="):
                    yield progress.of(frames, seconds)

    def _task(self) -> _Task:
        return _Task(self.binary or found_ffmpeg(), Deadline(self.limit), self.box)


@dataclass(frozen=True, slots=True)
class _Task:
    """The runs of ffmpeg for one task, all within one deadline."""

    program: str
    deadline: Deadline
    box: Box | None

    def run(self, *arguments: str, merge: bool = False) -> AbstractAsyncContextManager[AsyncGenerator[str, None]]:
        return aclosing(run_program([self.program, *arguments], limit=self.deadline, merge=merge, box=self.box))

    async def output(self, *arguments: str, merge: bool = False) -> str:
        async with self.run(*arguments, merge=merge) as lines:
            return "\n".join([line async for line in lines])

    def source(self, path: Path) -> list[str]:
        return source(path, self.box.memory if self.box else None)

    async def length(self, audio: Path) -> float:
        """Seconds of sound, by decoding the file, since the length in a file's header is often wrong."""
        listen = [*self.source(audio), "-map", "0:a:0", *_REPORT, "-f", "null", "-"]
        progress = Progress()
        with _explaining("audio"):
            async with self.run(*_QUIET, *listen) as lines:
                async for line in lines:
                    progress = progress.after(line)
            if progress.seconds <= 0:
                raise TaskFailed("the audio file holds no sound")
        return progress.seconds

    async def look(self, video: Path) -> str:
        """ffmpeg's description of the file. It decodes one frame, which also proves that there is one."""
        look = ["-hide_banner", "-nostdin", "-nostats", *self.source(video), "-map", "0:v:0", "-frames:v", "1"]
        with _explaining("video"):
            return await self.output(*look, "-f", "null", "-", merge=True)

    async def contained(self, video: Path, copy: Path) -> Path:
        """Write the pictures of `video` to `copy`, with a container and timestamps."""
        lossless = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-f", "matroska", str(copy)]
        with _explaining("video"):
            await self.output(*_QUIET, "-y", *self.source(video), "-map", "0:v:0", *lossless)
        return copy

    def encode(self, video: Path, audio: Path, seconds: float, output: Path) -> list[str]:
        """The arguments that make `output`."""
        return [
            *("-y", *_REPORT, "-stream_loop", "-1", *self.source(video), *self.source(audio)),
            *("-map", "0:v:0", "-map", "1:a:0", "-t", f"{seconds:.6f}", "-vf", _EVEN, "-fps_mode", "cfr"),
            *("-c:v", "libx264", "-preset", "veryfast", "-threads", str(_THREADS), "-pix_fmt", "yuv420p"),
            *("-c:a", "aac", "-movflags", "+faststart", "-f", "mp4", str(output)),
        ]


@contextmanager
def _explaining(which: Which) -> Iterator[None]:
    try:
        yield
    except TaskFailed as error:
        raise TaskFailed(explained(str(error), which)) from error


def create(config: EngineConfig) -> PairEngine:
    """The engine for a worker. Raises `SettingsError`."""
    config.known("ffmpeg", ())
    return PairEngine(Ffmpeg(limit=config.limit, box=config.box))
