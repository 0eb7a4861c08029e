"""Check a video or audio file before a GPU is started for it: the local ffmpeg decodes one frame."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loguru import logger

from wakestream.adapters.engines.ffmpeg import ANY_MEMORY, FORMATS, Progress, fps_in, seconds_in, source
from wakestream.adapters.engines.ffmpeg_kinds import Which, meaning
from wakestream.adapters.engines.run_process import run_program
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.adapters.runtime.tasks import tasks_of_block
from wakestream.operators.model.errors import FileUnusable, TaskFailed, WrongInput
from wakestream.streams.protocol.kinds import MEDIA

LIMITED: Final = os.name == "posix"
"""Whether a shell can limit a program's memory."""

MEMORY: Final = 2 * 1024 * 1024
"""KiB of address space that a probe may take."""

LARGE: Final = 64 * 1000**2
"""Bytes from which a file is large."""

AT_ONCE: Final = 4
"""Files of one job that are checked at the same time."""

_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif"})
_IMAGE_FORMATS = "png_pipe,jpeg_pipe,webp_pipe,gif"

_LOOK = ("-hide_banner", "-nostdin", "-nostats", "-threads", "1")
_LIMITS = 'ulimit -v "$1" 2>/dev/null; shift; exec "$@"'
_LINES = 200
_STREAM: dict[Which, str] = {"video": "v", "audio": "a"}
_OUT_OF_MEMORY = "Cannot allocate memory"


class MediaUnusable(FileUnusable):
    """The file cannot be decoded as video or audio (`which`). `fault` is a word for the reason."""

    def __init__(self, path: Path, which: Which, fault: str, why: str) -> None:
        super().__init__(f"{path} cannot be used as the {which}: it {why}")
        self.which, self.fault, self.why = which, fault, why


def time_limit(size: int) -> float:
    """Seconds that checking a file of this size may take; after that, the job continues without the check."""
    return 1.0 if size > LARGE else 10.0


async def probed(path: Path, which: Which, formats: str = FORMATS) -> float | None:
    """Check a file.

    If there is no ffmpeg, or it takes too long or fails for another reason, no file is refused.

    Args:
        path: The file.
        which: What it must contain.
        formats: The formats that it may have.

    Returns:
        Its length in seconds; None if the file does not have it or could not be checked.

    Raises:
        MediaUnusable: ffmpeg cannot decode any of it.
    """
    try:
        async with asyncio.timeout(time_limit(path.stat().st_size)):
            said = await _decode_one(path, which, formats)
    except MediaUnusable:
        raise
    except (TimeoutError, TaskFailed, ImportError, OSError) as error:
        logger.debug("{} was not checked: {}", path, str(error) or "it took too long")
        return None
    return seconds_in("\n".join(said))


async def both_probed(video: Path, audio: Path) -> tuple[float | None, float | None]:
    """Check both files at once and return their lengths. `MediaUnusable`: one cannot be decoded."""
    async with tasks_of_block() as start:
        looks = start(probed(video, "video")), start(probed(audio, "audio"))
        return await looks[0], await looks[1]


async def all_probed(inputs: Mapping[str, tuple[Path, str]]) -> None:
    """Check the input files of a job.

    Args:
        inputs: For each input its file and what it must contain: video, audio or image.

    Raises:
        WrongInput: ffmpeg cannot decode one; the message names the input.
    """
    room = asyncio.Semaphore(AT_ONCE)
    async with tasks_of_block() as start:
        await asyncio.gather(*(start(_input_probed(room, name, *wanted)) for name, wanted in inputs.items()))


async def _input_probed(room: asyncio.Semaphore, name: str, path: Path, media: str) -> None:
    if media == "image" and path.suffix.lower() not in _IMAGES:
        return  # formats that only some engines read
    try:
        async with room:
            await probed(
                path, "audio" if media == "audio" else "video", _IMAGE_FORMATS if media == "image" else FORMATS
            )
    except MediaUnusable as error:
        why = f"input {name}: {path} cannot be used as {media}: it {error.why} (--no-probe skips this check)"
        raise WrongInput(f"inputs.{name}", why) from None


async def _decode_one(path: Path, which: Which, formats: str) -> list[str]:
    """The output of ffmpeg while it decodes one frame. `TaskFailed`: it failed for an unknown reason."""
    program, stream = await asyncio.to_thread(found_ffmpeg), _STREAM[which]
    lines: deque[str] = deque(maxlen=_LINES)
    progress, failed = Progress(), ""
    one_frame = ("-map", f"0:{stream}:0", f"-frames:{stream}", "1", "-progress", "pipe:1", "-f", "null", "-")
    try:
        async with _looking(program, path, formats, *one_frame) as output:
            async for line in output:
                progress = progress.after(line)
                lines.append(line)
    except TaskFailed as error:
        failed = str(error)
    said = "\n".join(lines)
    if not failed and (progress.frame or progress.seconds):
        return list(lines)
    known = None if _OUT_OF_MEMORY in said else meaning(said, which)
    if known is None and failed:
        raise TaskFailed(failed)
    raise MediaUnusable(path, which, *(known or ("empty", "has nothing that can be decoded")))


def _looking(
    program: str, path: Path, formats: str, *wanted: str
) -> AbstractAsyncContextManager[AsyncGenerator[str, None]]:
    """Let ffmpeg do what is `wanted` with a file; yields its lines."""
    command = [program, *_LOOK, *source(path, ANY_MEMORY, formats), *wanted]
    return aclosing(run_program(limited(command), limit=60.0, merge=True))


def limited(command: Sequence[str]) -> list[str]:
    """The command with a limit of its memory, where a shell can set one."""
    return [*(["/bin/sh", "-c", _LIMITS, "sh", str(MEMORY)] if LIMITED else []), *command]


# A small picture of a media file, its length and its format, made by the local ffmpeg.

WITHIN: Final = 8.0
"""Seconds that a picture may take."""

WIDTH: Final = 240
JPEG_MOST: Final = 200_000
_FRAMES: Final = 20  # of these the most typical is taken: the first one is often black
_PREVIEW_LINES: Final = 100
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
    lines: deque[str] = deque(maxlen=_PREVIEW_LINES)
    try:
        program = await asyncio.to_thread(found_ffmpeg)
        with tempfile.TemporaryDirectory(prefix="wakestream-") as folder:
            jpeg = Path(folder) / "preview.jpg"
            wanted = _SOUND if path.suffix.lower() in _SOUNDS else (*_PICTURE, str(jpeg))
            try:
                async with asyncio.timeout(WITHIN), _looking(program, path, FORMATS, *wanted) as output:
                    async for line in output:
                        lines.append(line)
            except TaskFailed as error:  # as for a file without a picture
                logger.debug("no picture of {}: {}", path, error)
            said = "\n".join(lines)
            return Preview(await asyncio.to_thread(_read, jpeg), seconds_in(said), tuple(_formats(said)))
    except (TimeoutError, ImportError, OSError, TaskFailed) as error:
        logger.debug("{} has no preview: {}", path, str(error) or "it took too long")
        return None


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
