"""What the console's folder holds, who still needs it, and how the rest of it goes away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from wakestream.adapters.daemon.console import uploads
from wakestream.adapters.daemon.console.uploads import Look, Uploads, unlooked
from wakestream.adapters.daemon.event_feed import Item
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.streams.outbox.state import Entry
from wakestream.streams.recording.event_json import OUTCOME_KINDS

UNUSED_FOR: Final = 24 * 3600.0
"""Seconds after which a file that was given but never used is removed."""


class Storage:
    """`uploads` are the files that were given, `results` is the folder of what was made of them. `look`: `Uploads`."""

    def __init__(self, folder: Path, outbox: Outbox, quota: int, look: Look = unlooked) -> None:
        self.results = folder / "results"
        self.results.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._outbox = outbox
        self.beginning: set[str] = set()
        self.uploads = Uploads(folder / "uploads", self.needed, self._results_size, quota, look=look)

    def needed(self) -> Collection[str]:
        """The files that unfinished jobs read."""
        unfinished = (entry.accepted for entry in self._outbox.state.jobs.values() if entry.ended is None)
        return {path for accepted in unfinished for path in (accepted.video, accepted.audio)}

    def referred(self) -> Collection[str]:
        """The files that any job read or reads."""
        jobs = (entry.accepted for entry in self._outbox.state.jobs.values())
        return {path for accepted in jobs for path in (accepted.video, accepted.audio)}

    def plain(self) -> dict[str, Any]:
        """For the page: the files that wait to be used, and how much room there is."""
        idle = [upload.plain() for upload in self.uploads.idle(self.referred())]
        return {"uploads": idle, "used": self.uploads.used, "quota": self.uploads.quota}

    def _results_size(self) -> int:
        size = 0
        with contextlib.suppress(OSError), os.scandir(self.results) as found:
            size = sum(each.stat().st_size for each in found)
        return size

    # What is left over

    async def clean(self, changed: Callable[[], None]) -> None:
        """Remove what is not needed any more, as jobs begin and end; `changed` hears of it.

        The inputs of a job that is done go; those of others stay for another try.
        """
        cut = asyncio.Event()
        while True:
            with self._outbox.feed.follow(None, cut.set) as happened:
                if cut.is_set():  # more happened at once than waits for a reader: what was missed is looked for
                    cut.clear()
                    await self.tidy()
                    changed()
                while (item := await happened.next()) is not None:
                    await self._after(item, changed)
            if not cut.is_set():
                return

    async def _after(self, item: Item, changed: Callable[[], None]) -> None:
        entry = self._outbox.state.jobs.get(item.job)
        if item.kind == "accepted":
            await self._remove_results()  # for a new job, an old one may have been forgotten
        elif item.kind in OUTCOME_KINDS and entry is not None and entry.state == "done":
            await self._remove_inputs(entry)
            changed()

    async def tidy(self) -> None:
        """Remove what earlier runs left: results of forgotten jobs, inputs of done ones, files that nobody used."""
        await self._remove_results()
        for entry in [one for one in self._outbox.state.jobs.values() if one.state == "done"]:
            await self._remove_inputs(entry)
        for upload in self.uploads.idle(self.referred()):
            if upload.at < time.time() - UNUSED_FOR:
                await self.uploads.discard(upload)

    async def _remove_inputs(self, entry: Entry) -> None:
        for path in (entry.accepted.video, entry.accepted.audio):
            upload = self.uploads.of_path(path)
            if upload is not None and path not in self.needed():
                await self.uploads.discard(upload)

    async def _remove_results(self) -> None:
        found = await asyncio.to_thread(_results_in, self.results)
        if not found:
            return
        # Worked out after the look: a job that began meanwhile has its files in the folder, and is known here.
        wanted = {entry.accepted.output for entry in self._outbox.state.jobs.values()} | self.beginning
        for each in found:
            if str(each.with_suffix(".mp4")) not in wanted:
                await asyncio.to_thread(uploads.remove_file, each)


def _results_in(folder: Path) -> list[Path]:
    found: list[Path] = []
    with contextlib.suppress(OSError):
        found += (each for each in folder.iterdir() if each.suffix in (".mp4", ".json"))
    return found
