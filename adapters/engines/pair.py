"""The simplest engine: a function that makes a video of a video and an audio file."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Readiness, Slot, Work
from wakestream.operators.model.errors import TaskFailed
from wakestream.operators.model.events import LIPSYNC

LIPSYNC_KIND = Kind(
    LIPSYNC,
    (Slot("video", ("video", "image"), "Video"), Slot("audio", ("audio", "video"), "Audio")),
    (Slot("video", (".mp4",), "Video"),),
    title="Lip-sync",
    help="The person in the video speaks the audio.",
)
"""The kind that deployed systems know."""


class PairRenderer(Protocol):
    """Makes a video from a video and an audio file."""

    async def check(self) -> None:
        """Return if it can work. Raises `TaskFailed` that says what is missing."""
        ...

    def render(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
        """Render a video. Closing the generator stops the work.

        Args:
            video: The video file.
            audio: The audio file.
            output: The file to write.

        Yields:
            The progress.

        Raises:
            TaskFailed: It failed; the message has its last output.
        """
        ...


class PairEngine(Engine):
    """An engine of one kind, lip-sync.

    Args:
        renderer: What does the work.

    Example:
        >>> engine = PairEngine(Ffmpeg())
    """

    def __init__(self, renderer: PairRenderer) -> None:
        self.renderer = renderer

    async def describe(self) -> Sequence[Kind]:
        """Lip-sync only."""
        return [LIPSYNC_KIND]

    async def ready(self) -> Readiness:
        """Whether the renderer can work."""
        try:
            await self.renderer.check()
        except TaskFailed as error:
            return Readiness(False, str(error))
        return Readiness(True)

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        """Render the video."""
        output = work.folder / "video.mp4"
        async with aclosing(self.renderer.render(work.inputs["video"], work.inputs["audio"], output)) as frames:
            async for frame in frames:
                yield frame
        yield Made("video", output)

    async def cancel(self, work: Work) -> None:
        """Nothing is left to stop when the generator is closed."""

    async def close(self) -> None:
        """Nothing is open."""
