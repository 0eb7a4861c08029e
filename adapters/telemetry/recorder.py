"""Writes recordings: JSON lines, a file per run of a program, with rotation and a bounded number of files."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from wakestream.adapters.disk.atomic import private
from wakestream.adapters.runtime.known_secrets import redacted
from wakestream.operators.model.errors import FileUnusable
from wakestream.streams.recording.recording import Direction, Header, RowMaker, Tap, header_line, row_line, untapped

MAX_FILE: Final = 32 * 1024 * 1024
"""Bytes after which a new file is begun."""

MAX_FILES: Final = 20
"""Files of one program in the folder; the oldest are removed."""


DAY: Final = 86_400.0


class Recorder(Tap):
    """Implements `Tap` on files `<program>-<UTC time>-<pid>-<n>.jsonl` in `folder`. Needs a running loop.

    Raises `FileUnusable` when the folder is not writable. A full disk later ends the recording, not the program.
    """

    def __init__(self, folder: Path, header: Header, *, max_file: int = MAX_FILE, max_files: int = MAX_FILES) -> None:
        self._folder, self._header = folder, header
        self._max_file, self._max_files = max_file, max_files
        self._loop = asyncio.get_running_loop()
        self._turns = _Turns(self._loop) if header.program == "daemon" else None
        fired = self._turns.fired if self._turns is not None else None
        self._maker = RowMaker(self._loop.time, redacted, (fired or self._loop.time)(), fired)
        self._part = 0
        self._file: BinaryIO | None = self._open()

    def row(self, direction: Direction, label: str, data: Mapping[str, Any], job: str | None = None) -> None:
        """See `Tap.row`."""
        if self._file is not None:
            self._write(self._file, row_line(self._maker.make(direction, label, data, job)))

    def row_at(self, moment: float, direction: Direction, label: str, data: Mapping[str, Any]) -> None:
        """See `Tap.row_at`."""
        if self._file is not None:
            self._write(self._file, row_line(self._maker.make(direction, label, data, None, moment)))

    def newest(self) -> float | None:
        """See `Tap.newest`."""
        return None if self._file is None else self._maker.newest

    def close(self) -> None:
        """Close the file; later rows are dropped."""
        if self._turns is not None:
            self._turns.close()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, file: BinaryIO, line: bytes) -> None:
        try:
            file.write(line)
            file.flush()
            if file.tell() > self._max_file:
                file.close()
                self._file = self._open()
        except (OSError, FileUnusable) as error:
            from loguru import logger

            logger.error("recording stopped: {}", error)
            self._file = None
            with suppress(OSError):  # closing tries to write again
                file.close()

    def _open(self) -> BinaryIO:
        self._part += 1
        begun = datetime.fromtimestamp(self._header.epoch, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._name = f"{self._header.program}-{begun}-{os.getpid()}-"
        path = self._folder / f"{self._name}{self._part:03}.jsonl"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = open(path, "xb", opener=private)  # noqa: SIM115 - it is closed with the recorder
            file.write(header_line(self._header))
            file.flush()
        except OSError as error:
            raise FileUnusable(f"cannot record into {self._folder}: {error.strerror or error}") from error
        # Another process of this program may write here too: keep other files that were changed within a day.
        old = time.time() - DAY
        ours = sorted(self._folder.glob(f"{self._header.program}-*.jsonl"))
        spare = [path for path in ours if path.name.startswith(self._name) or _written(path) < old]
        for path in spare[: max(0, len(ours) - self._max_files)]:
            with suppress(OSError):  # on Windows another program may read it; a later rotation removes it
                path.unlink(missing_ok=True)
        return file


def _written(path: Path) -> float:
    """When a file was written; 0 if another program has removed it, too."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


class _Turns:
    """The times at which the last two turns of the event loop began. asyncio has no public way to ask.

    In each turn, the loop looks for I/O first. Then it appends the timers that are due to what runs in this turn.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = cast("Any", loop)
        self._process: Any = getattr(loop, "_process_events", None) if hasattr(loop, "_selector") else None
        self._before = self._present = loop.time()
        if self._process is not None:
            self._loop._process_events = self._begin

    def fired(self) -> float:
        """Until when all timers have fired, while an input of the present turn is handled."""
        return self._before if self._process is not None else self._loop.time()

    def _begin(self, events: Any) -> None:
        self._before, self._present = self._present, self._loop.time()
        self._process(events)

    def close(self) -> None:
        """Leave the loop as it was."""
        if self._process is not None:
            self._loop._process_events = self._process


@contextmanager
def recording(folder: Path | None, program: str, seed: int, config: Mapping[str, Any]) -> Iterator[Tap]:
    """A recorder into `folder` until the block ends; without a folder, a tap that records nothing."""
    if folder is None:
        yield untapped
        return
    recorder = Recorder(folder, Header(program, time.time(), seed, config))
    try:
        yield recorder
    finally:
        recorder.close()
