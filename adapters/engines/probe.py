"""A look at a video or an audio before anything is woken for it: one frame is decoded by the ffmpeg that is here."""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from contextlib import aclosing
from pathlib import Path
from typing import Final

from loguru import logger

from wakestream.adapters.engines.ffmpeg import Progress, found_ffmpeg, source
from wakestream.adapters.engines.ffmpeg_errors import Which, meaning
from wakestream.adapters.engines.run_process import run_program
from wakestream.operators.model.errors import FileUnusable, TaskFailed

LIMITED: Final = os.name == "posix"
"""Whether a program's memory can be limited by a shell."""

MEMORY: Final = 2 * 1024 * 1024
"""KiB of address space that a probe may take."""

ANY_MEMORY: Final = 2**40
"""Bytes: whether a picture is too large for a machine is for the machine that renders it."""

LARGE: Final = 64 * 1000**2
"""Bytes from which a file is large."""

_LIMITS = 'ulimit -v "$1" 2>/dev/null; shift; exec "$@"'
_LINES = 200
_LENGTH = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", re.MULTILINE)
_STREAM: dict[Which, str] = {"video": "v", "audio": "a"}
_NOT_ITS_FAULT = "Cannot allocate memory"


class MediaUnusable(FileUnusable):
    """The file cannot be decoded as what it was given for. `fault` is a word for why, `which` what it was given for."""

    def __init__(self, path: Path, which: Which, fault: str, why: str) -> None:
        super().__init__(f"{path} cannot be used as the {which}: it {why}")
        self.which, self.fault = which, fault


def patience(size: int) -> float:
    """Seconds that the look at a file of so many bytes may take; then the job goes on without it."""
    return 1.0 if size > LARGE else 10.0


async def probed(path: Path, which: Which) -> float | None:
    """How many seconds of `which` the file says that it has; None when it does not say or nobody could look.

    `MediaUnusable` when ffmpeg cannot decode anything of it. Without ffmpeg, without an answer in time and where ffmpeg
    fails for a reason of its own, nothing is refused, and the log says why at debug level.
    """
    try:
        async with asyncio.timeout(patience(path.stat().st_size)):
            said = await _said_of(path, which)
    except MediaUnusable:
        raise
    except (TimeoutError, TaskFailed, ImportError, OSError) as error:
        logger.debug("{} was not probed: {}", path, str(error) or "it took too long")
        return None
    found = _LENGTH.search("\n".join(said))
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None


async def both_probed(video: Path, audio: Path) -> tuple[float | None, float | None]:
    """The lengths of both files, looked at side by side; `MediaUnusable` for the first that is none."""
    looks = [asyncio.create_task(probed(video, "video")), asyncio.create_task(probed(audio, "audio"))]
    try:
        return await looks[0], await looks[1]
    finally:
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)


async def _said_of(path: Path, which: Which) -> list[str]:
    """What ffmpeg prints while it decodes one frame. `TaskFailed` when it fails for a reason that we do not know."""
    program = await asyncio.to_thread(found_ffmpeg)
    lines: deque[str] = deque(maxlen=_LINES)
    progress, failed = Progress(), ""
    try:
        async with aclosing(run_program(_limited(_command(program, path, which)), limit=60.0, merge=True)) as output:
            async for line in output:
                progress = progress.after(line)
                lines.append(line)
    except TaskFailed as error:
        failed = str(error)
    said = "\n".join(lines)
    if not failed and (progress.frame or progress.seconds):
        return list(lines)
    known = None if _NOT_ITS_FAULT in said else meaning(said, which)
    if known is None and failed:
        raise TaskFailed(failed)
    raise MediaUnusable(path, which, *(known or ("empty", "holds nothing that can be decoded")))


def _command(program: str, path: Path, which: Which) -> list[str]:
    stream = _STREAM[which]
    read = ["-threads", "1", *source(path, ANY_MEMORY)]
    one = ["-map", f"0:{stream}:0", f"-frames:{stream}", "1", "-progress", "pipe:1", "-f", "null", "-"]
    return [program, "-hide_banner", "-nostdin", "-nostats", *read, *one]


def _limited(argv: list[str]) -> list[str]:
    return ["/bin/sh", "-c", _LIMITS, "sh", str(MEMORY), *argv] if LIMITED else argv
