"""The engine that needs no GPU: the audio becomes the soundtrack of the video, looped or cut to the audio's length."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from wakestream.adapters.engines.ffmpeg_words import Which, explained
from wakestream.adapters.engines.partial import whole
from wakestream.adapters.engines.process import run_program
from wakestream.operators.errors import TaskFailed
from wakestream.operators.ports import Frame

FORMATS = (
    "mov,matroska,webm,avi,flv,mpeg,mpegts,asf,ogg,mxf,gif,h264,hevc,m4v,mjpeg,image2,png_pipe,jpeg_pipe,"
    "wav,w64,aiff,caf,mp3,aac,flac,ac3,eac3,amr"
)
"""Containers that ffmpeg may open. Playlists and scripts, which name other files or addresses, are not among them."""

MAX_PIXELS = 8192 * 8192
"""Of a picture: a file of some kB may claim a size that takes more memory to decode than the machine has."""

READ = ["-max_pixels", str(MAX_PIXELS), "-protocol_whitelist", "file", "-format_whitelist", FORMATS]
"""How any file of a stranger is opened: as a file, in one of these containers, with pictures of a sensible size."""

_QUIET = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "error"]
_REPORT = ["-progress", "pipe:1", "-stats_period", "0.2"]
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


def found_ffmpeg() -> str:
    """The program's path, of the package imageio-ffmpeg or else of the system. `TaskFailed` where there is none."""
    import imageio_ffmpeg  # type: ignore[import-untyped]  # slow to import, and only this engine needs it

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise TaskFailed(f"no ffmpeg: {str(error).rstrip('.')}") from error


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """`binary` is found in the package imageio-ffmpeg unless given; `limit` bounds each of its runs, in seconds."""

    limit: float = 4 * 3600.0
    binary: str | None = None

    def _program(self) -> str:
        return self.binary or found_ffmpeg()

    def _run(self, *arguments: str, merge: bool = False) -> AbstractAsyncContextManager[AsyncGenerator[str, None]]:
        return aclosing(run_program([self._program(), *arguments], limit=self.limit, merge=merge))

    async def check(self) -> None:
        """`TaskFailed` when ffmpeg is not there or does not run."""
        async with self._run("-version") as lines:
            async for _ in lines:
                pass

    async def render(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
        """Encode H.264 and AAC in MP4, as long as the audio; yields ffmpeg's own frame counts."""
        seconds = await self._length(audio)
        frames = ceil((await self._fps(video) or 0) * seconds)
        async with (
            whole(output) as partial,
            self._run(*_QUIET, *_encode(video, audio, seconds, partial)) as lines,
        ):
            progress = Progress()
            async for line in lines:
                progress = progress.after(line)
                if line.startswith("progress="):
                    yield progress.of(frames, seconds)

    async def _length(self, audio: Path) -> float:
        """Seconds of sound, by decoding it: what a file's head says of its length is often a guess."""
        with _in_words("audio"):
            return await self._decoded(audio)

    async def _decoded(self, audio: Path) -> float:
        listen = [*READ, "-i", str(audio), "-map", "0:a:0", *_REPORT, "-f", "null", "-"]
        progress = Progress()
        async with self._run(*_QUIET, *listen) as lines:
            async for line in lines:
                progress = progress.after(line)
        if progress.seconds <= 0:
            raise TaskFailed("the audio file holds no sound")
        return progress.seconds

    async def _fps(self, video: Path) -> float | None:
        """Reads one frame, which also proves that there is one."""
        look = ["-hide_banner", "-nostdin", "-nostats", *READ, "-i", str(video), "-map", "0:v:0", "-frames:v", "1"]
        with _in_words("video"):
            async with self._run(*look, "-f", "null", "-", merge=True) as lines:
                return fps_in("\n".join([line async for line in lines]))


@contextmanager
def _in_words(which: Which) -> Iterator[None]:
    try:
        yield
    except TaskFailed as error:
        raise TaskFailed(explained(str(error), which)) from error


def _encode(video: Path, audio: Path, seconds: float, output: Path) -> list[str]:
    return [
        *("-y", *_REPORT, *READ, "-stream_loop", "-1", "-i", str(video), *READ, "-i", str(audio)),
        *("-map", "0:v:0", "-map", "1:a:0", "-t", f"{seconds:.6f}", "-vf", _EVEN, "-fps_mode", "cfr"),
        *("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac"),
        *("-movflags", "+faststart", "-f", "mp4", str(output)),
    ]
