"""`daemon --watch DIR`: each pair of a video and an audio file that appears in a folder becomes a job.

The folder is read every few seconds: file systems on other machines do not say what changes.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from loguru import logger

from wakestream.adapters.daemon.api import requests
from wakestream.adapters.daemon.api.auth import ApiError
from wakestream.adapters.daemon.api.routes import submitted
from wakestream.adapters.daemon.outbox import Outbox
from wakestream.adapters.disk.path_key import path_key
from wakestream.adapters.disk.result_names import next_free
from wakestream.adapters.disk.state_file import keep_state, read_state
from wakestream.adapters.engines.probe import MediaUnusable, both_probed
from wakestream.streams.jobs.pairs import pairs_of

EVERY: Final = 2.0
"""Seconds between two looks; a file that has not changed from one to the next is complete."""

RESULTS: Final = "results"
FILE: Final = "watched.json"
KEPT: Final = 100_000
"""Pairs that are remembered after they were started."""

STEM_MOST: Final = 240
"""Bytes of a result's name without number and ending: file systems allow 255 for all of it."""

PARTIAL: Final = (".part", ".crdownload", ".download", ".partial", ".tmp", ".aria2")
"""What programs add to the name of a file while they write it."""

_FULL: Final = frozenset({"queue_full", "stopping", "no_space"})
"""Refusals that all jobs would get at present."""

_LATER: Final = _FULL | {"file_unusable", "file_changed"}
"""Refusals after which a pair is tried again, if its files are still there."""


class Look(NamedTuple):
    """A file as it was at a look."""

    size: int
    mtime_ns: int


@dataclass(slots=True)
class FolderWatch:
    """Watches `folder`; its results go to the folder `results` in it. `state` is the daemon's folder.

    `probe`: files that cannot be decoded are refused.
    """

    folder: Path
    state: Path
    outbox: Outbox
    probe: bool = True
    _before: dict[str, Look] = field(default_factory=dict)
    _started: dict[str, None] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)
    _away: bool = False
    _unnamed: set[str] = field(default_factory=set)
    _delayed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()  # the ids of jobs are the same for each way to write it

    async def run(self) -> None:
        """Look again and again, until the task is cancelled."""
        await self.recall()
        logger.info("watching {}; the results go to {}", self.folder, self.folder / RESULTS)
        while True:
            await self.look()
            await asyncio.sleep(EVERY)

    async def recall(self) -> None:
        """Read which pairs were started before."""
        names = msgspec.json.Decoder(list[str]).decode
        self._started = dict.fromkeys(await asyncio.to_thread(read_state, self.state / FILE, names, []))

    async def look(self) -> None:
        """Read the folder, and start the pairs whose files have not changed since the look before."""
        try:
            looks = await asyncio.to_thread(_files_in, self.folder)
        except OSError as error:
            if not self._away:
                why = error.strerror or error
                logger.warning("--watch: {} cannot be read ({}); jobs start again when it is back", self.folder, why)
            self._away, self._before = True, {}
            return
        if self._away:
            logger.info("--watch: {} is back", self.folder)
        before, self._before, self._away = self._before, looks, False
        # Linux also allows names that are no text in UTF-8, which a job cannot have.
        unnamed = {name for name in looks if name.encode(errors="ignore").decode() != name}
        for name in sorted(unnamed - self._unnamed):
            logger.warning("--watch: {!a} has a name that is no UTF-8; rename it", name)
        self._unnamed = unnamed
        for video, audio in pairs_of(sorted(looks.keys() - unnamed), strict=True).jobs:
            if all(looks[name] == before.get(name) and looks[name].size for name in (video, audio)):
                files = [(path_key(str(self.folder / name)), *looks[name]) for name in (video, audio)]
                job = f"watch-{hashlib.sha256(orjson.dumps(files)).hexdigest()[:24]}"  # the same after a restart
                if job not in self._started and job not in self._refused and not await self._start(job, video, audio):
                    return

    async def _start(self, job: str, video: str, audio: str) -> bool:
        """Start a job; False if no other can be started at present."""
        try:
            if job not in self.outbox.state.jobs:
                await self._submit(job, self.folder / video, self.folder / audio)
        except OSError as error:  # one of the folder for the results hinders all jobs, and may be over soon
            self._say_delayed(job, video, audio, error)
            return error.errno == errno.ENAMETOOLONG
        except (ApiError, MediaUnusable) as error:
            code = error.code if isinstance(error, ApiError) else ""
            if code in _LATER:
                if code not in _FULL:
                    self._say_delayed(job, video, audio, error)
                return code not in _FULL
            logger.warning("--watch: {} and {} are no job: {}", video, audio, error)
            self._refused.add(job)
            return True
        self._started[job] = None
        await keep_state(self.state / FILE, orjson.dumps([*self._started][-KEPT:]))
        return True

    def _say_delayed(self, job: str, video: str, audio: str, error: Exception) -> None:
        """Log once why a pair does not start yet."""
        if job not in self._delayed:
            self._delayed.add(job)
            logger.warning("--watch: {} and {} do not start yet, and are tried again: {}", video, audio, error)

    async def _submit(self, job: str, video: Path, audio: Path) -> None:
        output = await asyncio.to_thread(_output, self.folder / RESULTS, video, audio, self.outbox.state.outputs)
        seconds = await both_probed(video, audio) if self.probe else (None, None)
        lengths = {f"{name}_s": length for name, length in zip(("video", "audio"), seconds, strict=True) if length}
        fields: dict[str, Any] = {"id": job, "video": str(video), "audio": str(audio), "output": str(output), **lengths}
        fields["if_exists"] = "number"
        await submitted(self.outbox, await asyncio.to_thread(requests.submitted_job, fields))
        logger.info("--watch: {} and {} are job {}", video.name, audio.name, job)


def _files_in(folder: Path) -> dict[str, Look]:
    """The complete files in a folder by name: without hidden ones, and without those that a program is writing."""
    looks: dict[str, Look] = {}
    with os.scandir(folder) as entries:
        names = {entry.name: entry for entry in entries}
    for name, entry in names.items():
        partial = name.startswith(("~", ".")) or any(f"{name}{ending}" in names for ending in PARTIAL)
        try:
            if not partial and entry.is_file():
                status = Path(entry.path).stat()
                looks[name] = Look(status.st_size, status.st_mtime_ns)
        except OSError:  # it was removed meanwhile
            continue
    return looks


def _output(folder: Path, video: Path, audio: Path, taken: Collection[str]) -> Path:
    """A free path for a result, named after the video, and after the audio file if that has another name."""
    folder.mkdir(exist_ok=True)
    stem = video.stem if video.stem.lower() == audio.stem.lower() else f"{video.stem} - {audio.stem}"
    stem = stem.encode()[:STEM_MOST].decode(errors="ignore")
    return next_free(folder / f"{stem}.mp4", taken)
