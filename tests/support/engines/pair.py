"""An engine of a function that makes a video of a video and an audio file: what the tests' own engines are."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from wakestream.adapters.engines import Command, lipsync_program
from wakestream.adapters.engines.command import LIPSYNC_KIND
from wakestream.adapters.engines.watchdog import Watchdog
from wakestream.operators.model.engine import Engine, Frame, Kind, Line, Made, Preview, Readiness, Work, numbered
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


async def done(engine: Engine, work: Work, watchdog: Watchdog | None = None) -> list[Frame | Line | Made | Preview]:
    """Let an engine do one work as a worker does; returns all that it said."""
    async with aclosing((watchdog or Watchdog()).watch(engine, work)) as items:
        return [item async for item in items]


async def made(engine: Engine, work: Work) -> dict[str, Path]:
    """The files of one work by name."""
    return {numbered(item.name, item.number): item.path for item in await done(engine, work) if isinstance(item, Made)}


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
    """An engine of one kind, lip-sync, whose `joined` makes the video."""

    kinds = (LIPSYNC_KIND,)

    def joined(self, video: Path, audio: Path, output: Path) -> AsyncGenerator[Frame | Line, None]:
        """Write `output`; yields the progress. Closing the generator stops the work."""
        raise NotImplementedError

    async def render(self, work: Work) -> AsyncGenerator[Frame | Line | Made, None]:
        """Make the video."""
        output = work.folder / "video.mp4"
        async with aclosing(self.joined(work.inputs["video"], work.inputs["audio"], output)) as items:
            async for item in items:
                yield item
        yield Made("video", output)
