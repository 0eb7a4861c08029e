"""Keeps the timeline of earlier runs in a file beside the outbox, as far as a page can show it.

The file is only for display: it is written once a second without a sync. When the disk loses a part of it or cannot
take it, the timeline is shorter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
from loguru import logger

from wakestream.adapters.daemon.console.timeline import Timeline
from wakestream.adapters.disk.atomic import write_atomic
from wakestream.adapters.disk.state_file import move_aside

EARLIER: Final = 1_500
"""Rows of earlier runs that a page gets when it opens."""

EVERY: Final = 1.0
"""Seconds between two writes."""

NAME: Final = "timeline.jsonl"

Run = dict[str, Any]
"""`boot` identifies the run, `epoch` is its start in UNIX seconds, `rows` are those of `Timeline.since`."""


class TimelineFile:
    """Writes the rows of `timeline` for the run `boot`. `load` reads the rows of earlier runs."""

    def __init__(self, path: Path, boot: str, timeline: Timeline) -> None:
        self._path, self._boot, self._timeline = path, boot, timeline
        self._runs: list[Run] = []
        self._seq = 0
        self._lines = 0

    def earlier(self, seen: str) -> Sequence[Run]:
        """The earlier runs, for a page that knows those before the run `seen` and a part of that one."""
        at = next((at for at, run in enumerate(self._runs) if run["boot"] == seen), 0)
        return () if seen == self._boot else self._runs[at:]

    async def load(self) -> None:
        """Read the file, and remove rows that no page can show."""
        self._runs = await asyncio.to_thread(_read, self._path, aside=True)
        self._lines = await asyncio.to_thread(_rewrite, self._path, self._runs)

    async def keep(self) -> None:
        """Write new rows until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.write()

    async def write(self) -> None:
        """Write the new rows."""
        if self._timeline.last == self._seq:
            return
        begin = [] if self._seq else [{"boot": self._boot, "epoch": self._timeline.header.epoch}]
        rows = self._timeline.since(self._seq)
        self._seq = self._timeline.last
        self._lines += len(begin) + len(rows)
        await asyncio.to_thread(self._append, _lines([*begin, *rows]))
        if self._lines > 2 * EARLIER:
            runs = await asyncio.to_thread(_read, self._path)
            self._lines = await asyncio.to_thread(_rewrite, self._path, runs)

    def _append(self, lines: bytes) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(lines)
        except OSError as error:
            logger.debug("the timeline cannot be written: {}", error)


def _read(path: Path, *, aside: bool = False) -> list[Run]:
    """The runs in the file, with at most `EARLIER` rows. Invalid lines are left out.

    With `aside` a file that has such lines before its last one, which a kill may have cut off, is moved aside.
    """
    runs: list[Run] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return runs
    for line in lines:
        plain: dict[str, Any] = {}
        with suppress(ValueError):
            plain = msgspec.json.decode(line, type=dict[str, Any])
        if isinstance(plain.get("boot"), str) and isinstance(plain.get("epoch"), int | float):
            runs.append({**plain, "rows": []})
        elif runs and isinstance(plain.get("seq"), int) and isinstance(plain.get("t"), int | float):
            runs[-1]["rows"].append(plain)
        elif aside and line is not lines[-1]:
            move_aside(path, "a line in it is no event")
            aside = False
    spare = sum(len(run["rows"]) for run in runs) - EARLIER
    for run in runs:
        gone = max(0, min(spare, len(run["rows"])))
        del run["rows"][:gone]
        spare -= gone
    return [run for run in runs if run["rows"]]


def _rewrite(path: Path, runs: Iterable[Run]) -> int:
    """Replace the file by these runs; returns the number of lines."""
    lines = [line for run in runs for line in ({**run, "rows": None}, *run["rows"])]
    try:
        write_atomic(path, _lines(lines), sync=False)
    except OSError as error:
        logger.debug("the timeline cannot be written: {}", error)
    return len(lines)


def _lines(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
