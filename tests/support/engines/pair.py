"""An engine of a function that makes a video of a video and an audio file: what the tests' own engines are."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from wakestream.adapters.engines import Command, lipsync_program
from wakestream.adapters.engines.command import LIPSYNC_KIND
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Readiness, Work
from wakestream.operators.model.errors import TaskFailed
from wakestream.operators.model.events import LIPSYNC

PLACES = ("{video}", "{audio}", "{output}")


def lipsync(*words: str, **options: Any) -> Command:
    """The engine `command` with this command line; the three placeholders are its last words."""
    return Command([lipsync_program((*words, *PLACES))], **options)


def idle_engine() -> Command:
    """An engine that never gets work."""
    return lipsync("true")


async def rendered(engine: Engine, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame, None]:
    """Let an engine do one work of the kind lip-sync, as a worker does, and put the result at `output`."""
    folder = output.with_name(f"{output.name}.work")
    folder.mkdir()
    try:
        work = Work("w", LIPSYNC, {"video": video, "audio": audio}, {}, ("video",), folder)
        async with aclosing(engine.render(work)) as items:
            async for item in items:
                if isinstance(item, Frame):
                    yield item
                elif isinstance(item, Made):
                    item.path.replace(output)
    finally:
        shutil.rmtree(folder)


def as_engine(given: Engine | PairRenderer) -> Engine:
    """The engine, if it is only a renderer."""
    return PairEngine(given) if isinstance(given, PairRenderer) else given


@runtime_checkable
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


class QuietEngine(Engine):
    """An engine that is always ready for its `kinds`, and has nothing to stop or to close."""

    kinds: Sequence[Kind] = ()

    async def describe(self) -> Sequence[Kind]:
        """Its kinds."""
        return self.kinds

    async def ready(self) -> Readiness:
        """It is."""
        return Readiness(True)

    async def cancel(self, work: Work) -> None:
        """The generator's end is enough."""

    async def close(self) -> None:
        """Nothing is open."""


class PairEngine(QuietEngine):
    """An engine of one kind, lip-sync.

    Args:
        renderer: What does the work.

    Example:
        >>> engine = PairEngine(Joining())
    """

    kinds = (LIPSYNC_KIND,)

    def __init__(self, renderer: PairRenderer) -> None:
        self.renderer = renderer

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
