"""Where ffmpeg is. A PC client works without it; the extras `worker` and `demo` bring it."""

from __future__ import annotations

import shutil

from wakestream.operators.model.errors import TaskFailed


def found_ffmpeg(extra: str = "worker") -> str:
    """The path of ffmpeg, from the package imageio-ffmpeg or the system.

    Args:
        extra: The extra that the message names.

    Raises:
        TaskFailed: There is no ffmpeg; the message says how to get it.
    """
    try:
        import imageio_ffmpeg  # type: ignore[import-untyped]  # slow to import, and not everybody needs it
    except ImportError:
        program = shutil.which("ffmpeg")
        if program is not None:
            return program
        raise TaskFailed(
            f'ffmpeg is missing; run pip install "wakestream[{extra}]", or install ffmpeg on this machine'
        ) from None
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise TaskFailed(f"no ffmpeg: {str(error).rstrip('.')}") from error
