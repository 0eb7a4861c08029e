"""The engine that needs no GPU: the audio becomes the soundtrack of the video, looped or cut to the audio's length."""

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
from wakestream.adapters.engines.ffmpeg_errors import Which, explained
from wakestream.adapters.engines.run_process import Deadline, run_program
from wakestream.operators.model.errors import TaskFailed
from wakestream.operators.model.ports import Frame

FORMATS = (
    "mov,matroska,webm,avi,flv,mpeg,mpegts,asf,ogg,mxf,gif,h264,hevc,m4v,mjpeg,png_pipe,jpeg_pipe,webp_pipe,"
    "wav,w64,aiff,caf,mp3,aac,flac,ac3,eac3,amr"
)
"""Containers that ffmpeg may open. Playlists and scripts, which name other files or addresses, are not among them.

Nor is `image2`: it takes anything whose name ends as a picture's does, such as an SVG.
"""

MAX_PIXELS = 8192 * 4320
"""Of a picture, where memory allows: a file of some kB may claim a size that takes more to encode than there is."""

BYTES_PER_PIXEL = 100
"""What the encoder was seen to take for each pixel of a picture, with its frames ahead."""

_PICTURES = {".jpg": "jpeg_pipe", ".jpeg": "jpeg_pipe", ".webp": "webp_pipe"}
"""Endings that ffmpeg takes for `image2`, unless it is told what they are."""

_NO_CONTAINER = re.compile(r"Input #0, (h264|hevc|m4v|mjpeg), from")
"""Video without a container has no times, so it cannot be begun again when it is over."""

_QUIET = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "error"]
_REPORT = ["-progress", "pipe:1", "-stats_period", "0.2"]
_THREADS = min(4, os.cpu_count() or 1)
_EVEN = "scale=ceil(iw/2)*2:ceil(ih/2)*2"  # yuv420p halves both sides
_FPS = re.compile(r"Stream #.*: Video: .*?([\d.]+)(k?) (?:fps|tbr)")
_MOST_FPS = 240.0


@dataclass(frozen=True, slots=True)
class Progress:
    """What `-progress` has said so far: `seconds` written, `frame` the last one."""

    seconds: float = 0.0
    frame: int = 0

    def after(self, line: str) -> Progress:
        """One `key=value` line later; what says nothing about progress (`N/A`) changes nothing."""
        key, _, value = line.strip().partition("=")
        if not value.lstrip("-").isdigit():
            return self
        number = max(0, int(value))
        if key == "out_time_us":
            return Progress(max(self.seconds, number / 1e6), self.frame)
        return Progress(self.seconds, number) if key == "frame" else self

    def of(self, frames: int, seconds: float) -> Frame:
        """As a part of the whole work."""
        return Frame(self.frame, frames, min(100.0, 100 * self.seconds / seconds))


def fps_in(text: str) -> float | None:
    """Frames a second of the first video stream, from what `ffmpeg -i` prints; None when it says nothing sensible."""
    found = _FPS.search(text)
    if found is None or found[2]:
        return None
    fps = float(found[1])
    return fps if 0 < fps <= _MOST_FPS else None


def source(path: Path, memory: int | None = None) -> list[str]:
    """How a file of unknown origin is opened: as one of these containers, with pictures for which `memory` suffices."""
    # As an absolute file: a name such as `http:clip.mp4` is no address, and one that begins with `-` no flag.
    pixels = min(MAX_PIXELS, (memory or machine_memory()) // 2 // BYTES_PER_PIXEL)
    kind = _PICTURES.get(path.suffix.lower())
    return [
        *("-max_pixels", str(pixels), "-protocol_whitelist", "file", "-format_whitelist", FORMATS),
        *(("-f", kind) if kind else ()),
        *("-i", f"file:{path.absolute()}"),
    ]


def found_ffmpeg() -> str:
    """The program's path, of the package imageio-ffmpeg or else of the system. `TaskFailed` where there is none."""
    import imageio_ffmpeg  # type: ignore[import-untyped]  # slow to import, and only this engine needs it

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise TaskFailed(f"no ffmpeg: {str(error).rstrip('.')}") from error


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """`binary` is found in the package imageio-ffmpeg unless given; `limit` bounds a task, in seconds.

    `box` says what its runs may do; its memory also bounds the pictures that are taken.
    """

    limit: float = 4 * 3600.0
    binary: str | None = None
    box: Box | None = None

    async def check(self) -> None:
        """`TaskFailed` when ffmpeg is not there or does not run."""
        async with self._task().run("-version") as lines:
            async for _ in lines:
                pass

    async def render(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
        """Encode H.264 and AAC in MP4, as long as the audio; yields ffmpeg's own frame counts."""
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

    def source(self, path: Path) -> list[str]:
        return source(path, self.box.memory if self.box else None)

    async def length(self, audio: Path) -> float:
        """Seconds of sound, by decoding it: what a file's head says of its length is often a guess."""
        with _in_words("audio"):
            return await self._decoded(audio)

    async def _decoded(self, audio: Path) -> float:
        listen = [*self.source(audio), "-map", "0:a:0", *_REPORT, "-f", "null", "-"]
        progress = Progress()
        async with self.run(*_QUIET, *listen) as lines:
            async for line in lines:
                progress = progress.after(line)
        if progress.seconds <= 0:
            raise TaskFailed("the audio file holds no sound")
        return progress.seconds

    async def look(self, video: Path) -> str:
        """What ffmpeg says of the file. Reads one frame, which also proves that there is one."""
        look = ["-hide_banner", "-nostdin", "-nostats", *self.source(video), "-map", "0:v:0", "-frames:v", "1"]
        with _in_words("video"):
            async with self.run(*look, "-f", "null", "-", merge=True) as lines:
                return "\n".join([line async for line in lines])

    async def contained(self, video: Path, copy: Path) -> Path:
        """`copy`, in which the pictures of `video` have a container and times."""
        lossless = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-f", "matroska", str(copy)]
        with _in_words("video"):
            async with self.run(*_QUIET, "-y", *self.source(video), "-map", "0:v:0", *lossless) as lines:
                async for _ in lines:
                    pass
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
def _in_words(which: Which) -> Iterator[None]:
    try:
        yield
    except TaskFailed as error:
        raise TaskFailed(explained(str(error), which)) from error
