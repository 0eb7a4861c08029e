"""Check a video or audio file before a GPU is started for it: the local ffmpeg decodes one frame."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

from loguru import logger

from wakestream.adapters.engines.ffmpeg import ANY_MEMORY, FORMATS, Progress, seconds_in, source
from wakestream.adapters.engines.ffmpeg_errors import Which, meaning
from wakestream.adapters.engines.run_process import run_program
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg
from wakestream.adapters.runtime.tasks import tasks_of_block
from wakestream.operators.model.errors import FileUnusable, TaskFailed, WrongInput

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
        await asyncio.gather(*(start(_input_probed(room, name, *each)) for name, each in inputs.items()))


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
    program = await asyncio.to_thread(found_ffmpeg)
    lines: deque[str] = deque(maxlen=_LINES)
    progress, failed = Progress(), ""
    try:
        async with aclosing(run_program(_command(program, path, which, formats), limit=60.0, merge=True)) as output:
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


def _command(program: str, path: Path, which: Which, formats: str) -> list[str]:
    stream = _STREAM[which]
    read = [program, "-hide_banner", "-nostdin", "-nostats", "-threads", "1", *source(path, ANY_MEMORY, formats)]
    one = ["-map", f"0:{stream}:0", f"-frames:{stream}", "1", "-progress", "pipe:1", "-f", "null", "-"]
    return limited([*read, *one])


def limited(command: Sequence[str]) -> list[str]:
    """The command with a limit of its memory, where a shell can set one."""
    return [*(["/bin/sh", "-c", _LIMITS, "sh", str(MEMORY)] if LIMITED else []), *command]
