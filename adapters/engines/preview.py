"""A small picture of a media file, its length and its format, made by the local ffmpeg."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loguru import logger

from wakestream.adapters.engines.ffmpeg import ANY_MEMORY, FORMATS, fps_in, seconds_in, source
from wakestream.adapters.engines.probe import limited
from wakestream.adapters.engines.run_process import run_program
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.operators.model.errors import TaskFailed
from wakestream.streams.protocol.kinds import MEDIA

WITHIN: Final = 8.0
"""Seconds that a picture may take."""

WIDTH: Final = 240
JPEG_MOST: Final = 200_000
_FRAMES: Final = 20  # of these the most typical is taken: the first one is often black
_LINES: Final = 100
_SMALL = f"thumbnail={_FRAMES},scale={WIDTH}:{WIDTH}:force_original_aspect_ratio=decrease:force_divisible_by=2"
_PICTURE: Final = (
    *("-map", "0:v:0", "-frames:v", "1", "-vf", _SMALL, "-an", "-c:v", "mjpeg", "-q:v", "6"),
    *("-pix_fmt", "yuvj420p", "-f", "image2", "-update", "1", "-y"),
)
_SOUND: Final = ("-map", "0:a:0", "-frames:a", "1", "-f", "null", "-")
_SOUNDS: Final = MEDIA["audio"] - MEDIA["video"]
_VIDEO = re.compile(r"Stream #0.*?: Video: (\w+).*?, (\d{2,5})x(\d{2,5})")
_AUDIO = re.compile(r"Stream #0.*?: Audio: (\w+).*?, (\d{4,6}) Hz")


@dataclass(frozen=True, slots=True)
class Preview:
    """What a file contains: `jpeg` is empty without a picture, `format` has words such as `640x360` and `h264`."""

    jpeg: bytes = b""
    seconds: float | None = None
    format: tuple[str, ...] = ()


async def preview(path: Path) -> Preview | None:
    """Look into a file.

    Args:
        path: A media file, which may be faulty. Of a sound no picture is made.

    Returns:
        What ffmpeg found, an empty preview for a file that it cannot read. None if it could not look: there is no
        ffmpeg, or it took longer than `WITHIN` seconds. A later try may find more.
    """
    lines: deque[str] = deque(maxlen=_LINES)
    try:
        program = await asyncio.to_thread(found_ffmpeg)
        with tempfile.TemporaryDirectory(prefix="wakestream-") as folder:
            jpeg = Path(folder) / "preview.jpg"
            try:
                async with asyncio.timeout(WITHIN):
                    await _run(program, path, jpeg, lines)
            except TaskFailed as error:  # as for a file without a picture
                logger.debug("no picture of {}: {}", path, error)
            said = "\n".join(lines)
            return Preview(await asyncio.to_thread(_read, jpeg), seconds_in(said), tuple(_formats(said)))
    except (TimeoutError, ImportError, OSError, TaskFailed) as error:
        logger.debug("{} has no preview: {}", path, str(error) or "it took too long")
        return None


async def _run(program: str, path: Path, jpeg: Path, lines: deque[str]) -> None:
    look = (program, "-hide_banner", "-nostdin", "-nostats", "-threads", "1", *source(path, ANY_MEMORY, FORMATS))
    command = [*look, *(_SOUND if path.suffix.lower() in _SOUNDS else (*_PICTURE, str(jpeg)))]
    async with aclosing(run_program(limited(command), limit=60.0, merge=True)) as output:
        async for line in output:
            lines.append(line)


def _read(jpeg: Path) -> bytes:
    try:
        data = jpeg.read_bytes()
    except OSError:
        return b""
    return data if len(data) <= JPEG_MOST else b""


_STILL: Final = re.compile(r"Input #0, (?:\w+_pipe|image2|gif|webp)\b")
"""A picture: ffmpeg reads it as a video of 25 pictures a second."""


def _formats(said: str) -> Iterator[str]:
    """The size, codecs, frames a second and sample rate in the output of `ffmpeg -i`."""
    said = said.partition("Output #0")[0]
    video, audio, fps = _VIDEO.search(said), _AUDIO.search(said), fps_in(said)
    if video:
        yield f"{video[2]}x{video[3]}"
        yield video[1]
    if video and fps and not _STILL.search(said):
        yield f"{fps:g} fps"
    if audio:
        yield audio[1]
    if audio and not video:
        yield f"{int(audio[2]) / 1000:g} kHz"
