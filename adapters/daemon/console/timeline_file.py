"""What the timeline showed in earlier runs of the program: a file beside the outbox, as far as a page has use for it.

It is a picture of the past and no more: written once a second, not synced, and where the disk does not take it or has
lost a part of it, the timeline is shorter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
from loguru import logger

from wakestream.adapters.daemon.console.timeline import Timeline
from wakestream.adapters.disk.atomic import write_atomic

EARLIER: Final = 1_500
"""Rows of earlier runs that one who opens the page is given."""

EVERY: Final = 1.0
"""Seconds between two looks for new rows."""

NAME: Final = "timeline.jsonl"

Run = dict[str, Any]
"""`boot` names it, `epoch` is its begin in UNIX seconds, `rows` are as `Timeline.since` gives them."""


class TimelineFile:
    """Keeps the rows of `timeline`, those of the run `boot`. `load` reads what earlier runs left."""

    def __init__(self, path: Path, boot: str, timeline: Timeline) -> None:
        self._path, self._boot, self._timeline = path, boot, timeline
        self._runs: list[Run] = []
        self._seq = 0
        self._lines = 0

    def earlier(self, seen: str) -> Sequence[Run]:
        """The runs before this one, for a page that knows them up to the run `seen`, which it may know in part."""
        at = next((at for at, run in enumerate(self._runs) if run["boot"] == seen), 0)
        return () if seen == self._boot else self._runs[at:]

    async def load(self) -> None:
        """Read what there is, and cut it down to what is of use."""
        self._runs = await asyncio.to_thread(_read, self._path)
        self._lines = await asyncio.to_thread(_cut_down, self._path)

    async def keep(self) -> None:
        """Write new rows for as long as this runs."""
        while True:
            await asyncio.sleep(EVERY)
            await self.write()

    async def write(self) -> None:
        """Write the rows that are not written yet."""
        if self._timeline.last == self._seq:
            return
        begin = [] if self._seq else [{"boot": self._boot, "epoch": self._timeline.header.epoch}]
        rows = self._timeline.since(self._seq)
        self._seq = self._timeline.last
        self._lines += len(begin) + len(rows)
        await asyncio.to_thread(_append, self._path, [*begin, *rows])
        if self._lines > 2 * EARLIER:
            self._lines = await asyncio.to_thread(_cut_down, self._path)


def _read(path: Path) -> list[Run]:
    """The runs in the file with their rows, `EARLIER` of them at most. A line that is none of ours is left out."""
    runs: list[Run] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return runs
    for line in lines:
        plain = _plain(line)
        if isinstance(plain.get("boot"), str) and isinstance(plain.get("epoch"), int | float):
            runs.append({**plain, "rows": []})
        elif runs and isinstance(plain.get("seq"), int) and isinstance(plain.get("t"), int | float):
            runs[-1]["rows"].append(plain)
    spare = sum(len(run["rows"]) for run in runs) - EARLIER
    for run in runs:
        gone = max(0, min(spare, len(run["rows"])))
        del run["rows"][:gone]
        spare -= gone
    return [run for run in runs if run["rows"]]


def _plain(line: bytes) -> Mapping[str, Any]:
    try:
        plain = orjson.loads(line)
    except ValueError:
        return {}
    return plain if isinstance(plain, dict) else {}


def _append(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    try:
        with path.open("ab") as file:
            file.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    except OSError as error:
        logger.debug("the timeline is not kept: {}", error)


def _cut_down(path: Path) -> int:
    """Leave in the file what `_read` gives; returns how many lines that are."""
    lines = [line for run in _read(path) for line in ({**run, "rows": None}, *run["rows"])]
    try:
        write_atomic(path, b"".join(orjson.dumps(line) + b"\n" for line in lines), sync=False)
    except OSError as error:
        logger.debug("the timeline is not kept: {}", error)
    return len(lines)
