"""Make sample files with ffmpeg: a moving test picture, and sound with the rhythm of speech."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

from wakestream.adapters.engines.run_process import run_program
from wakestream.adapters.runtime.ffmpeg_program import found_ffmpeg

SYLLABLES = "(0.55+0.45*sin(2*PI*3.7*t))*(0.5+0.5*sin(2*PI*0.6*t+{phase}))"
"""Loudness over time: about four syllables a second, in phrases."""

VOWELS = "0.5*sin(2*PI*{pitch}*t+2*sin(2*PI*2.3*t))+0.3*sin(2*PI*{pitch}*4*t)+0.15*sin(2*PI*{pitch}*9*t)"
"""A gliding fundamental with two formants."""

LIMIT = 600.0
"""Seconds that making a sample may take."""


async def make_video(path: Path, seconds: float, *, size: str = "640x360", rate: int = 25) -> None:
    """Write a clip without sound, `seconds` long."""
    source = f"testsrc2=size={size}:rate={rate}:duration={seconds:g}"
    await _ffmpeg(
        "-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", str(path)
    )


async def make_speech(path: Path, seconds: float, *, pitch: float = 140.0, phase: float = 0.0) -> None:
    """Write a WAV file, `seconds` long, that rises and falls like speech at `pitch` Hz."""
    sound = f"({VOWELS.format(pitch=pitch)})*{SYLLABLES.format(phase=phase)}"
    await _ffmpeg("-f", "lavfi", "-i", f"aevalsrc='{sound}':s=16000:d={seconds:g}", str(path))


async def _ffmpeg(*arguments: str) -> None:
    command = (found_ffmpeg("demo"), "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments)
    async with aclosing(run_program(command, limit=LIMIT)) as lines:
        async for _ in lines:
            pass
